"""Peak memory of a try-on with and without capturing attention, each in a process of its own.

    python benchmarks/attention_capture.py --small                      # an eighth of the channels
    python benchmarks/attention_capture.py --dtype fp16 --device cuda   # the released sizes, 512 x 384
    python benchmarks/attention_capture.py --no-warm-up --steps 1       # on a CPU: 5 GB, some minutes

U-Net and spatial encoder have random weights; VAE and garment encoder, which don't attend to the garment, are tiny
here, so that capturing weighs more than it really does. On a CPU the peak is of anonymous memory (RssAnon), read every
5 ms during the call; on a GPU it is what torch allocated. Every mode runs in a process of its own: one step to warm
up, then the call that is measured.
"""

import argparse
import json
import subprocess
import sys
import threading
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler
from PIL import Image

from stableviton_sdk import GarmentEncoder, SpatialEncoder, TryOnPipeline, TryOnUNet
from stableviton_sdk.attention.recorder import AttentionRequest
from stableviton_sdk.conversion.architecture import SCHEDULER

MODES = ("off", "coordinates", "coordinates and 32 full maps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="an eighth of the channels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--guidance-scale", type=float, default=1.0)
    parser.add_argument("--no-warm-up", action="store_true", help="half the time; first-call buffers count then")
    parser.add_argument(
        "--modes", nargs="+", type=int, default=[0, 1, 2], help="0 off, 1 coordinates, 2 full maps too"
    )
    parser.add_argument("--mode", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode is not None:
        print(json.dumps(measure(arguments)))
        return
    peaks = {}
    for mode in arguments.modes:
        command = [sys.executable, __file__, *sys.argv[1:], "--mode", str(mode)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[mode] = json.loads(run.stdout.splitlines()[-1])
        growth = ""
        if 0 in peaks and mode:
            growth = f", {peaks[mode]['peak'] / peaks[0]['peak'] - 1:+.1%}"
        found = peaks[mode]
        print(
            f"{MODES[mode]:30} peak {found['peak'] / 2**20:8.1f} MiB ({found['before'] / 2**20:.1f} before the call), "
            f"kept {found['kept'] / 2**20:.2f} MiB{growth}",
            flush=True,
        )


def measure(arguments: argparse.Namespace) -> dict[str, int]:
    """Peak bytes of one call, those in use before it, and what its attention keeps."""
    size = (arguments.height * 3 // 4, arguments.height)
    pipe = build(arguments)
    person, garment, densepose = (Image.effect_noise(size, 60).convert("RGB") for _ in range(3))
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4))
    pixels = [(size[0] // 4 + 5 * index, size[1] // 2) for index in range(32)]
    asked = [False, True, AttentionRequest(queries=pixels, query_block=pipe.unet.num_zero_cross_attentions - 1)]

    def call(steps: int) -> TryOnPipeline:
        return pipe(
            person,
            garment,
            mask=mask,
            densepose=densepose,
            height=size[1],
            width=size[0],
            num_inference_steps=steps,
            guidance_scale=arguments.guidance_scale,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",  # the VAE's decoder would hide the U-Net's peak behind its own
            output_attention=asked[arguments.mode],
        )

    if not arguments.no_warm_up:
        call(1)
    if arguments.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        output = call(arguments.steps)
        peak = torch.cuda.max_memory_allocated()
    else:
        output, before, peak = watched(lambda: call(arguments.steps))
    kept = 0
    if output.attention is not None:
        notes = [note for records in output.attention.records.values() for note in records.values()]
        kept = sum(array.nbytes for array in (*notes, *output.attention.maps.values()))
    return {"before": before, "peak": peak, "kept": kept}


def watched(work):
    """Run something; its result, this process's anonymous memory before, and its peak meanwhile."""
    before, finished, peak = anonymous(), threading.Event(), [0]

    def watch() -> None:
        while not finished.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = work()
    finally:
        finished.set()
        watcher.join()
    return result, before, max(peak[0], before)


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def build(arguments: argparse.Namespace) -> TryOnPipeline:
    """A pipeline of random weights, made in the dtype asked for."""
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[arguments.dtype]
    latent = (arguments.height // 8, arguments.height * 3 // 32)
    unet, spatial = {"sample_size": latent}, {}
    if arguments.small:
        channels = (40, 80, 160, 160)
        unet |= {"block_out_channels": channels, "norm_num_groups": 8}
        spatial |= {"block_out_channels": channels[:3], "norm_num_groups": 8}
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(arguments.device):
            networks = {
                "unet": TryOnUNet(**unet),
                "spatial_encoder": SpatialEncoder(**spatial),
                "garment_encoder": GarmentEncoder(64, 128, 2, 4, mapper_layers=1),
                "vae": AutoencoderKL(
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    block_out_channels=(32,) * 4,
                ),
            }
    finally:
        torch.set_default_dtype(default)
    for network in networks.values():
        network.eval().requires_grad_(False)
    pipe = TryOnPipeline(**networks, scheduler=PNDMScheduler(**SCHEDULER))
    pipe.set_progress_bar_config(disable=True)
    return pipe


if __name__ == "__main__":
    main()
