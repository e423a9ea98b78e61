"""Rendered try-on data: one person, two garments, both truths, and all the maps that preprocessing would make."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...errors import InvalidInput
from ...preprocessing.labels import PARULA
from ...preprocessing.masks.agnostic import agnostic_mask
from .body import Body
from .canvas import shape_of
from .derived import DerivedMaps
from .figures import sample_body, sample_garment, stage_for
from .garment import Garment
from .layout import move_on_canvas, panel_maps, panels_at
from .scene import Rendering, Stage
from .style import Style, StyleName, get_style

if TYPE_CHECKING:
    from .photo.body import PhotoBody
    from .photo.stage import PhotoStage

GREY = 128  # of the agnostic image


@dataclass(frozen=True, eq=False)
class SyntheticSample:
    """One person in a garment, and the same person in another one. Images are uint8 RGB, (H, W, 3).

    Args:
        body (`Body` or `PhotoBody`): The figure.
        worn, other (`Garment`): The garment that `person` wears, and the one to try on.
        worn_rendering, other_rendering (`Rendering`): The figure in either.
        keypoints (`np.ndarray`): BODY_25 joints in pixels, float32, (25, 3) as x, y, confidence.
        densepose_labels (`np.ndarray`): Body parts, uint8 in 0..24, (H, W).
        mask (`np.ndarray`): The agnostic mask of `person`, bool, (H, W), True = repaint.
    """

    body: Body | PhotoBody
    worn: Garment
    other: Garment
    worn_rendering: Rendering
    other_rendering: Rendering
    keypoints: np.ndarray
    densepose_labels: np.ndarray
    mask: np.ndarray

    @property
    def person(self) -> np.ndarray:
        """The person in the worn garment."""
        return self.worn_rendering.person

    @property
    def garment(self) -> np.ndarray:
        """The worn garment, laid flat."""
        return self.worn.image

    @property
    def garment_other(self) -> np.ndarray:
        """The other garment, laid flat."""
        return self.other.image

    @property
    def person_in_other(self) -> np.ndarray:
        """The same person, pose and place, in the other garment: the truth of an unpaired try-on."""
        return self.other_rendering.person

    @property
    def parsing(self) -> np.ndarray:
        """CIHP labels of `person`, uint8, (H, W)."""
        return self.worn_rendering.parsing

    @property
    def worn_mask(self) -> np.ndarray:
        """Pixels of `person` that show any of the worn garment, bool, (H, W)."""
        return self.worn_rendering.worn_mask

    @property
    def worn_mask_other(self) -> np.ndarray:
        """Pixels of `person_in_other` that show any of the other garment, bool, (H, W)."""
        return self.other_rendering.worn_mask

    @property
    def correspondence(self) -> np.ndarray:
        """x, y in `garment` of every worn pixel of `person`, float32, (H, W, 2); NaN elsewhere."""
        return self.worn_rendering.correspondence

    @property
    def correspondence_other(self) -> np.ndarray:
        """x, y in `garment_other` of every worn pixel of `person_in_other`, float32, (H, W, 2); NaN elsewhere."""
        return self.other_rendering.correspondence

    @property
    def densepose(self) -> np.ndarray:
        """The DensePose image, in the parula palette on black."""
        return PARULA[self.densepose_labels]

    @property
    def agnostic(self) -> np.ndarray:
        """The person with the region to repaint greyed out."""
        image = self.person.copy()
        image[self.mask] = GREY
        return image

    def person_in(self, garment: Garment) -> np.ndarray:
        """The same person, pose and place, in any other garment of the same size; see `sample_garment`."""
        return self.person_in_each([garment])[0]

    def person_in_each(self, garments: Sequence[Garment]) -> list[np.ndarray]:
        """Likewise in each of several garments, for little more time than in one."""
        return [rendering.person for rendering in dress_all(self.body, garments)[0]] if garments else []

    def as_dict(self) -> dict[str, Any]:
        """Arrays and flags by name, the way a `torch.utils.data.DataLoader` collates them."""
        names = (
            "person", "garment", "garment_other", "person_in_other", "parsing", "keypoints", "densepose_labels",
            "densepose", "mask", "agnostic", "worn_mask", "worn_mask_other", "correspondence", "correspondence_other",
        )  # fmt: skip
        flags = {"textured": self.worn.design.textured, "textured_other": self.other.design.textured}
        return {name: getattr(self, name) for name in names} | flags

    def in_worn(self, derived: DerivedMaps | None = None) -> dict[str, Any]:
        """`as_dict` for training to put the worn garment on.

        Args:
            derived (`DerivedMaps`, *optional*):
                Derives the maps from the person in the other garment, as a pipeline that is to change it would; the
                true ones by default, and where nobody is found.
        """
        names = "person", "garment", "worn_mask", "correspondence"
        return self._item(names, self.worn, derived and derived(self.person_in_other))

    def in_other(self, derived: DerivedMaps | None = None) -> dict[str, Any]:
        """Likewise for the other garment, whose wearer is the `person` then."""
        names = "person_in_other", "garment_other", "worn_mask_other", "correspondence_other"
        return self._item(names, self.other, derived and derived(self.person))

    def _item(self, names: Sequence[str], garment: Garment, maps: dict[str, np.ndarray] | None) -> dict[str, Any]:
        renamed = zip(("person", "garment", "worn_mask", "correspondence"), names, strict=True)
        shared = maps or {name: getattr(self, name) for name in ("agnostic", "densepose", "mask")}
        item = shared | {new: getattr(self, name) for new, name in renamed}
        return item | {"panel": panels_at(garment, item["correspondence"]), "panel_maps": panel_maps(garment)}


class SyntheticDataset:
    """Rendered samples 0 .. length - 1 of a seed, as a map-style data set.

    Every sample depends on seed, style, size and its index alone, so workers may render them in any order. Rendering
    keeps one core busy; give a loader with workers `one_thread` as its `worker_init_fn`, and have it spawn them.

    Args:
        length (`int`): How many samples.
        seed (`int`, *optional*, defaults to 0): Which ones.
        style (`str` or `Sequence[str]`, *optional*, defaults to `"studio"`):
            `"studio"`, `"shifted"` or `"photo"`; several take turns.
        size (`tuple[int, int]`, *optional*, defaults to `(192, 256)`): Width and height of the images in pixels.
        transform (`Callable`, *optional*):
            Makes an item of a `SyntheticSample`; by default its `as_dict`.
        garments (`str`, *optional*, defaults to `"worn"`):
            `"both"` for two training items of every sample, one in either garment (without transform): the first is
            what `"worn"` gives, reduced to what training reads, the second has the `person` in the other garment.
        derived (`float`, *optional*, defaults to 0.0):
            Share of these items whose maps are derived from the person in the garment that the item doesn't show.
        preprocessor (`str`, *optional*): Folder of what derives them; the bundled one by default.
        moved (`float`, *optional*, defaults to 0.0):
            Share of these items whose garment is smaller and elsewhere on its canvas than a shop would lay it.

    Raises:
        `InvalidInput`: for a negative length or seed, an unknown style, a share that isn't within 0 and 1, or a size
            that isn't 3:4.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        style: StyleName | Sequence[StyleName] = "studio",
        size: tuple[int, int] = (192, 256),
        transform: Callable[[SyntheticSample], Any] | None = None,
        garments: Literal["worn", "both"] = "worn",
        derived: float = 0.0,
        preprocessor: str | None = None,
        moved: float = 0.0,
    ):
        self.length: int = _natural(length, "length")
        self.seed: int = _natural(seed, "seed")
        names = list(style) if isinstance(style, (list, tuple)) and style else [style]
        self.styles: tuple[Style, ...] = tuple(get_style(name) for name in names)
        self.size: tuple[int, ...] = shape_of(size)[::-1]
        self.transform: Callable[[SyntheticSample], Any] = SyntheticSample.as_dict if transform is None else transform
        if garments not in ("worn", "both") or (garments == "both" and transform is not None):
            raise InvalidInput(f"garments is {garments!r}: pass 'worn', or 'both' without transform.")
        for name, share in (("derived", derived), ("moved", moved)):
            if not 0 <= share <= 1 or (share and garments != "both"):
                raise InvalidInput(f"{name} is {share!r}: pass a share from 0 to 1, with garments='both'.")
        self.garments = garments
        self.derived = derived
        self.moved = moved
        self._maps = DerivedMaps(preprocessor)
        self._latest: tuple[int, SyntheticSample] | None = None

    def __len__(self) -> int:
        return self.length * (2 if self.garments == "both" else 1)

    def __getitem__(self, index: int) -> Any:
        index = operator.index(index)
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range: the data set has {length} samples.")
        if self.garments == "worn":
            return self.transform(self._render(index % length))
        number, other = divmod(index % length, 2)
        latest = self._latest
        # neighbours share a sample, and are usually asked for one after the other
        if latest is None or latest[0] != number:
            latest = self._latest = number, self._render(number)
        lot = np.random.default_rng([self.seed, number, other, 83]).random()
        maps = self._maps if lot < self.derived else None
        item = latest[1].in_other(maps) if other else latest[1].in_worn(maps)
        rng = np.random.default_rng([self.seed, number, other, 89])
        if rng.random() < self.moved:
            item = move_on_canvas(item, latest[1].other if other else latest[1].worn, rng)
        return item

    def _render(self, number: int) -> SyntheticSample:
        return render_pair(self.seed, number, self.styles[number % len(self.styles)], self.size)


def render_pair(
    seed: int, index: int, style: StyleName = "studio", size: tuple[int, int] = (192, 256)
) -> SyntheticSample:
    """Draw one sample; the same arguments give the same sample in any process (with the same OpenCV and numpy).

    Args:
        seed (`int`): Which series of samples; not negative.
        index (`int`): Which sample of the series; not negative.
        style (`str`, *optional*, defaults to `"studio"`): `"studio"`, `"shifted"` or `"photo"`.
        size (`tuple[int, int]`, *optional*, defaults to `(192, 256)`): Width and height of the images in pixels.

    Returns:
        `SyntheticSample`

    Raises:
        `InvalidInput`: for a negative number, an unknown style, or a size that isn't 3:4.
    """
    seed, index, style = _natural(seed, "seed"), _natural(index, "index"), get_style(style)
    body, worn, other = (np.random.default_rng([seed, index, style.code, part]) for part in range(3))
    return assemble(sample_body(body, style), sample_garment(worn, style, size), sample_garment(other, style, size))


def assemble(body: Body | PhotoBody, worn: Garment, other: Garment) -> SyntheticSample:
    """Make a sample of a given figure and two given garments."""
    (first, second), stage, mask = dress_all(body, [worn, other])
    return SyntheticSample(body, worn, other, first, second, stage.keypoints, stage.densepose(), mask)


def dress_all(
    body: Body | PhotoBody, garments: Sequence[Garment]
) -> tuple[list[Rendering], Stage | PhotoStage, np.ndarray]:
    """Put garments on a figure, one after the other.

    Returns:
        `tuple[list[Rendering], Stage | PhotoStage, np.ndarray]`: the figure in each, what drew it, and its agnostic
            mask, bool, (H, W).
    """
    stage = stage_for(body, garments[0].size)
    renderings = [stage.dress(garment) for garment in garments]
    if isinstance(stage, Stage):
        return renderings, stage, agnostic_mask(renderings[0].parsing, stage.keypoints, category="upper")
    mask = stage.agnostic_mask()
    return stage.develop(renderings, mask), stage, mask


def one_thread(worker: int = 0) -> None:
    """Keep OpenCV to the calling thread.

    For `torch.utils.data.DataLoader(worker_init_fn=one_thread, multiprocessing_context="spawn")`: in a forked worker
    OpenCV waits for the parent's threads, which aren't there, forever.
    """
    import cv2

    cv2.setNumThreads(1)


def _natural(value: Any, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r}: pass a whole number that isn't negative.")
    return number
