"""Peak memory and time of a call in every mode that saves memory, at full size with random weights, and of loading.

Each mode runs in a process of its own, on the CPU; its image is compared with the plain float32 run's. Modes that need
a GPU are named as not run where there is none.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.dtypes import resolve_dtype

from .full_size import call_images, full_size_pipeline, write_report

PLAIN = "float32"
NEEDS_GPU = ("model offload", "sequential offload")


def group_offload(pipeline: TryOnPipeline) -> None:
    pipeline.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


def layerwise_casting(pipeline: TryOnPipeline) -> None:
    for network in (pipeline.unet, pipeline.spatial_encoder):
        network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)


def int8_weights(pipeline: TryOnPipeline) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    for network in (pipeline.unet, pipeline.spatial_encoder):
        quantize_(network, Int8WeightOnlyConfig())


# number type, what is turned on, arguments of the call
MODES: dict[str, tuple[str, Callable[[TryOnPipeline], Any] | None, dict[str, Any]]] = {
    PLAIN: ("fp32", None, {}),
    "bfloat16": ("bf16", None, {}),
    "bfloat16, optimize": ("bf16", lambda pipeline: pipeline.optimize(), {}),
    "bfloat16, attention slicing": ("bf16", lambda pipeline: pipeline.enable_attention_slicing("max"), {}),
    "bfloat16, VAE tiling": ("bf16", lambda pipeline: pipeline.enable_vae_tiling(), {}),
    "bfloat16, fp8 weights (layerwise casting)": ("bf16", layerwise_casting, {}),
    "bfloat16, group offload by leaves": ("bf16", group_offload, {}),
    "float32, int8 weights (torchao)": ("fp32", int8_weights, {}),
    "bfloat16, 4 images at once": ("bf16", None, {"num_images_per_prompt": 4}),
    "bfloat16, 4 images, VAE slicing": (
        "bf16",
        lambda pipeline: pipeline.enable_vae_slicing(),
        {"num_images_per_prompt": 4},
    ),
    "bfloat16, 4 images one by one": ("bf16", None, {"num_images_per_prompt": 4, "batch_size": 1}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument(
        "--loading", action="store_true", help="measure loading too: writes 5.6 GB to a temporary folder"
    )
    parser.add_argument("--output", default="benchmarks/results/memory.json")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--image", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode:
        print(json.dumps(run_mode(arguments.mode, arguments.steps, arguments.image)))
        return
    if arguments.load:
        print(json.dumps(load(*arguments.load)))
        return
    rows, loading = [], []
    with tempfile.TemporaryDirectory() as folder:
        plain = None
        for number, mode in enumerate(arguments.modes):
            image = Path(folder, f"{number}.npy")
            row = in_a_process("--mode", mode, "--steps", str(arguments.steps), "--image", str(image))
            if image.exists():
                values = np.load(image)
                plain = values if mode == PLAIN else plain
                if plain is not None:
                    row["psnr_to_float32"] = difference(values[:1], plain)
            rows.append({"mode": mode, **row})
            print(rows[-1], flush=True)
        rows += [{"mode": mode, "not_run": "needs a GPU"} for mode in NEEDS_GPU if not torch.cuda.is_available()]
        if arguments.loading:
            full_size_pipeline(torch.float32).save_pretrained(Path(folder, "pipeline"))
            for dtype in ("fp32", "bf16"):
                loading.append({"into": dtype, **in_a_process("--load", str(Path(folder, "pipeline")), dtype)})
                print(loading[-1], flush=True)
    write_report(arguments.output, {"steps": arguments.steps, "modes": rows, "loading": loading})


def in_a_process(*options: str) -> dict[str, Any]:
    """What another process of this benchmark prints."""
    command = [sys.executable, "-m", "benchmarks.memory", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        return {"failed": result.stderr.strip().splitlines()[-1]}
    return json.loads(result.stdout.splitlines()[-1])


def peak_memory() -> float:
    """Largest resident size of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def run_mode(mode: str, steps: int, image: str) -> dict[str, Any]:
    """Peak memory and seconds of one call."""
    dtype, switch_on, options = MODES[mode]
    pipeline = full_size_pipeline(resolve_dtype(dtype))
    if switch_on is not None:
        switch_on(pipeline)
    weights, began = peak_memory(), time.perf_counter()
    generators = [torch.Generator().manual_seed(seed) for seed in range(options.get("num_images_per_prompt", 1))]
    images = pipeline(
        **call_images(),
        num_inference_steps=steps,
        generator=generators,
        output_type="np",
        paste_back=False,
        **options,
    ).images
    np.save(image, images)
    return {"peak_gb": peak_memory(), "before_the_call_gb": weights, "seconds": time.perf_counter() - began}


def load(folder: str, dtype: str) -> dict[str, Any]:
    """Peak memory and seconds of loading, beside what the weights take."""
    before, began = peak_memory(), time.perf_counter()
    with AnonymousPeak() as anonymous:
        pipeline = TryOnPipeline.from_pretrained(folder, dtype=resolve_dtype(dtype))
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for network in networks for tensor in network.state_dict().values()]
    sizes = [tensor.numel() * tensor.element_size() / 1e9 for tensor in tensors]
    return {
        "peak_gb": anonymous.peak_gb,
        "with_mapped_files_gb": peak_memory() - before,
        "weights_gb": sum(sizes),
        "largest_tensor_gb": max(sizes),
        "seconds": time.perf_counter() - began,
    }


class AnonymousPeak:
    """Largest memory of this process beside mapped files, which can be dropped; watched while it is entered."""

    def __enter__(self) -> AnonymousPeak:
        self._before = self._now()
        self.peak_gb = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.01):
            self.peak_gb = max(self.peak_gb, self._now() - self._before)

    @staticmethod
    def _now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e9


def difference(images: np.ndarray, others: np.ndarray) -> float:
    """PSNR of images of values in [0, 1], in dB; 99 for equal ones."""
    error = float(np.square(images - others).mean())
    return 99.0 if error == 0 else min(99.0, -10 * float(np.log10(error)))


if __name__ == "__main__":
    main()
