"""A pipeline of the released sizes with random weights, the authors' recipe made of its parts, and the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler
from PIL import Image, ImageDraw

from stableviton_sdk.conversion.architecture import SCHEDULER
from stableviton_sdk.files import write_text_atomically
from stableviton_sdk.models.garment_encoder import GarmentEncoder
from stableviton_sdk.models.spatial_encoder import SpatialEncoder
from stableviton_sdk.models.unet import TryOnUNet
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline

SIZE = (384, 512)  # width and height
NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "unet": TryOnUNet,
    "spatial_encoder": SpatialEncoder,
    "garment_encoder": GarmentEncoder,
    "vae": lambda: AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    ),
}
AUTHORS_CALLS = 51  # of the network: 50 PLMS steps, the first of them with two


def random_network(network: torch.nn.Module, dtype: torch.dtype, seed: int = 0) -> torch.nn.Module:
    """A network built on the meta device, with random weights that keep activations in range."""
    network = network.to(dtype).to_empty(device="cpu").eval()
    pool = torch.randn(2**22, generator=torch.Generator().manual_seed(seed)).to(dtype)
    offset = 0
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        tensor = tensor.data
        if not tensor.is_floating_point():
            tensor.copy_(torch.arange(tensor.numel()).view_as(tensor))
        elif tensor.ndim > 1:
            flat, scale = tensor.view(-1), tensor[0].numel() ** -0.5
            for part in flat.split(pool.numel()):
                shifted = pool.roll(offset)[: part.numel()] if offset else pool[: part.numel()]
                part.copy_(shifted).mul_(scale)
                offset = (offset + 7919) % pool.numel()
        else:
            tensor.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return network


def full_size_network(name: str, dtype: torch.dtype) -> torch.nn.Module:
    """`unet`, `spatial_encoder`, `garment_encoder` or `vae`, as released, with random weights."""
    with torch.device("meta"):
        network = NETWORKS[name]()
    return random_network(network, dtype)


def full_size_pipeline(dtype: torch.dtype) -> TryOnPipeline:
    """The released sizes, with random weights; without a preprocessor."""
    networks = {name: full_size_network(name, dtype) for name in NETWORKS}
    pipeline = TryOnPipeline(**networks, scheduler=PNDMScheduler(**SCHEDULER))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call_images(size: tuple[int, int] = SIZE) -> dict[str, Image.Image]:
    """Smooth random images of a size, for a call's person, garment and maps."""
    generator = torch.Generator().manual_seed(0)

    def smooth() -> Image.Image:
        values = torch.randint(0, 256, (8, 6, 3), generator=generator, dtype=torch.uint8)
        return Image.fromarray(values.numpy()).resize(size, Image.Resampling.BICUBIC)

    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4), fill=255)
    return {"person": smooth(), "garment": smooth(), "densepose": smooth(), "mask": mask}


def interleaved(
    works: dict[str, Callable[[], Any]], rounds: int, report: Callable[[str], None] = print
) -> dict[str, list[float]]:
    """Seconds of each piece of work, one after another, as many times as there are rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
        told = ", ".join(f"{name} {values[-1]:.2f}" for name, values in seconds.items())
        report(f"round {number + 1}: {told}")
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The median of each piece of work."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """Where, when and by which command something was measured."""
    import diffusers

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    flags = sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True and "bf16" in name)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16_instructions": flags,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m", _module_name(), *sys.argv[1:]]),
    }


def _module_name() -> str:
    path = Path(sys.argv[0])
    return f"benchmarks.{path.stem}" if path.parent.name == "benchmarks" else path.stem


def write_report(path: str, content: dict[str, Any]) -> None:
    """Write a report as JSON, with the machine it is of."""
    write_text_atomically(Path(path), json.dumps({"machine": machine(), **content}, indent=2) + "\n")
    print(path)
