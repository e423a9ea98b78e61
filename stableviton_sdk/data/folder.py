"""Try-on data from folders of images: the ground that all readers stand on, and the plainest of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import InvalidInput
from ..images import load_image, load_mask
from ..preprocessing.frame import same_aspect
from ..preprocessing.inputs import grey_out

IMAGE_ENDINGS = (".jpg", ".png", ".jpeg", ".webp")
ORIENTATION = 0x0112  # EXIF
IMAGES = ("person", "garment", "agnostic", "densepose")
MASKS = ("mask", "worn_mask", "garment_mask")

Check = Literal["full", "quick"]


class BadDataSet(InvalidInput):
    """A data set's files can't be used.

    Args:
        what (`str`): The data set, for the message.
        problems (`list[str]`): One line each.
    """

    def __init__(self, what: str, problems: Sequence[str]):
        self.what, self.problems = what, list(problems)
        count = f"{len(self.problems)} problems" if len(self.problems) > 1 else "a problem"
        super().__init__("\n  - ".join([f"{what} has {count}:", *self.problems]))

    def __reduce__(self):
        return BadDataSet, (self.what, self.problems)


@dataclass(frozen=True)
class Record:
    """One pair.

    Args:
        name (`str`), garment_name (`str`): Of the person's and of the garment's image, without ending.
        files (`dict[str, Path]`):
            By part: `person`, `garment`, `densepose`, `mask`, and where there are any `agnostic`, `worn_mask`,
            `garment_mask`, `correspondence`.
    """

    name: str
    garment_name: str
    files: dict[str, Path] = field(default_factory=dict)


class PairDataset:
    """A map-style data set of records whose files have all been looked at.

    Items are dictionaries: `person`, `garment`, `agnostic`, `densepose` (uint8, (H, W, 3)), `mask` (bool, (H, W), True
    = repaint), `name` and `garment_name`; where the data has them also `worn_mask` and `garment_mask` (bool, (H, W))
    and `correspondence` (float32, (H, W, 2)). An agnostic image that isn't there is the person with the mask's
    region greyed out. Records may lack parts; their items lack them too.

    Args:
        records (`Sequence[Record]`): The pairs.
        size (`tuple[int, int]`): Height and width of the items' images.
        what (`str`, *optional*, defaults to `"the data set"`): What the report calls it.
        check (`str`, *optional*, defaults to `"full"`):
            `"full"` decodes every file once, `"quick"` looks at their beginnings and ends only.
        problems (`Sequence[str]`, *optional*): What has been found wrong before, for the same report.

    Raises:
        `BadDataSet`: naming every missing, unreadable or ill-proportioned file.
    """

    def __init__(
        self,
        records: Sequence[Record],
        size: tuple[int, int],
        *,
        what: str = "the data set",
        check: Check = "full",
        problems: Sequence[str] = (),
    ):
        if check not in ("full", "quick"):
            raise InvalidInput(f"check is {check!r}: pass 'full' or 'quick'.")
        self.records, self.size = list(records), check_size(size)
        problems = list(problems)
        if not self.records and not problems:
            problems.append("it is empty: no pair is left to read.")
        problems += find_problems(self.records, self.size, check)
        if problems:
            raise BadDataSet(what, problems)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        from ..images import resize, resize_mask

        record = self.records[index]
        height, width = self.size
        item: dict[str, Any] = {"name": record.name, "garment_name": record.garment_name}
        for part, path in record.files.items():
            if part in MASKS:
                item[part] = resize_mask(load_mask(self._open(path), name=str(path)), (width, height))
            elif part in IMAGES:
                # as the pipeline resizes, so that training sees what inference will
                filter_ = Image.Resampling.BILINEAR if part == "densepose" else Image.Resampling.LANCZOS
                item[part] = resize(self.read_image(part, path), (width, height), filter_)
            else:
                item[part] = read_correspondence(path, (height, width))
        if "agnostic" not in item and "mask" in item:
            item["agnostic"] = grey_out(item["person"], item["mask"])
        for part in (*IMAGES, *MASKS):
            if part in item:
                item[part] = np.asarray(item[part]) >= 128 if part in MASKS else np.array(item[part])
        return item

    def read_image(self, part: str, path: Path) -> Image.Image:
        """Decode an image; readers whose files hold something else than an image override this."""
        return load_image(self._open(path), name=str(path))

    def _open(self, path: Path) -> Image.Image | Path:
        try:
            image = Image.open(path)
        except OSError:
            return path  # `load_image` words the error
        if image.format == "JPEG":
            # decode at a half, a quarter or an eighth, as long as there are two pixels for each that is wanted
            image.draft("RGB", (2 * self.size[1], 2 * self.size[0]))
        return image


class FolderDataset(PairDataset):
    """The plainest layout: `person`, `garment`, `mask`, `densepose`, and where there are any `agnostic`, `worn_mask`,
    `garment_mask` and `correspondence`, with files of the same name.

    `pairs.txt` names a person and a garment on each line; without it, every person wears the garment of its own name.
    Correspondence is a float `.npy` of (h, w, 2) for each person: x, y of every pixel's place in the garment image,
    in [0, 1] of its width and height; NaN where there is none.

    Args:
        root (`str` or `os.PathLike`): The folder.
        size (`tuple[int, int]`): Height and width of the items' images.
        check (`str`, *optional*, defaults to `"full"`): See `PairDataset`.
        limit (`int`, *optional*): Use the first pairs only.
        parts (`Collection[str]`, *optional*): Read these only, so that the others may be missing; by default all.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        size: tuple[int, int],
        *,
        check: Check = "full",
        limit: int | None = None,
        parts: Collection[str] | None = None,
    ):
        root = check_root(root)
        problems: list[str] = []
        if (root / "pairs.txt").is_file():
            pairs = read_pairs(root / "pairs.txt", problems)
            own = all(Path(person).stem == Path(garment).stem for person, garment in pairs)
        else:
            names = sorted(path.name for path in _list(root / "person") if path.suffix.lower() in IMAGE_ENDINGS)
            pairs, own = [(name, name) for name in names], True
            if not names:
                problems.append("person/ holds no images, and there is no pairs.txt.")
        folders = {part: root / part for part in ("person", "mask", "densepose")}
        optional = {
            part: root / part for part in ("agnostic", "worn_mask", "correspondence") if (root / part).is_dir()
        }
        if not own:
            # both are about the garment that the person wears, not about the one of the pair
            optional.pop("worn_mask", None)
            optional.pop("correspondence", None)
        of_garment = {part: root / part for part in ("garment", "garment_mask")}
        if not of_garment["garment_mask"].is_dir():
            del of_garment["garment_mask"]
        for read in (folders, optional, of_garment):
            for part in [part for part in read if parts is not None and part not in parts]:
                del read[part]
        find = FileFinder()
        records = []
        for person, garment in pairs[:limit]:
            stem, garment_stem = Path(person).stem, Path(garment).stem
            files = {
                part: find(folder, stem, ".npy" if part == "correspondence" else ".jpg")
                for part, folder in (folders | optional).items()
            }
            files |= {part: find(folder, garment_stem) for part, folder in of_garment.items()}
            records.append(Record(stem, garment_stem, files))
        super().__init__(records, size, what=str(root), check=check, problems=problems + find.report())


class FileFinder:
    """Finds files by their stem with any image ending, and keeps count of what is missing."""

    def __init__(self):
        self._stems: dict[Path, dict[str, Path]] = {}
        self._missing: dict[Path, dict[str, None]] = {}

    def __call__(self, folder: Path, stem: str, ending: str = ".jpg") -> Path:
        """The file of this stem in the folder; the path where it was expected if there is none."""
        if folder not in self._stems:
            self._stems[folder] = {path.stem: path for path in _list(folder)}
        found = self._stems[folder].get(stem)
        if found is None:
            self._missing.setdefault(folder, {})[stem + ending] = None
        return found or folder / (stem + ending)

    def report(self) -> list[str]:
        """A line for every file that was asked for in vain; one for a whole folder that isn't there."""
        lines = []
        for folder, names in self._missing.items():
            if self._stems[folder]:
                lines += [f"{folder / name} is missing." for name in names]
            else:
                state = "is empty" if folder.is_dir() else "is missing"
                lines.append(f"the folder {folder} {state}: {len(names)} images were to be read from it.")
        return lines


def find_problems(
    records: Sequence[Record], size: tuple[int, int], check: Check, *, proportions: bool = True
) -> list[str]:
    """Look at every file of the records once.

    Args:
        records (`Sequence[Record]`): Missing files are left to the finder that looked for them.
        size (`tuple[int, int]`): Height and width of the items, whose proportions the images must have.
        check (`str`): See `PairDataset`.
        proportions (`bool`, *optional*, defaults to `True`): False: images of other proportions will be framed.

    Returns:
        `list[str]`: a line for every unreadable file, and for every one whose proportions don't fit.
    """
    parts: dict[Path, str] = {}
    for record in records:
        for part, path in record.files.items():
            if path.is_file():
                parts.setdefault(path, part)
    # decoding runs outside of the interpreter's lock, so threads are enough
    with ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1)) as pool:
        looked = pool.map(lambda entry: _look_at(*entry, check), parts.items())
        seen = dict(zip(parts, looked, strict=True))
    problems = [seen_ for seen_ in seen.values() if isinstance(seen_, str)]
    if not proportions:
        return problems
    aspect = (size[1], size[0])
    for path, image_size in seen.items():
        if isinstance(image_size, tuple) and not same_aspect(image_size, aspect):
            problems.append(
                f"{path} is {image_size[0]} x {image_size[1]}, which isn't in the proportions of the "
                f"{aspect[0]} x {aspect[1]} asked for."
            )
    return problems


def read_pairs(path: Path, problems: list[str]) -> list[tuple[str, str]]:
    """Read lines of a person's and a garment's file name; what is wrong goes to `problems`."""
    if not path.is_file():
        problems.append(f"the list of pairs {path} is missing.")
        return []
    pairs = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} can't be read as a list of pairs ({error}).")
        return []
    for number, line in enumerate(lines, start=1):
        names = line.split()
        if not names:
            continue
        if len(names) != 2:
            problems.append(f"{path}, line {number}: {line.strip()!r} isn't a person's and a garment's file name.")
            continue
        pairs.append((names[0], names[1]))
    if not pairs and not problems:
        problems.append(f"the list of pairs {path} is empty.")
    return pairs


def read_correspondence(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Places in [0, 1] from a `.npy`, resampled by nearest, as x, y in pixels of a garment image of `size`."""
    height, width = size
    places = np.load(path, mmap_mode="r", allow_pickle=False)
    rows = (np.arange(height) + 0.5) * places.shape[0] / height
    columns = (np.arange(width) + 0.5) * places.shape[1] / width
    places = places[rows.astype(int)[:, None], columns.astype(int)].astype(np.float32)
    return places * np.float32([width, height]) - np.float32(0.5)


def check_root(root: str | os.PathLike) -> Path:
    """
    Raises:
        `InvalidInput`: if the folder isn't there.
    """
    if not isinstance(root, (str, os.PathLike)):
        raise InvalidInput(f"the data set's folder is a {type(root).__name__}: pass a path.")
    if not Path(root).is_dir():
        raise InvalidInput(f"there is no data set folder {os.fspath(root)}: check the path.")
    return Path(root)


def check_size(size: Any) -> tuple[int, int]:
    """
    Raises:
        `InvalidInput`: if it isn't a height and a width.
    """
    numbers = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(numbers) != 2 or not all(isinstance(side, int) and 8 <= side <= 4096 for side in numbers):
        raise InvalidInput(f"the data set's size is {size!r}: pass height and width in pixels, each 8 to 4096.")
    return numbers


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image, after its EXIF orientation; its pixels aren't decoded."""
    turned = "exif" in image.info and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def _look_at(path: Path, part: str, check: Check) -> tuple[int, int] | str | None:
    """An image's width and height, or one line on what is wrong; None for a correspondence map that is fine."""
    try:
        if part == "correspondence":
            return _look_at_map(path)
        if path.stat().st_size == 0:
            return f"{path} is empty."
        if part in MASKS and check == "full":
            return load_mask(path, name=str(path)).size
        with Image.open(path) as image:
            size = upright_size(image)
            if check == "quick":
                return size if _is_whole(path, image.format) else f"{path} is cut off."
            image.draft("RGB", (image.width // 8, image.height // 8))  # reads the whole file all the same
            image.load()
        return size
    except InvalidInput as error:
        return str(error)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        return f"{path} can't be read as an image ({error})."


def _look_at_map(path: Path) -> str | None:
    places = np.load(path, mmap_mode="r", allow_pickle=False)
    if places.ndim != 3 or places.shape[2] != 2 or not np.issubdtype(places.dtype, np.floating):
        return f"{path} holds {places.dtype} of shape {places.shape}, not float (h, w, 2)."
    with np.errstate(invalid="ignore"):
        if bool((np.abs(places) > 1.5).any()):
            return f"{path} holds places far outside of [0, 1]: it must be in garment widths and heights, not pixels."
    return None


def _is_whole(path: Path, kind: str | None) -> bool:
    """Whether a JPEG or PNG ends as it should; other kinds pass."""
    ending = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(kind or "")
    if ending is None:
        return True
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64))
        return ending in stream.read()


def _list(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
