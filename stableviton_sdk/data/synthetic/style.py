"""The worlds of rendered figures: what bodies, colours and places each one has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...choices import StyleName
from ...errors import InvalidInput

Range = tuple[float, float]
Palette = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Style:
    """Ranges and palettes that bodies, garments and places are drawn from; lengths in shoulder widths.

    Args:
        name (`str`): Its key in `STYLES`.
        code (`int`): Part of every seed, so that the styles share no draw.
        shoulder_width (`tuple[float, float]`): Distance of the shoulder joints in canvas units (192 wide).
        head_height (`tuple[float, float]`): From chin to crown.
        head_shape (`tuple[float, float]`): Width of the face to its height.
        torso (`tuple[float, float]`): From the shoulder line to the hip joints.
        upper_arm, forearm, thigh, shin (`tuple[float, float]`): Lengths of the bones.
        chest, waist, hip (`tuple[float, float]`): Half widths of the torso.
        thickness (`tuple[float, float]`): Factor on the limbs' width.
        skins, hairs, lowers, fabrics, walls (`tuple`): RGB palettes.
        backgrounds (`dict[str, float]`): Probability of every kind of background.
        hair_styles (`dict[str, float]`): Probability of every hair style.
        eye (`float`): Size of the eyes.
    """

    name: StyleName
    code: int
    shoulder_width: Range
    head_height: Range
    head_shape: Range
    torso: Range
    upper_arm: Range
    forearm: Range
    thigh: Range
    shin: Range
    chest: Range
    waist: Range
    hip: Range
    thickness: Range
    skins: Palette
    hairs: Palette
    lowers: Palette
    fabrics: Palette
    walls: Palette
    backgrounds: dict[str, float]
    hair_styles: dict[str, float]
    eye: float


STUDIO = Style(
    name="studio",
    code=1,
    shoulder_width=(47.0, 62.0),
    head_height=(0.84, 0.93),
    head_shape=(0.76, 0.85),
    torso=(1.36, 1.46),
    upper_arm=(0.82, 0.90),
    forearm=(0.76, 0.84),
    thigh=(1.25, 1.42),
    shin=(1.2, 1.35),
    chest=(0.51, 0.555),
    waist=(0.46, 0.53),
    hip=(0.49, 0.565),
    thickness=(0.92, 1.08),
    skins=(
        (255, 224, 199), (248, 208, 178), (240, 194, 160), (226, 172, 133), (205, 146, 104),
        (180, 120, 80), (150, 96, 62), (120, 76, 50), (96, 60, 42),
    ),
    hairs=(
        (38, 30, 30), (60, 42, 34), (92, 60, 40), (128, 82, 48), (168, 112, 62), (206, 160, 96),
        (232, 200, 140), (150, 66, 40), (184, 84, 48), (150, 150, 154), (214, 212, 210),
    ),
    lowers=(
        (52, 74, 112), (72, 100, 144), (104, 134, 172), (34, 38, 48), (24, 26, 30), (150, 132, 104), (196, 178, 148),
        (96, 100, 76), (120, 60, 52), (232, 228, 220), (110, 112, 120), (60, 66, 60), (150, 88, 60), (86, 66, 96),
    ),
    fabrics=(
        (250, 250, 248), (245, 236, 220), (32, 34, 40), (60, 62, 70), (146, 150, 156), (38, 58, 102), (52, 98, 168),
        (118, 170, 214), (24, 110, 116), (70, 160, 140), (40, 104, 66), (124, 150, 84), (226, 190, 64),
        (240, 214, 130),
        (232, 128, 48), (214, 84, 62), (190, 40, 50), (128, 30, 48), (226, 110, 140), (244, 184, 196), (140, 90, 160),
        (190, 160, 214), (120, 82, 58), (190, 150, 112),
    ),
    walls=(
        (238, 238, 238), (228, 230, 234), (244, 240, 234), (214, 222, 230), (230, 220, 210), (206, 214, 204),
        (222, 206, 200), (196, 206, 220), (246, 232, 214), (180, 190, 200), (210, 200, 220), (160, 176, 180),
    ),
    backgrounds={"plain": 0.3, "gradient": 0.25, "textured": 0.22, "cluttered": 0.23},
    hair_styles={
        "crop": 0.2, "swept": 0.14, "bob": 0.14, "long_back": 0.16, "long_front": 0.14, "bun": 0.08, "ponytail": 0.06,
        "curly": 0.05, "bald": 0.03,
    },
    eye=1.0,
)  # fmt: skip

SHIFTED = Style(
    name="shifted",
    code=2,
    shoulder_width=(42.0, 52.0),
    head_height=(1.02, 1.18),
    head_shape=(0.76, 0.86),
    torso=(1.38, 1.56),
    upper_arm=(0.86, 0.98),
    forearm=(0.72, 0.80),
    thigh=(1.0, 1.2),
    shin=(0.9, 1.1),
    chest=(0.50, 0.575),
    waist=(0.46, 0.57),
    hip=(0.48, 0.57),
    thickness=(0.98, 1.1),
    skins=(
        (255, 214, 186), (250, 222, 206), (236, 182, 146), (214, 156, 122), (192, 132, 96), (164, 106, 76),
        (134, 84, 64), (108, 68, 54), (84, 52, 44),
    ),
    hairs=(
        (46, 40, 66), (232, 130, 150), (120, 190, 200), (240, 200, 90), (150, 110, 190), (90, 50, 40), (226, 110, 60),
        (236, 236, 240), (60, 110, 120), (30, 30, 36),
    ),
    lowers=(
        (84, 84, 160), (200, 90, 110), (60, 140, 130), (230, 180, 80), (70, 60, 90), (240, 220, 210), (110, 150, 200),
        (150, 200, 150), (40, 50, 80), (190, 140, 200),
    ),
    fabrics=(
        (255, 246, 230), (255, 120, 110), (255, 170, 90), (255, 216, 90), (150, 214, 120), (70, 190, 170),
        (80, 170, 230), (90, 110, 220), (160, 100, 220), (240, 120, 200), (255, 190, 200), (190, 230, 220),
        (44, 40, 70), (90, 30, 70), (20, 90, 90), (230, 230, 240),
    ),
    walls=(
        (170, 210, 240), (250, 214, 190), (200, 236, 210), (240, 226, 170), (220, 196, 240), (250, 190, 200),
        (120, 150, 170), (90, 100, 130), (255, 240, 220), (150, 190, 160),
    ),
    backgrounds={"sky": 0.3, "gradient": 0.15, "tiles": 0.25, "bokeh": 0.3},
    hair_styles={
        "crop": 0.15, "swept": 0.15, "bob": 0.2, "long_back": 0.12, "long_front": 0.12, "bun": 0.1, "ponytail": 0.06,
        "curly": 0.08, "bald": 0.02,
    },
    eye=1.5,
)  # fmt: skip

PHOTO = replace(
    STUDIO,
    name="photo",
    code=3,
    skins=(
        (250, 222, 204), (244, 212, 190), (238, 202, 176), (232, 192, 164), (224, 180, 150), (206, 154, 120),
        (180, 126, 92), (146, 98, 70), (112, 74, 54), (84, 56, 44),
    ),
    hairs=(
        (28, 24, 24), (44, 34, 30), (62, 44, 36), (84, 60, 46), (112, 82, 58), (146, 112, 80), (184, 150, 110),
        (214, 184, 140), (128, 62, 40), (170, 90, 56), (140, 138, 138), (206, 202, 198),
    ),
    fabrics=(
        (252, 252, 250), (246, 244, 238), (236, 228, 214), (20, 20, 22), (30, 32, 36), (24, 28, 48), (38, 52, 92),
        (60, 62, 70), (120, 124, 130), (170, 172, 176), (210, 212, 214), (60, 98, 160), (128, 168, 206), (24, 84, 90),
        (44, 92, 62), (104, 116, 78), (222, 176, 60), (240, 212, 150), (232, 120, 44), (206, 78, 60), (188, 28, 40),
        (112, 26, 44), (220, 110, 140), (240, 190, 196), (226, 178, 160), (128, 88, 150), (186, 166, 208),
        (112, 78, 56), (184, 146, 110),
    ),
    walls=(
        (238, 238, 238), (228, 230, 234), (244, 240, 234), (214, 222, 230), (230, 220, 210), (206, 214, 204),
        (222, 206, 200), (196, 206, 220), (246, 232, 214), (150, 150, 150), (90, 96, 104), (180, 120, 100),
        (120, 150, 140), (60, 66, 80),
    ),
)  # fmt: skip

STYLES: dict[str, Style] = {"studio": STUDIO, "shifted": SHIFTED, "photo": PHOTO}


def get_style(name: StyleName | Style) -> Style:
    """Look a style up by its name.

    Raises:
        `InvalidInput`: for a name that isn't one of `STYLES`.
    """
    if isinstance(name, Style):
        return name
    if not isinstance(name, str) or name not in STYLES:
        raise InvalidInput(f"there is no style {name!r}: use one of {', '.join(map(repr, STYLES))}.")
    return STYLES[name]


def check_generator(rng: np.random.Generator) -> None:
    """Refuse anything but a numpy generator.

    Raises:
        `InvalidInput`
    """
    if not isinstance(rng, np.random.Generator):
        raise InvalidInput(f"rng is a {type(rng).__name__}: pass a numpy generator, such as np.random.default_rng(0).")


def pick(rng: np.random.Generator, chances: dict[str, float]) -> str:
    """Draw a key with its probability."""
    names = list(chances)
    edges = np.cumsum(list(chances.values()))
    return names[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(names) - 1)]


def pick_colour(rng: np.random.Generator, palette: Palette, jitter: float = 8.0) -> np.ndarray:
    """Draw a colour of a palette and vary it a little; float64 RGB in [0, 255]."""
    colour = np.array(palette[int(rng.integers(len(palette)))], dtype=np.float64)
    shift = rng.normal(0.0, jitter / 2, 4)
    return (colour + shift[:3] + shift[3]).clip(0, 255)


def darker(colour: np.ndarray, amount: float) -> np.ndarray:
    """Mix towards a cool black: 0 leaves the colour, 1 is black."""
    return colour * (1 - amount) + np.array([10.0, 8.0, 16.0]) * amount


def lighter(colour: np.ndarray, amount: float) -> np.ndarray:
    """Mix towards white: 0 leaves the colour, 1 is white."""
    return colour * (1 - amount) + 255.0 * amount
