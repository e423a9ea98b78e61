"""Pairs of a person and a garment to evaluate, from any kind of data set, all images at one size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..choices import DATA_KINDS, SETTINGS, DataKind, Setting, StyleName
from ..data.dress_code import DressCode
from ..data.folder import FolderDataset
from ..data.pair_dataset import PairDataset, check_root, check_size
from ..data.viton_hd import VitonHD
from ..errors import InvalidInput, shortened
from ..validation import check_choice
from .photo_pairs import PhotoPairs, pair_with_garments, read_photo_pairs

SYNTHETIC = "synthetic"
LIST_ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson")
SYNTHETIC_PAIRS = 64  # where no limit is given


@dataclass(frozen=True, eq=False)
class EvalPair:
    """One pair to evaluate. Images are uint8 RGB, (H, W, 3), masks bool, (H, W); parts that the data lacks are None.

    Args:
        name (`str`): Name of the pair, different from any other's; the result is stored under it.
        person_name (`str`), garment_name (`str`): Names of the images, without ending.
        person (`np.ndarray`): The photo.
        garment (`np.ndarray`, *optional*): Image of the garment to try on, of any size.
        truth (`np.ndarray`, *optional*): The true result.
        mask (`np.ndarray`, *optional*): Agnostic mask, True = repaint.
        agnostic (`np.ndarray`, *optional*), densepose (`np.ndarray`, *optional*): The network's other inputs.
    """

    name: str
    person_name: str
    garment_name: str
    person: np.ndarray
    garment: np.ndarray | None = None
    truth: np.ndarray | None = None
    mask: np.ndarray | None = None
    agnostic: np.ndarray | None = None
    densepose: np.ndarray | None = None


class EvaluationData:
    """Pairs to evaluate; subclasses load them.

    Args:
        pairs (`Sequence[tuple[str, str]]`): Names of each pair's person and garment.
        size (`tuple[int, int]`): Width and height in pixels of all images but the garments'.
        setting (`str`): `"paired"` (the garment that the person wears) or `"unpaired"`.
        kind (`str`): Kind of data set, one of `choices.DATA_KINDS`.
        details (`dict`, *optional*): Further description of the data, for the report.

    Raises:
        `InvalidInput`: if two pairs have one name.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        size: tuple[int, int],
        setting: Setting,
        kind: DataKind,
        details: dict[str, Any] | None = None,
    ):
        if setting not in SETTINGS:
            raise InvalidInput(f"setting is {setting!r}: pass 'paired' or 'unpaired'.")
        self.pairs: list[tuple[str, str]] = list(pairs)
        self.size: tuple[int, int] = check_size(size)
        self.setting = setting
        self.names: list[str] = [f"{person}_{garment}" for person, garment in self.pairs]
        seen: set[str] = set()
        for name in self.names:
            # file systems that don't tell upper from lower case would mix up results as well
            if name.lower() in seen:
                raise InvalidInput(
                    f"two pairs are called {name}, so their results can't be told apart: list each once."
                )
            seen.add(name.lower())
        self.kind = kind
        self.details: dict[str, Any] = details or {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> EvalPair:
        raise NotImplementedError

    @property
    def lacks_maps(self) -> bool:
        """Whether some masks or DensePose images have to be derived from the photos."""
        return False

    def describe(self) -> dict[str, Any]:
        """Description of the data for a report, the same on every machine."""
        width, height = self.size
        listing = "\n".join(sorted(self.names)).encode()
        return {
            "kind": self.kind,
            **self.details,
            "setting": self.setting,
            "width": width,
            "height": height,
            "pairs": len(self),
            "pairs_sha256": hashlib.sha256(listing).hexdigest(),
        }


class ImageData(EvaluationData):
    """Pairs of a data set of images.

    Args:
        images (`PairDataset` or `PhotoPairs`): The data set.
        setting (`str`), kind (`str`), details (`dict`, *optional*): See `EvaluationData`.
    """

    def __init__(
        self, images: PairDataset | PhotoPairs, setting: Setting, kind: DataKind, details: dict[str, Any] | None = None
    ):
        self.images = images
        pairs = [(record.name, record.garment_name) for record in images.records]
        super().__init__(pairs, images.size, setting, kind, details)

    @property
    def lacks_maps(self) -> bool:
        return not all({"mask", "densepose"} <= set(record.files) for record in self.images.records)

    def __getitem__(self, index: int) -> EvalPair:
        item = self.images[index]
        truth = item.get("truth")
        if truth is None and self.setting == "paired":
            truth = item["person"]
        maps = {part: item.get(part) for part in ("person", "garment", "mask", "agnostic", "densepose")}
        return EvalPair(self.names[index], *self.pairs[index], truth=truth, **maps)


class RenderedData(EvaluationData):
    """Rendered figures, whose truth is known in the unpaired setting too.

    Args:
        length (`int`): Number of pairs.
        size (`tuple[int, int]`, *optional*, defaults to `(192, 256)`): Width and height in pixels, 3:4.
        setting (`str`, *optional*, defaults to `"paired"`): `"paired"` or `"unpaired"`.
        seed (`int`, *optional*, defaults to 0): Seed of the figures.
        style (`str`, *optional*, defaults to `"studio"`): Style of the renderer, one of `choices.STYLES`.
    """

    def __init__(
        self,
        length: int,
        size: tuple[int, int] = (192, 256),
        setting: Setting = "paired",
        *,
        seed: int = 0,
        style: StyleName = "studio",
    ):
        from ..data.synthetic import SyntheticDataset

        if length < 1:
            raise InvalidInput(f"{length} pairs are no data to evaluate: pass at least 1.")
        self._samples = SyntheticDataset(length, seed, style, tuple(size), transform=lambda sample: sample)
        which = "own" if setting == "paired" else "other"
        pairs = [(f"{style}-{seed}-{index:05d}", which) for index in range(length)]
        super().__init__(pairs, tuple(size), setting, "synthetic", {"style": style, "seed": seed})

    def __getitem__(self, index: int) -> EvalPair:
        sample, paired = self._samples[index], self.setting == "paired"
        return EvalPair(
            self.names[index],
            *self.pairs[index],
            person=sample.person,
            garment=sample.garment if paired else sample.garment_other,
            truth=sample.person if paired else sample.person_in_other,
            mask=sample.mask,
            agnostic=sample.agnostic,
            densepose=sample.densepose,
        )


def load_data(
    source: str | os.PathLike[str],
    *,
    kind: DataKind | None = None,
    setting: Setting = "paired",
    size: tuple[int, int] = (384, 512),
    limit: int | None = None,
    for_inference: bool = True,
    garments: str | os.PathLike[str] | None = None,
    pairs: str | os.PathLike[str] | None = None,
    style: StyleName = "studio",
    seed: int = 0,
) -> EvaluationData:
    """Data of any kind to evaluate, every file of it checked.

    Args:
        source (`str` or `os.PathLike`):
            The folder of VITON-HD, of DressCode (upper bodies), of `person`, `garment`, `mask` and `densepose`; a
            list of pairs (see `read_pair_list`); a folder of photos of persons, with `garments`; or `"synthetic"`.
        kind (`str`, *optional*): Kind of data set, one of `choices.DATA_KINDS`; by default what the source looks like.
        setting (`str`, *optional*, defaults to `"paired"`): `"paired"` or `"unpaired"`.
        size (`tuple[int, int]`, *optional*, defaults to `(384, 512)`):
            Width and height in pixels to generate and measure at.
        limit (`int`, *optional*): Number of pairs, from the first; all by default, of rendered figures 64.
        for_inference (`bool`, *optional*, defaults to `True`):
            Whether maps and garments are needed; False where results exist already.
        garments (`str` or `os.PathLike`, *optional*): For a folder of persons: folder of another set's garments.
        pairs (`str` or `os.PathLike`, *optional*):
            For a folder of persons: list of a person's and a garment's file name for each pair. Without it every
            person gets the garment whose number in the sorted folder follows from `seed` and the person's name.
        style (`str`, *optional*, defaults to `"studio"`): Style of rendered figures.
        seed (`int`, *optional*, defaults to 0): Seed of rendered figures, or of the choice of garments.

    Returns:
        `EvaluationData`

    Raises:
        `BadDataSet`: if files are missing, ambiguous or unusable.
        `InvalidInput`: if it's no data set, or an option doesn't go with it.
    """
    if setting not in SETTINGS:
        raise InvalidInput(f"setting is {setting!r}: pass 'paired' or 'unpaired'.")
    if limit is not None and limit < 1:
        raise InvalidInput(f"the limit is {limit}: pass at least 1 pair.")
    kind = _check_kind(kind, source, garments)
    if kind != "persons" and (garments is not None or pairs is not None):
        raise InvalidInput(f"garments and a list of pairs go with a folder of persons, not with {kind} data.")
    if kind != "synthetic" and style != "studio":
        raise InvalidInput(f"style {style!r} is of rendered figures, and this is {kind} data: leave it out.")
    if kind == "synthetic":
        return RenderedData(limit or SYNTHETIC_PAIRS, size, setting, seed=seed, style=style)
    if kind == "pairs":
        records, problems = read_photo_pairs(source, limit, for_inference=for_inference)
        images = PhotoPairs(records, size, what=os.fspath(source), problems=problems)
        return ImageData(images, setting, kind)
    root, paired = check_root(source), setting == "paired"
    if kind == "persons":
        if paired:
            raise InvalidInput("persons with another set's garments are unpaired: pass setting='unpaired'.")
        if garments is None:
            raise InvalidInput("a folder of persons needs a folder of garments to try on them.")
        records, problems = pair_with_garments(root, check_root(garments), pairs, seed, limit)
        images = PhotoPairs(records, size, what=str(root), problems=problems)
        return ImageData(images, setting, kind, {"choice": "list"} if pairs else {"choice_seed": seed})
    if kind == "viton-hd":
        parts = None if for_inference else _parts(root / "test", mask="agnostic-mask", garment="cloth")
        images = VitonHD(root, "test", paired=paired, size=size, limit=limit, parts=parts)
        return ImageData(images, setting, kind, {"split": "test"})
    if kind == "dress-code":
        inner = root / "upper_body" if (root / "upper_body").is_dir() else root
        parts = None if for_inference else _parts(inner, mask="agnostic-mask", garment="images")
        images = DressCode(root, "test", paired=paired, size=size, limit=limit, parts=parts)
        return ImageData(images, setting, kind, {"split": "test", "category": "upper_body"})
    parts = None if for_inference else _parts(root, mask="mask", garment="garment")
    images = FolderDataset(root, size, limit=limit, parts=parts)
    foreign = [record.name for record in images.records if record.name != record.garment_name]
    if paired and foreign:
        raise InvalidInput(f"{root} lists pairs of other garments ({shortened(foreign)}): pass setting='unpaired'.")
    if not paired and not foreign:
        raise InvalidInput(f"{root} lists only the persons' own garments: pass setting='paired', or a pairs.txt.")
    return ImageData(images, setting, kind)


def recognise(source: str | os.PathLike[str], garments: Any = None) -> DataKind:
    """Kind of data set that a source looks like, one of `choices.DATA_KINDS`.

    Raises:
        `InvalidInput`: if it looks like none.
    """
    path = Path(source)
    if garments is not None:
        return "persons"
    if os.fspath(source) == SYNTHETIC and not path.exists():
        return "synthetic"
    if path.is_file() or path.suffix.lower() in LIST_ENDINGS:
        return "pairs"
    check_root(source)
    if (path / "test_pairs.txt").is_file() or (path / "test" / "image").is_dir():
        return "viton-hd"
    if (path / "upper_body").is_dir() or (path / "test_pairs_paired.txt").is_file():
        return "dress-code"
    if (path / "person").is_dir():
        return "folder"
    raise InvalidInput(
        f"{path} looks like no known data set: it has no test_pairs.txt (VITON-HD), upper_body (DressCode) or person "
        "folder; name its kind, or pass a list of pairs."
    )


def _check_kind(kind: str | None, source: str | os.PathLike[str], garments: Any) -> DataKind:
    if not isinstance(source, (str, os.PathLike)):
        raise InvalidInput(f"the data is a {type(source).__name__}: pass a path, or 'synthetic'.")
    if kind is None:
        return recognise(source, garments)
    check_choice("kind", kind, DATA_KINDS)
    return kind


def _parts(folder: Path, **folders: str) -> Collection[str]:
    """Names of the parts to score with: the person, and those others whose folders exist."""
    return ["person", *(part for part, name in folders.items() if (folder / name).is_dir())]
