"""Confidence intervals of means by the percentile bootstrap over persons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
MIN_PERSONS = 6  # with fewer, percentile intervals are much too narrow to mean anything
CHUNK = 256  # resamples at once, to bound the memory


def resampled_means(values: np.ndarray, persons: Sequence[str], *, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of a measure over persons drawn with replacement.

    Pairs of one person are drawn together, for they aren't independent: a person who is hard to dress is so in every
    garment. The draws depend on the number of persons only, never on a global generator.

    Args:
        values (`np.ndarray`): float, (N, measures), one row for each pair.
        persons (`Sequence[str]`): Name of each pair's person, N.
        resamples (`int`, *optional*, defaults to 10000): Number of resamples.

    Returns:
        `np.ndarray`: float64, (resamples, measures).
    """
    values = np.asarray(values, np.float64)
    names, codes = np.unique(np.asarray(persons, str), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, codes, values)
    counts = np.bincount(codes, minlength=len(names)).astype(np.float64)
    generator = np.random.default_rng(0)
    share = np.full(len(names), 1 / len(names))
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, CHUNK):
        drawn = generator.multinomial(len(names), share, size=min(CHUNK, resamples - start)).astype(np.float64)
        means[start : start + len(drawn)] = (drawn @ sums) / (drawn @ counts)[:, None]
    return means


def intervals(means: np.ndarray) -> list[tuple[float, float]]:
    """The middle 95 % of resampled means, (resamples, measures), for each measure."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def has_enough_persons(persons: Sequence[str]) -> bool:
    """Whether there are enough different persons to resample."""
    return len(set(persons)) >= MIN_PERSONS
