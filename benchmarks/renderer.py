"""The renderer's speed, and what it promises about its samples, measured over many of them.

```bash
OMP_NUM_THREADS=1 python benchmarks/renderer.py --samples 5000
OMP_NUM_THREADS=1 python benchmarks/renderer.py --samples 0 --pairs 200      # the speed alone
OMP_NUM_THREADS=1 python benchmarks/renderer.py --samples 1000 --styles photo
```

The samples are `render_pair(seed, 0 .. samples - 1)`, by turns in each of the styles. The last line
says whether all of it holds; the exit status is 1 where it doesn't.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from stableviton_sdk.data.synthetic import SyntheticSample, one_thread, render_pair
from stableviton_sdk.preprocessing.masks.agnostic import agnostic_mask

DRAWN, PHOTO = ("studio", "shifted"), "photo"
PAIRS_PER_SECOND = {"drawn": 25.0, "photo": 20.0}  # of one core
LARGEST = {"long": 2.5, "none": 4.0}  # the mask, in areas of the worn garment; of drawn figures
TEXTURED = {"drawn": 0.6, "photo": 0.5}


def bar_of(bars: dict[str, float], styles: Sequence[str]) -> float:
    """The bar of what is measured over some styles."""
    return bars["photo" if PHOTO in styles else "drawn"]


def pairs_per_second(pairs: int, seed: int, styles: Sequence[str]) -> tuple[float, float]:
    """Samples a second of this process's own CPU time, and of the clock on the wall, at 256 x 192."""
    for index in range(4):
        render_pair(seed, index, styles[index % len(styles)])
    cpu, wall = time.process_time(), time.perf_counter()
    for index in range(pairs):
        render_pair(seed, index, styles[index % len(styles)])
    return pairs / (time.process_time() - cpu), pairs / (time.perf_counter() - wall)


def leaks(sample: SyntheticSample) -> list[str]:
    """Everything of either garment that the agnostic image would show of one sample."""
    found = []
    if (sample.worn_mask & ~sample.mask).any() or (sample.worn_mask_other & ~sample.mask).any():
        found.append("a worn pixel lies outside of the mask")
    differs = (sample.person != sample.person_in_other).any(axis=-1)
    if (differs & ~sample.mask).any():
        found.append("a pixel outside of the mask depends on the garment")
    # the photo style's mask is made of the body alone
    drawn = sample.body.style.name in DRAWN
    if drawn and not np.array_equal(sample.mask, agnostic_mask(sample.other_rendering.parsing, sample.keypoints)):
        found.append("the mask depends on the garment")
    return found


def examine(samples: int, seed: int, styles: Sequence[str]) -> bool:
    """Print leaks, sizes of masks and the share of textured garments; True if all of it is within its bar."""
    ratios: dict[str, list[float]] = {}
    bad, textured, whole = [], 0, True
    for index in range(samples):
        style = styles[index % len(styles)]
        sample = render_pair(seed, index, style)
        bad += [(index, style, leak) for leak in leaks(sample)]
        area = int(sample.mask.sum())
        for garment, rendering in ((sample.worn, sample.worn_rendering), (sample.other, sample.other_rendering)):
            ratios.setdefault(garment.cut.sleeve, []).append(area / max(int(rendering.worn_mask.sum()), 1))
            textured += garment.design.textured
        if sys.stderr.isatty():
            print(f"\r{index + 1} of {samples}", end="", file=sys.stderr)
    print(
        f"samples {samples} (seed {seed}, {', '.join(styles)}), images that leak {len({index for index, *_ in bad})}"
    )
    for index, style, leak in bad[:20]:
        print(f"  render_pair({seed}, {index}, {style!r}): {leak}")
    for sleeve, values in sorted(ratios.items()):
        bar = None if PHOTO in styles else LARGEST.get(sleeve)
        middle, most, nearly = np.percentile(values, (50, 99, 99.9))
        print(
            f"mask / worn garment, sleeve {sleeve:5s} ({len(values)}): median {middle:.2f}, 99 % {most:.2f}, "
            f"99.9 % {nearly:.2f}, largest {max(values):.2f}" + (f" (bar {bar})" if bar else "")
        )
        whole &= bar is None or max(values) <= bar
    share = textured / (2 * samples)
    print(f"textured garments {100 * share:.1f} % (bar {100 * bar_of(TEXTURED, styles):.0f} %)")
    return whole and not bad and share >= bar_of(TEXTURED, styles)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000, help="samples to examine (default 5000; 0 for none)")
    parser.add_argument("--pairs", type=int, default=120, help="samples to time (default 120; 0 for none)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    parser.add_argument("--styles", nargs="+", choices=(*DRAWN, PHOTO), default=DRAWN, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.samples < 0 or options.pairs < 0:
        parser.error("--samples and --pairs must not be negative")
    one_thread()
    good = True
    if options.pairs:
        cpu, wall = pairs_per_second(options.pairs, options.seed, options.styles)
        bar = bar_of(PAIRS_PER_SECOND, options.styles)
        print(f"pairs a second on one core: {cpu:.1f} of CPU time, {wall:.1f} by the clock (bar {bar})")
        good &= cpu >= bar
    if options.samples:
        good &= examine(options.samples, options.seed, options.styles)
    print("all within their bars" if good else "NOT all within their bars")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
