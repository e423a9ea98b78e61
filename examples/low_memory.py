"""The ways to run with little memory, one after the other: what each does to peak memory and to the image.

    python examples/low_memory.py person.jpg garment.jpg

On a GPU, peaks are the GPU's; on a CPU, where offloading has nothing to move to, only what works there is run. All
ways give the same image up to rounding.
"""

import argparse

import numpy as np
import torch

from stableviton_sdk import TryOnPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("person", help="photo of a person")
    parser.add_argument("garment", help="image of a garment")
    parser.add_argument("--model", help="folder or Hub repository; by default the model in the package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    def load() -> TryOnPipeline:
        if arguments.model is None:
            return TryOnPipeline.from_bundled()
        return TryOnPipeline.from_pretrained(arguments.model, dtype="auto")

    plain = None
    for name, enable in ways(device).items():
        pipe = load()
        pipe.set_progress_bar_config(disable=True)
        enable(pipe)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        generator = torch.Generator().manual_seed(arguments.seed)
        image = np.asarray(pipe(arguments.person, arguments.garment, generator=generator).images[0]).astype(int)
        plain = image if plain is None else plain
        peak = f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB, " if device.type == "cuda" else ""
        print(f"{name}: {peak}at most {np.abs(image - plain).max()} of 255 from the plain image")


def ways(device: torch.device) -> dict:
    """What to do with a pipeline that was loaded on the CPU, by name."""
    found = {
        "plain": lambda pipe: pipe.to(device),
        "attention slicing": lambda pipe: pipe.to(device).enable_attention_slicing(),
        "VAE slicing": lambda pipe: pipe.to(device).enable_vae_slicing(),
        "group offload": lambda pipe: pipe.enable_group_offload(device, offload_type="leaf_level"),
    }
    if device.type != "cpu":
        found |= {
            "model offload": lambda pipe: pipe.enable_model_cpu_offload(device=device),
            "sequential offload": lambda pipe: pipe.enable_sequential_cpu_offload(device=device),
        }
    return found


if __name__ == "__main__":
    main()
