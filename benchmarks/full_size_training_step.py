"""Peak memory and seconds of a training step at the released model's size, with random weights and random images.

```bash
OMP_NUM_THREADS=2 python benchmarks/full_size_training_step.py --limit-gb 24
```

It is the trainer itself that runs, as configured by the authors' first stage (bf16 autocast, gradient checkpointing,
averaged weights, batch 1 at 512 x 384), and that is interrupted when it asks for the pair after the last step: nothing
of the model is written. Reads Linux's /proc/self/status.

Processors without bf16 instructions multiply bf16 matrices fifty times slower than float32 ones. With --emulate-bf16,
products are therefore taken in float32 and rounded to bf16, which is what bf16 instructions give: every tensor that is
kept is the same size; added are a float32 copy of one product's operands and its result at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stableviton_sdk.training.config import parse_config
from stableviton_sdk.training.loop.run_log import read_metrics
from stableviton_sdk.training.tryon.initialise import from_scratch
from stableviton_sdk.training.tryon.memory import estimate_memory
from stableviton_sdk.training.tryon.trainable import choose_trainable
from stableviton_sdk.training.tryon.trainer import train

LEVELS = (1, 2, 4, 4)  # widths of the U-Net in its first one's, which is 320 in the released model
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "sample_size": 512,
}

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, aten.convolution_backward)


class EmulatedBf16(TorchDispatchMode):
    """Takes bf16's products in float32 and rounds them, in the forward and in the backward pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket not in PRODUCTS or not any(is_bf16(value) for value in args):
            return func(*args, **kwargs)
        result = func(*(value.float() if is_bf16(value) else value for value in args), **kwargs)
        if isinstance(result, tuple):
            return tuple(value if value is None else value.bfloat16() for value in result)
        return result.bfloat16()


def is_bf16(value: Any) -> bool:
    """Whether it's a tensor in bf16."""
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16


class EnoughSteps(BaseException):
    """Ends the training after the last step that is measured."""


class RandomPairs:
    """Images of noise; keeps the moments when they are read."""

    def __init__(self, size: tuple[int, int], steps: int):
        self.shape, self.last = size[::-1], steps + 1  # the first is read to be checked
        self.read_at: list[float] = []

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read_at.append(time.perf_counter())
        if len(self.read_at) > self.last:
            raise EnoughSteps
        rng = np.random.default_rng(index)
        height, width = self.shape
        item: dict[str, Any] = {
            name: rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            for name in ("person", "garment", "agnostic", "densepose")
        }
        item["mask"] = np.zeros(self.shape, bool)
        item["mask"][height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
        return item


def status(name: str) -> float:
    """A line of /proc/self/status, in GB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":")]
    return int(line.split()[1]) * 1024 / 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1, help="steps to take (default 1)")
    parser.add_argument("--size", type=int, nargs=2, default=(384, 512), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--channels", type=int, default=320, help="width of the U-Net's first level (default 320)")
    parser.add_argument("--stage", choices=("base", "atv"), default="base")
    parser.add_argument("--precision", choices=("bf16", "no"), default="bf16", help="of the autocast (default bf16)")
    parser.add_argument("--emulate-bf16", action="store_true", help="for processors without bf16 instructions")
    parser.add_argument("--frozen-bf16", action="store_true", help="keep what isn't trained in bf16, not in float32")
    parser.add_argument("--limit-gb", type=float, help="fail, instead of swapping, beyond so much memory of its own")
    options = parser.parse_args(arguments)
    if options.limit_gb:
        resource.setrlimit(resource.RLIMIT_DATA, (int(options.limit_gb * 1e9), resource.RLIM_INFINITY))

    size = tuple(options.size)
    widths = tuple(options.channels * level for level in LEVELS)
    sample_size = tuple(side // 8 for side in reversed(size))
    architecture = {"unet": {"block_out_channels": widths, "sample_size": sample_size}, "vae": VAE}
    pipeline = from_scratch(architecture)
    networks = (pipeline.unet, pipeline.spatial_encoder, pipeline.garment_encoder)
    trained = list(choose_trainable(*networks).values())
    if options.frozen_bf16:
        for network in networks:
            for parameter in network.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.bfloat16()
    total = sum(parameter.numel() for network in (*networks, pipeline.vae) for parameter in network.parameters())
    print(f"parameters  {total / 1e6:.0f} M, trained {sum(parameter.numel() for parameter in trained) / 1e6:.0f} M")
    print(f"networks    {status('VmRSS'):.2f} GB resident", flush=True)

    with tempfile.TemporaryDirectory() as output:
        config = parse_config(
            {
                "output": output,
                "stage": options.stage,
                "data": {"size": list(size)},
                "steps": options.steps + 1,
                "batch_size": 1,
                "mixed_precision": options.precision,
                "gradient_checkpointing": True,
                "workers": 0,
                "checkpoint_every": 10**9,
                "log_every": 1,
                "cpu": not torch.cuda.is_available(),
            }
        )
        print(estimate_memory(pipeline, trained, config).summary(), flush=True)
        data = RandomPairs(size, options.steps)
        try:
            with EmulatedBf16() if options.emulate_bf16 else contextlib.nullcontext():
                train(config, data=data, pipeline=pipeline, progress=False)
        except EnoughSteps:
            lines = read_metrics(Path(output) / "metrics.jsonl")
    seconds = np.diff(data.read_at)[1:]
    for line, took in zip(lines, seconds, strict=True):
        print(
            f"step {line['step']:2d}     {took:.1f} s, loss {line['loss']:.4f}, gradient {line['gradient_norm']:.3g}"
        )
    print(f"peak        {status('VmHWM'):.2f} GB resident, {torch.get_num_threads()} threads")
    return 0 if all(line["loss"] is not None and math.isfinite(line["loss"]) for line in lines) else 1


if __name__ == "__main__":
    raise SystemExit(main())
