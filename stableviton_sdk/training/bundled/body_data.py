"""Data of the body network: rendered figures and empty scenes, rendered once and augmented every time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.synthetic import render_pair, sample_garment
from ...data.synthetic.background import draw_background
from ...data.synthetic.photo.backdrop import draw_backdrop
from ...data.synthetic.photo.camera import sample_camera
from ...data.synthetic.style import STYLES, StyleName, pick
from ...errors import InvalidInput
from ...files import RunManifest, write_text_atomically
from ...preprocessing.analyzers.compact import INPUT_SHAPE, MIRRORED_DENSEPOSE, MIRRORED_JOINTS, MIRRORED_PARSING, PAD
from ..loop.config import Config, Count, CountOrZero, ValidationInfo, field_validator

STATE = "rendered.json"
FLUSH_EVERY = 200  # items


class FigureOptions(Config):
    """Figures and scenes to render."""

    seed: CountOrZero = 501
    """Seed of the renderer."""
    studio: CountOrZero = 1500
    """Figures in the style `"studio"`, each in two garments."""
    shifted: CountOrZero = 500
    """Figures in the style `"shifted"`, each in two garments."""
    photo: CountOrZero = 6000
    """Figures in the style `"photo"`, each in two garments."""
    empty: Count = 1500
    """Images without anybody: places, flat garments, colours, noise."""

    @field_validator("photo")
    @classmethod
    def _needs_a_figure(cls, value: int, info: ValidationInfo) -> int:
        if not value and info.data.get("studio") == 0 and info.data.get("shifted") == 0:
            raise ValueError("data needs a figure: pass studio, shifted or photo from 1.")
        return value

    @property
    def figures(self) -> dict[StyleName, int]:
        """How many figures of each style, in the order in which they are kept."""
        return {"studio": self.studio, "shifted": self.shifted, "photo": self.photo}


class RenderedFigures:
    """Images with their maps, rendered into a folder on first use; an interrupted rendering goes on where it was.

    Items are dictionaries: `image` (uint8, (256, 192, 3)), `parsing` and `densepose` (uint8, (256, 192)), and
    `keypoints` (float32, (25, 3)).

    Args:
        folder (`Path`): Folder of the arrays, about 250 kB an item.
        options (`FigureOptions`): Options of the rendering.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar while rendering.
    """

    def __init__(self, folder: Path, options: FigureOptions, progress: bool = True):
        self.options = options
        self.people: int = 2 * sum(options.figures.values())
        self._length = self.people + options.empty
        shapes = {"image": (*INPUT_SHAPE, 3), "parsing": INPUT_SHAPE, "densepose": INPUT_SHAPE, "keypoints": (25, 3)}
        wanted = {"options": options.as_mapping(), "size": list(INPUT_SHAPE)}
        state = RunManifest(folder, kind="rendering of figures", name=STATE).read()
        if state is not None and {name: state[name] for name in wanted} != wanted:
            raise InvalidInput(f"{folder} holds other rendered figures than these: delete it, or pass another output.")
        folder.mkdir(parents=True, exist_ok=True)
        done = 0 if state is None else state["done"]
        self._arrays = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy",
                mode="w+" if done == 0 else "r+",
                dtype=np.float32 if name == "keypoints" else np.uint8,
                shape=(self._length, *shape) if done == 0 else None,
            )
            for name, shape in shapes.items()
        }
        self._render(done, folder, wanted, progress)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: array[index] for name, array in self._arrays.items()}

    def scene(self, number: int) -> np.ndarray:
        """The image of an empty scene, uint8, (256, 192, 3)."""
        return self._arrays["image"][self.people + number % self.options.empty]

    def _render(self, done: int, folder: Path, state: dict[str, Any], progress: bool) -> None:
        from tqdm import tqdm

        bar = tqdm(
            total=self._length,
            initial=done,
            desc="rendering",
            disable=not progress or done == self._length,
            leave=False,
        )
        for index in range(done, self._length):
            if index >= self.people:
                self._put(index, image=draw_empty(self.options.seed, index - self.people))
            elif index % 2 == 0:
                self._put_figure(index)
            bar.update()
            if (index + 1) % FLUSH_EVERY == 0 or index + 1 == self._length:
                for array in self._arrays.values():
                    array.flush()
                write_text_atomically(folder / STATE, json.dumps({**state, "done": index + 1}))
        bar.close()

    def _put_figure(self, index: int) -> None:
        number, styles = index // 2, iter(self.options.figures.items())
        style, count = next(styles)
        while number >= count:
            number -= count
            style, count = next(styles)
        sample = render_pair(self.options.seed, number, style, INPUT_SHAPE[::-1])
        for place, rendering in enumerate((sample.worn_rendering, sample.other_rendering)):
            self._put(
                index + place,
                image=rendering.person,
                parsing=rendering.parsing,
                densepose=sample.densepose_labels,
                keypoints=sample.keypoints,
            )

    def _put(self, index: int, **values: np.ndarray) -> None:
        for name, value in values.items():
            self._arrays[name][index] = value


def draw_empty(seed: int, index: int) -> np.ndarray:
    """An image that shows nobody: a place, a flat garment, a colour, or noise; uint8, (256, 192, 3)."""
    import cv2

    rng = np.random.default_rng([seed, index, 977])
    style = STYLES[str(rng.choice(["studio", "shifted", "photo"], p=[0.3, 0.15, 0.55]))]
    kind = rng.choice(["place", "garment", "colour", "noise"], p=[0.45, 0.35, 0.1, 0.1])
    if kind == "place" and style.name == "photo":
        return sample_camera(rng).develop(draw_backdrop(rng, style, INPUT_SHAPE))
    if kind == "place":
        return draw_background(pick(rng, style.backgrounds), style, int(rng.integers(2**31)), INPUT_SHAPE)
    if kind == "garment":
        return sample_garment(rng, style, INPUT_SHAPE[::-1]).image
    image = np.empty((*INPUT_SHAPE, 3), np.uint8)
    image[...] = rng.integers(0, 256, 3)
    if kind == "noise":
        coarse = int(rng.choice([1, 2, 4, 8, 16, 32]))
        noise = rng.normal(0, rng.uniform(10, 110), (INPUT_SHAPE[0] // coarse, INPUT_SHAPE[1] // coarse, 3)).astype(
            np.float32
        )
        image[...] = (image + cv2.resize(noise, INPUT_SHAPE[::-1], interpolation=cv2.INTER_LINEAR)).clip(0, 255)
    return image


@dataclass(frozen=True)
class FigureAugmentation:
    """Varies an item: mirrored, elsewhere, smaller or larger, in front of something else, in other colours.

    Args:
        figures (`RenderedFigures`): Source of the empty scenes around figures that became smaller.
        as_is (`float`, *optional*, defaults to 0.25): Probability of leaving place and size alone.
        smallest (`float`, *optional*, defaults to 0.4), largest (`float`, *optional*, defaults to 1.3): Factors on it.
        colour (`float`, *optional*, defaults to 0.6): Probability of other brightness, contrast and colour balance.
        soft (`float`, *optional*, defaults to 0.15): Probability of blur, and again of noise.
    """

    figures: RenderedFigures
    as_is: float = 0.25
    smallest: float = 0.4
    largest: float = 1.3
    colour: float = 0.6
    soft: float = 0.15

    def __call__(self, item: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        item = dict(item)
        if rng.random() < 0.5:
            item |= mirrored(item)
        if rng.random() >= self.as_is:
            item |= self._moved(item, rng)
        item["image"] = self._recoloured(item["image"], rng)
        return item

    def _moved(self, item: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        import cv2

        height, width = INPUT_SHAPE
        scale = float(np.exp(rng.uniform(np.log(self.smallest), np.log(self.largest))))
        slack = np.abs(1 - scale) * np.array([width, height]) * 0.5 + 0.08 * np.array([width, height]) * min(scale, 1)
        middle = np.array([width, height]) / 2
        offset = middle - scale * middle + rng.uniform(-slack, slack)  # of pixel edges
        matrix = np.array([[scale, 0, offset[0] + (scale - 1) / 2], [0, scale, offset[1] + (scale - 1) / 2]])

        def warp(image: np.ndarray, flags: int, border: int, value: Any = 0) -> np.ndarray:
            return cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=border, borderValue=value)

        image = item["image"]
        if scale < 0.6:  # less would be seen of thin things than a good reduction shows
            image = cv2.GaussianBlur(image, (0, 0), 0.35 / scale)
        surroundings = rng.choice(["scene", "colour", "pad", "edge"], p=[0.4, 0.25, 0.2, 0.15])
        if surroundings == "edge":
            moved = warp(image, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        else:
            value = PAD if surroundings == "pad" else rng.integers(0, 256, 3).tolist()
            moved = warp(
                image, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, (value,) * 3 if surroundings == "pad" else value
            )
            if surroundings == "scene":
                outside = warp(np.ones(INPUT_SHAPE, np.uint8), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT) == 0
                moved[outside] = self.figures.scene(int(rng.integers(2**31)))[outside]
        joints = item["keypoints"] * [scale, scale, 1] + [matrix[0, 2], matrix[1, 2], 0]
        inside = (joints[:, 2] > 0) & ((joints[:, :2] >= -0.5) & (joints[:, :2] < (width - 0.5, height - 0.5))).all(1)
        return {
            "image": moved,
            "parsing": warp(item["parsing"], cv2.INTER_NEAREST, cv2.BORDER_CONSTANT),
            "densepose": warp(item["densepose"], cv2.INTER_NEAREST, cv2.BORDER_CONSTANT),
            "keypoints": (joints * inside[:, None]).astype(np.float32),
        }

    def _recoloured(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        import cv2

        if rng.random() < self.colour:
            gain = rng.uniform(0.75, 1.2) * rng.uniform(0.92, 1.08, 3)
            level = np.arange(256)[:, None] / 255.0
            curve = 255 * (gain * level ** rng.uniform(0.75, 1.3) + rng.uniform(-0.08, 0.08))
            image = cv2.LUT(image, curve.clip(0, 255).astype(np.uint8)[:, None])
        if rng.random() < self.soft:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
        if rng.random() < self.soft:
            noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 10))
            image = (image + noise).clip(0, 255).astype(np.uint8)
        return image


def mirrored(item: dict[str, Any]) -> dict[str, Any]:
    """The item in a mirror: what was the person's left arm is their right one."""
    joints = item["keypoints"][MIRRORED_JOINTS].copy()
    joints[:, 0] = np.where(joints[:, 2] > 0, item["image"].shape[1] - 1 - joints[:, 0], 0)
    return {
        "image": np.ascontiguousarray(item["image"][:, ::-1]),
        "parsing": MIRRORED_PARSING[item["parsing"][:, ::-1]],
        "densepose": MIRRORED_DENSEPOSE[item["densepose"][:, ::-1]],
        "keypoints": joints,
    }
