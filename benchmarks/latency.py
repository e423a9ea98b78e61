"""Seconds of an image by recipe, at full size with random weights, beside the authors' recipe in the same run.

For each number type of ours the authors' recipe runs beside it: steps, steps from the cache, the fixed parts and a
matrix product are timed one after another, round by round, so that whatever else the machine does slows all of them.
A recipe's seconds are composed of the medians: full steps, cached ones, what is encoded and decoded.

The authors' recipe is made of this package's own parts in the authors' order: float32, diffusers' own layers, weights
in the order they are stored in, fused attention, and the garment's image encoded anew at every step. What else the
authors' code does twice is left out, so it is faster than theirs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stableviton_sdk.choices import QUALITIES
from stableviton_sdk.dtypes import DTYPES, fastest_dtype
from stableviton_sdk.models.packing import pack_convolutions
from stableviton_sdk.models.spatial_encoder import SpatialEncoder
from stableviton_sdk.models.step_cache import StepCache
from stableviton_sdk.models.unet import TryOnUNet
from stableviton_sdk.pipelines.components import DEFAULT_PRESETS

from .charts import bar_chart
from .full_size import AUTHORS_CALLS, SIZE, full_size_network, interleaved, machine, medians, write_report

AUTHORS = "authors' recipe"
PRODUCT = 4096  # side of the matrices whose product is the machine's peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=SIZE[0])
    parser.add_argument("--height", type=int, default=SIZE[1])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=None, help="default: fp32, and bf16 where fast")
    parser.add_argument("--output", default="benchmarks/results/latency.json")
    parser.add_argument("--chart", default="benchmarks/results/latency.png")
    arguments = parser.parse_args()
    fast = [name for name, dtype in DTYPES.items() if dtype == fastest_dtype("cpu") and name != "fp32"]
    names = arguments.dtypes or ["fp32", *fast]
    seconds, recipes, share, peaks = {}, {}, {}, {}
    flops, size = count_operations(arguments.width, arguments.height), (arguments.width, arguments.height)
    authors = authors_works(*size)
    for name in names:
        with torch.no_grad():
            seconds[name] = measure({**authors, **our_works(name, *size)}, name, arguments.rounds)
        middle = medians(seconds[name])
        recipes |= compose(middle, name)
        peaks[name] = 2 * PRODUCT**3 / middle["product"] / 1e9
        share[name] = flops / middle[f"{name} step"] / (peaks[name] * 1e9)
    for recipe, entry in recipes.items():
        rates = f"{entry['times_faster']:6.2f} x   {entry['images_an_hour']:6.1f} an hour"
        print(f"{recipe:24} {entry['seconds']:8.1f} s   {rates}")
    for name, value in share.items():
        print(f"{name}: {value:.0%} of the matrix product's peak, {peaks[name]:.0f} GFLOP/s")
    bar_chart(
        arguments.chart,
        f"Times as fast as the authors' recipe beside it, {arguments.width} x {arguments.height}, "
        f"{machine()['processor']}, {torch.get_num_threads()} threads",
        {recipe: entry["times_faster"] for recipe, entry in recipes.items()},
    )
    write_report(
        arguments.output,
        {
            "size": [arguments.width, arguments.height],
            "operations_of_a_step": flops,
            "share_of_peak": share,
            "peak_gflops": peaks,
            "recipes": recipes,
            "seconds": seconds,
        },
    )


def measure(works: dict[str, Callable[[], Any]], dtype: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of the works and of a matrix product, round by round after a first one that doesn't count."""
    works = {**works, "product": matrix_product(DTYPES[dtype])}
    interleaved(works, 1, lambda line: print("warming up,", line, flush=True))
    return interleaved(works, rounds, lambda line: print(line, flush=True))


def matrix_product(dtype: torch.dtype) -> Callable[[], Any]:
    left, right = (torch.randn(PRODUCT, PRODUCT).to(dtype) for _ in range(2))
    return lambda: left @ right


def latent_inputs(dtype: torch.dtype, width: int, height: int) -> dict[str, torch.Tensor]:
    rows, columns = height // 8, width // 8
    shapes = {"sample": (1, 13, rows, columns), "token": (1, 1, 768), "garment": (1, 4, rows, columns)}
    shapes["pixels"] = (1, 3, height, width)
    return {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}


def authors_works(width: int, height: int) -> dict[str, Callable[[], Any]]:
    """The authors' step and its fixed parts, in float32."""
    given = latent_inputs(torch.float32, width, height)
    unet, spatial_encoder, vae, garment_encoder = (
        full_size_network(name, torch.float32) for name in ("unet", "spatial_encoder", "vae", "garment_encoder")
    )

    def step() -> Any:
        vae.encode(given["pixels"])
        features = spatial_encoder(given["sample"], 500, given["token"], given["garment"])
        return unet(given["sample"], 500, given["token"], features)

    return {
        "authors' step": step,
        "authors' encode": lambda: vae.encode(given["pixels"]),
        "authors' decode": lambda: vae.decode(given["garment"]),
        "authors' embed": lambda: garment_encoder(given["pixels"]),
    }


def our_works(name: str, width: int, height: int) -> dict[str, Callable[[], Any]]:
    """What `optimize` makes of a step, of steps from the cache, and of the fixed parts."""
    dtype = DTYPES[name]
    given = latent_inputs(dtype, width, height)
    unet, spatial_encoder, vae, garment_encoder = (
        full_size_network(part, dtype) for part in ("unet", "spatial_encoder", "vae", "garment_encoder")
    )
    for network in (unet, spatial_encoder, vae):
        network.to(memory_format=torch.channels_last)
    for network in (unet, spatial_encoder):
        pack_convolutions(network)
    depths = sorted({entry["step_cache"]["depth"] for entry in DEFAULT_PRESETS.values() if "step_cache" in entry})
    caches = {depth: StepCache(interval=2, depth=depth) for depth in depths}

    def step(cache: StepCache | None = None) -> Any:
        features = spatial_encoder(given["sample"], 500, given["token"], given["garment"], lean=True)
        return unet(given["sample"], 500, given["token"], features, lean=True, step_cache=cache)

    def cached_step(cache: StepCache) -> Any:
        if cache.hidden_states is None:
            step(cache)
        return unet(given["sample"], 500, given["token"], None, lean=True, step_cache=cache)

    return {
        f"{name} step": step,
        **{f"{name} cached {depth}": (lambda cache=cache: cached_step(cache)) for depth, cache in caches.items()},
        f"{name} encode": lambda: vae.encode(given["pixels"]),
        f"{name} decode": lambda: vae.decode(given["garment"]),
        f"{name} embed": lambda: garment_encoder(given["pixels"]),
    }


def compose(middle: dict[str, float], name: str) -> dict[str, dict[str, Any]]:
    """Seconds of a first call by recipe: three images encoded, a token, the steps, one image decoded."""
    recipes: dict[str, dict[str, Any]] = {}

    def add(recipe: str, kind: str, steps: float, **more: Any) -> None:
        fixed = 3 * middle[f"{kind} encode"] + middle[f"{kind} embed"] + middle[f"{kind} decode"]
        recipes[recipe] = {"seconds": steps + fixed, "steps": steps, "fixed": fixed, **more}

    authors = f"{AUTHORS}, beside {name}"
    add(authors, "authors'", AUTHORS_CALLS * middle["authors' step"], calls=AUTHORS_CALLS)
    for quality in QUALITIES:
        preset = DEFAULT_PRESETS[quality]
        calls = AUTHORS_CALLS if quality == "exact" else preset["num_inference_steps"]
        cache = preset.get("step_cache", {"interval": 1, "depth": None})
        full = -(-calls // cache["interval"])
        steps = full * middle[f"{name} step"]
        if full < calls:
            steps += (calls - full) * middle[f"{name} cached {cache['depth']}"]
        add(f"{quality}, {name}", name, steps, calls=calls, full_calls=full)
    for entry in recipes.values():
        entry["times_faster"] = recipes[authors]["seconds"] / entry["seconds"]
        entry["images_an_hour"] = 3600 / entry["seconds"]
    return recipes


def count_operations(width: int, height: int) -> float:
    """Operations of a step of diffusers' own layers, nothing left out: two for a multiplication and its addition."""
    with torch.device("meta"):
        unet, spatial_encoder = TryOnUNet(), SpatialEncoder()
        shapes = (1, 13, height // 8, width // 8), (1, 1, 768), (1, 4, height // 8, width // 8)
        sample, token, garment = (torch.empty(shape) for shape in shapes)
    with FlopCounterMode(display=False) as counter:
        unet(sample, 500, token, spatial_encoder(sample, 500, token, garment))
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
