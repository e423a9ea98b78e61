"""Scores of results in a folder, measured one by one in the order of the pairs' names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..choices import IMAGE_METRICS, METRICS, SET_METRICS
from ..data.image_files import composed, images_by_stem
from ..errors import InvalidInput, shortened
from ..images import load_image, load_mask
from . import metrics as measure
from .data import EvalPair, EvaluationData
from .metric_networks import MetricNetworks
from .metrics import PSNR_CAP


@dataclass
class Scores:
    """Scores of a data set's results.

    Args:
        images (`list[dict]`): One entry for each pair, in the order of names: `name`, `person`, `garment`, metrics.
        sets (`dict[str, float]`): Metrics of the whole set.
        unavailable (`dict[str, str]`): Reason why a metric wasn't measured, by its name.
        problems (`dict[str, str]`): Reason why a pair has no result to measure, by its name.
        images_sha256 (`str`): Hash of the photos and truths that results were compared with, at the data's size.
        unused (`int`): Number of images in the folder that belong to no pair.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    sets: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    images_sha256: str = ""
    unused: int = 0


class ResultsFolder:
    """A folder of results, by the names that try-on programs give them.

    Args:
        folder (`Path`):
            Images with any image ending, all called `PERSON_GARMENT`, or all called like the person; the latter
            only where every person has one pair. Hidden files and files with other endings are ignored.
        data (`EvaluationData`): The pairs.

    Raises:
        `InvalidInput`: if it's no folder, or two results of a pair differ in their ending only.
    """

    def __init__(self, folder: Path, data: EvaluationData):
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder of results {folder}: check the path.")
        self.folder = folder
        self._files = images_by_stem(folder)
        self._stems = [composed(name) for name in data.names]
        persons = [composed(person) for person, _ in data.pairs]
        if len(set(persons)) == len(persons) and self._count(persons) > self._count(self._stems):
            self._stems = persons
        several = [" and ".join(self._files[stem]) for stem in self._stems if len(self._files.get(stem, ())) > 1]
        if several:
            raise InvalidInput(f"results in {folder} have one name ({shortened(several, '; ')}): keep one of each.")

    def find(self, index: int) -> Path:
        """Path of a pair's result, or where it was expected."""
        stem = self._stems[index]
        return self.folder / self._files.get(stem, [f"{stem}.png"])[0]

    @property
    def unused(self) -> int:
        """Number of names of images that belong to no pair."""
        return len(set(self._files) - set(self._stems))

    def _count(self, stems: Sequence[str]) -> int:
        return sum(stem in self._files for stem in stems)


def score(
    data: EvaluationData,
    results: ResultsFolder,
    networks: MetricNetworks,
    *,
    metrics: Collection[str] = METRICS,
    masks: Callable[[str], Path] | None = None,
    known_problems: dict[str, str] | None = None,
    progress: bool = True,
) -> Scores:
    """Scores of every pair's result.

    Args:
        data (`EvaluationData`): The pairs.
        results (`ResultsFolder`): Their results, of exactly the data's size.
        networks (`MetricNetworks`): Networks of LPIPS, FID and KID.
        metrics (`Collection[str]`, *optional*): Names of the metrics to measure; all by default.
        masks (`Callable`, *optional*): Function from a pair's name to the path of its mask, for data without masks.
        known_problems (`dict[str, str]`, *optional*): Pairs that are known to have no result, with the reason.
        progress (`bool`, *optional*, defaults to `True`): Whether to show a progress bar.

    Returns:
        `Scores`
    """
    from tqdm import tqdm

    scores = Scores(problems=dict(known_problems or {}))
    wanted = [name for name in METRICS if name in metrics]
    scores.unavailable |= {name: networks.reasons[name] for name in wanted if name in networks.reasons}
    features: list[np.ndarray] = []
    reference: dict[str, np.ndarray] = {}
    digests: dict[str, bytes] = {}
    lacking: dict[str, list[str]] = {"truth": [], "mask": []}
    extract = networks.features if {"fid", "kid_x1000"} & set(wanted) else None
    for index in tqdm(
        sorted(range(len(data)), key=data.names.__getitem__), desc="measuring", unit="pair", disable=not progress
    ):
        name = data.names[index]
        if name in scores.problems:
            continue
        image = _read(results.find(index), data.size)
        if isinstance(image, str):
            scores.problems[name] = image
            continue
        pair = data[index]
        mask = pair.mask
        if mask is None and masks is not None and masks(name).is_file():
            mask = np.asarray(load_mask(masks(name))) >= 128
        if pair.truth is None:
            lacking["truth"].append(name)
        if mask is None or not mask.any():
            lacking["mask"].append(name)
            mask = None
        values = _measure(image, pair.truth, mask, networks, wanted)
        scores.images.append({"name": name, "person": pair.person_name, "garment": pair.garment_name, **values})
        digests[name] = _digest(pair)
        if extract is not None:
            features.append(extract(image))
            if pair.person_name not in reference:
                reference[pair.person_name] = extract(pair.person)
    scores.unused = results.unused
    scores.problems = dict(sorted(scores.problems.items()))
    scores.images_sha256 = hashlib.sha256(b"".join(digests[name] for name in sorted(digests))).hexdigest()
    _explain(scores, wanted, lacking)
    if extract is not None:
        rows = np.stack(features) if features else np.empty((0, 1), np.float32)
        others = np.stack([reference[name] for name in sorted(reference)]) if reference else rows
        for name in set(SET_METRICS) & set(wanted):
            try:
                if name == "fid":
                    scores.sets[name] = measure.frechet_distance(rows, others, extract.library)
                else:
                    scores.sets[name] = 1000 * measure.kernel_distance(rows, others)
            except InvalidInput as error:
                scores.unavailable[name] = str(error)
    return scores


def _read(path: Path, size: tuple[int, int]) -> np.ndarray | str:
    """Pixels of a result, or a sentence on why there are none."""
    if not path.is_file():
        return f"there is no result {path}."
    try:
        image = load_image(path, name=str(path), srgb=True)
    except InvalidInput as error:
        return str(error)
    if image.size != size:
        return f"{path} is {image.width} x {image.height}, not {size[0]} x {size[1]}."
    return np.asarray(image)


def _measure(
    image: np.ndarray,
    truth: np.ndarray | None,
    mask: np.ndarray | None,
    networks: MetricNetworks,
    wanted: Sequence[str],
) -> dict[str, float]:
    if truth is None:
        return {}
    values = {}
    if "ssim" in wanted or ("ssim_region" in wanted and mask is not None):
        similarity = measure.similarity_map(image, truth)
        if "ssim" in wanted:
            values["ssim"] = similarity.mean
        if "ssim_region" in wanted and mask is not None:
            values["ssim_region"] = similarity.over(mask)
    if "psnr" in wanted:
        values["psnr"] = min(measure.psnr(image, truth), PSNR_CAP)
    if "psnr_region" in wanted and mask is not None:
        values["psnr_region"] = min(measure.psnr(image, truth, mask), PSNR_CAP)
    if "lpips" in wanted and networks.distance is not None:
        values["lpips"] = networks.distance(image, truth)
    unsound = [name for name, value in values.items() if not math.isfinite(value)]
    if unsound:
        raise InvalidInput(f"{unsound[0]} of a result isn't a finite number: the metric's weights may be damaged.")
    return {name: values[name] for name in IMAGE_METRICS if name in values}


def _explain(scores: Scores, wanted: Sequence[str], lacking: dict[str, list[str]]) -> None:
    """Drop metrics that only some pairs have, and state the reason: their means would be of other pairs."""
    count = len(scores.images)
    reasons = {
        "truth": "the data holds no image of what {} should look like",
        "mask": "the data holds no mask of {}",
    }
    for part, names in lacking.items():
        if not names:
            continue
        whom = "the results" if len(names) == count else f"{len(names)} of {count} pairs (such as {names[0]})"
        for name in wanted:
            if name in IMAGE_METRICS and (part == "truth" or name.endswith("_region")):
                scores.unavailable[name] = reasons[part].format(whom) + "."
                for entry in scores.images:
                    entry.pop(name, None)


def _digest(pair: EvalPair) -> bytes:
    digest = hashlib.sha256(np.ascontiguousarray(pair.person))
    if pair.truth is not None:
        digest.update(np.ascontiguousarray(pair.truth))
    return digest.digest()
