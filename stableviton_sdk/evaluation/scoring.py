"""Measure images that lie in a folder against a data set, one by one, always in the order of the pairs' names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folder import IMAGE_ENDINGS
from ..errors import InvalidInput
from ..images import load_image, load_mask
from . import metrics as measure
from .data import EvalPair, EvaluationData
from .metric_networks import MetricNetworks
from .metrics import IMAGE_METRICS, METRICS, PSNR_CAP, SET_METRICS


@dataclass
class Scores:
    """What was measured.

    Args:
        images (`list[dict]`): By pair, in the order of names: `name`, `person`, `garment`, and its metrics.
        sets (`dict[str, float]`): Metrics of the whole set.
        unavailable (`dict[str, str]`): By metric, why it wasn't measured.
        problems (`dict[str, str]`): By pair, why it has no result to measure.
        images_sha256 (`str`): Over the photos and truths that were measured against, as they were measured.
        unused (`int`): Images in the folder that belong to no pair.
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
            only where every person has one pair.
        data (`EvaluationData`): The pairs.

    Raises:
        `InvalidInput`: if it's no folder, or two of its images differ in their ending only.
    """

    def __init__(self, folder: Path, data: EvaluationData):
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder of results {folder}: check the path.")
        self.folder = folder
        paths: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in IMAGE_ENDINGS and path.is_file() and not path.name.startswith("."):
                if path.stem in paths:
                    raise InvalidInput(f"{path} and {paths[path.stem].name} have one name: remove one of them.")
                paths[path.stem] = path
        persons = [person for person, _ in data.pairs]
        self._stems = data.names
        if len(set(persons)) == len(persons) and sum(map(paths.__contains__, persons)) > sum(
            map(paths.__contains__, data.names)
        ):
            self._stems = persons
        self._paths = paths

    def find(self, index: int) -> Path:
        """Where a pair's result is, or where it was expected."""
        stem = self._stems[index]
        return self._paths.get(stem, self.folder / f"{stem}.png")

    @property
    def unused(self) -> int:
        """How many images belong to no pair."""
        return len(set(self._paths) - set(self._stems))


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
    """Measure every pair's result, alone and in the order of the pairs' names.

    Args:
        data (`EvaluationData`): The pairs.
        results (`ResultsFolder`): Their results, of exactly the data's size.
        networks (`MetricNetworks`): For LPIPS, FID and KID.
        metrics (`Collection[str]`, *optional*): Which ones; all by default.
        masks (`Callable`, *optional*): Where the mask of a pair is stored if the data has none.
        known_problems (`dict[str, str]`, *optional*): Pairs that are known to have no result.
        progress (`bool`, *optional*, defaults to `True`): Show a bar.

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
        case = data[index]
        mask = case.mask
        if mask is None and masks is not None and masks(name).is_file():
            mask = np.asarray(load_mask(masks(name))) >= 128
        if case.truth is None:
            lacking["truth"].append(name)
        if mask is None or not mask.any():
            lacking["mask"].append(name)
            mask = None
        values = _measure(image, case.truth, mask, networks, wanted)
        scores.images.append({"name": name, "person": case.person_name, "garment": case.garment_name, **values})
        digests[name] = _digest(case)
        if extract is not None:
            features.append(extract(image))
            if case.person_name not in reference:
                reference[case.person_name] = extract(case.person)
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
    """A result, or one sentence on why there is none."""
    if not path.is_file():
        return f"there is no result {path}."
    try:
        image = load_image(path, name=str(path))
    except InvalidInput as error:
        return str(error)
    if image.size != size[::-1]:
        return f"{path} is {image.width} x {image.height}, not {size[1]} x {size[0]}."
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
    """A metric that only some pairs have is dropped, with the reason: its mean would be of other pairs."""
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


def _digest(case: EvalPair) -> bytes:
    digest = hashlib.sha256(np.ascontiguousarray(case.person))
    if case.truth is not None:
        digest.update(np.ascontiguousarray(case.truth))
    return digest.digest()
