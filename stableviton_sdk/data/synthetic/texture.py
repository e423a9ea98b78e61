"""What is woven into or printed on a fabric: patterns over fabric coordinates, and graphics."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from .canvas import Canvas, Points, blend, ellipse_points, flood, ramp, rotate, xy
from .style import Style, darker, lighter, pick, pick_colour

PATTERNS = {
    "solid": 0.33, "stripes": 0.15, "breton": 0.06, "pinstripes": 0.05, "diagonal": 0.04, "multi_stripes": 0.05,
    "gingham": 0.05, "plaid": 0.05, "windowpane": 0.03, "checkerboard": 0.02, "dots": 0.07, "gradient": 0.04,
    "blocks": 0.05, "chevron": 0.03, "scatter": 0.06, "patches": 0.04,
}  # fmt: skip
GRAPHICS = {"none": 0.5, "emblem": 0.17, "letters": 0.15, "number": 0.06, "small_emblem": 0.08, "band": 0.04}
GRAPHICS_ON_PATTERN = {"none": 0.86, "emblem": 0.05, "letters": 0.04, "small_emblem": 0.05}
SHAPES = (
    "disc", "ring", "star", "heart", "triangle", "diamond", "flower", "sun", "bolt", "leaf", "cross", "smile",
    "mountain",
)  # fmt: skip
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


@dataclass(frozen=True, eq=False)
class Graphic:
    """A print: an emblem, letters, or a band.

    Args:
        kind (`str`): A key of `GRAPHICS`.
        shape (`str`): An emblem's shape.
        text (`str`): The letters or digits.
        centre (`tuple[float, float]`): u, v on the torso.
        size (`float`): Height in shoulder widths.
        colours (`np.ndarray`): RGB, (2, 3).
        font (`int`): One of OpenCV's.
    """

    kind: str
    shape: str
    text: str
    centre: tuple[float, float]
    size: float
    colours: np.ndarray
    font: int


@dataclass(frozen=True, eq=False)
class Design:
    """A fabric's pattern; lengths in shoulder widths.

    Args:
        pattern (`str`): A key of `PATTERNS`.
        colours (`np.ndarray`): RGB, (3, 3): ground, figure, accent.
        period (`float`): Length after which it repeats.
        duty (`float`): Share of the period that the figure covers.
        phase (`float`): Phase in periods.
        angle (`float`): Degrees.
        seed (`int`): Seed of patterns that scatter.
        graphic (`Graphic`): The print on the chest.
    """

    pattern: str
    colours: np.ndarray
    period: float
    duty: float
    phase: float
    angle: float
    seed: int
    graphic: Graphic = field(repr=False)

    @property
    def textured(self) -> bool:
        """Whether there is anything to see besides one colour."""
        return self.pattern != "solid" or self.graphic.kind != "none"


def sample_design(rng: np.random.Generator, style: Style, pattern: str | None, graphic: str | None) -> Design:
    """Draw a fabric; `pattern` and `graphic` fix what is otherwise drawn."""
    drawn = pick(rng, PATTERNS)
    pattern = drawn if pattern is None else pattern
    colours = np.stack([pick_colour(rng, style.fabrics) for _ in range(3)])
    colours = colours[np.argsort(_luminance(colours))][::-1] if pattern in ("gingham", "breton") else colours
    if pattern != "solid" and abs(_luminance(colours[0]) - _luminance(colours[1])) < 38:
        colours[1] = darker(colours[0], 0.55) if _luminance(colours[0]) > 128 else lighter(colours[0], 0.6)
    period = {
        "stripes": (0.12, 0.34), "breton": (0.12, 0.2), "pinstripes": (0.09, 0.16), "diagonal": (0.16, 0.34),
        "multi_stripes": (0.3, 0.55), "gingham": (0.12, 0.24), "plaid": (0.32, 0.55), "windowpane": (0.2, 0.34),
        "checkerboard": (0.24, 0.44), "dots": (0.12, 0.28), "chevron": (0.2, 0.4), "scatter": (0.24, 0.38),
    }.get(pattern, (0.3, 0.6))  # fmt: skip
    duty = {"breton": (0.25, 0.4), "pinstripes": (0.16, 0.26), "windowpane": (0.1, 0.16), "dots": (0.26, 0.4)}
    upright = pattern == "pinstripes" or (pattern in ("stripes", "multi_stripes") and rng.random() < 0.3)
    angle = 90.0 if upright else float(rng.choice([30.0, 45.0, -45.0, -30.0])) if pattern == "diagonal" else 0.0
    return Design(
        pattern,
        colours,
        float(rng.uniform(*period)),
        float(rng.uniform(*duty.get(pattern, (0.4, 0.6)))),
        float(rng.random()),
        angle,
        int(rng.integers(2**31)),
        _sample_graphic(rng, style, colours, pattern, graphic),
    )


def _sample_graphic(rng, style: Style, colours: np.ndarray, pattern: str, kind: str | None) -> Graphic:
    drawn = pick(rng, GRAPHICS if pattern == "solid" else GRAPHICS_ON_PATTERN)
    kind = drawn if kind is None else kind
    ink = np.stack([pick_colour(rng, style.fabrics) for _ in range(2)])
    for index in range(2):
        if abs(_luminance(ink[index]) - _luminance(colours[0])) < 60:
            ink[index] = darker(ink[index], 0.7) if _luminance(colours[0]) > 120 else lighter(ink[index], 0.75)
    small = kind == "small_emblem"
    centre = (float(rng.choice([-0.42, 0.42])), 0.24) if small else (0.0, float(rng.uniform(0.32, 0.42)))
    size = {"small_emblem": (0.12, 0.17), "emblem": (0.32, 0.52), "number": (0.4, 0.55), "letters": (0.2, 0.34)}
    count = int(rng.integers(1, 6))
    text = "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), count))
    if kind == "number":
        text = str(int(rng.integers(1, 100)))
    return Graphic(
        kind, SHAPES[int(rng.integers(len(SHAPES)))], text, centre, float(rng.uniform(*size.get(kind, (0.16, 0.26)))),
        ink, FONTS[int(rng.integers(len(FONTS)))],
    )  # fmt: skip


def weave(design: Design, a: np.ndarray, b: np.ndarray, soft: float, top: float, bottom: float) -> np.ndarray:
    """Colour of the fabric at coordinates a (across) and b (down).

    Args:
        design (`Design`): The pattern.
        a, b (`np.ndarray`): Fabric coordinates in shoulder widths, float32, broadcastable to (h, w).
        soft (`float`): Width of a subpixel in the same unit, for edges without stairs.
        top, bottom (`float`): The garment's extent in b, for gradients and blocks.

    Returns:
        `np.ndarray`: uint8 RGB, broadcastable to (h, w, 3).
    """
    ground, figure, accent = design.colours
    period, duty, phase = design.period, design.duty, design.phase
    name, fine = design.pattern, soft / design.period
    if name in ("stripes", "breton", "pinstripes", "diagonal"):
        return ramp(_bars(_turned(a, b, design.angle) / period + phase, duty, fine), ground, figure)
    if name == "multi_stripes":
        along = _turned(a, b, design.angle) / period + phase
        return _over(ramp(_bars(along, 0.38, fine), ground, figure), accent, _bars(along + 0.5, 0.16, fine))
    if name == "gingham":
        return ramp((_bars(a / period, 0.5, fine) + _bars(b / period + phase, 0.5, fine)) * 0.5, ground, figure)
    if name == "plaid":
        across, down = a / period, b / period + phase
        wide = (_bars(across, 0.42, fine) + _bars(down, 0.42, fine)) * 0.42
        thin = np.maximum(_bars(across + 0.5, 0.09, fine), _bars(down + 0.5, 0.09, fine)) * 0.8
        return _over(ramp(wide, ground, figure), accent, thin)
    if name == "windowpane":
        return ramp(np.maximum(_bars(a / period, duty, fine), _bars(b / period + phase, duty, fine)), ground, figure)
    if name == "checkerboard":
        across, down = (_bars(value, 0.5, fine) for value in (a / period, b / period + phase))
        return ramp(across + down - 2 * across * down, ground, figure)
    if name == "dots":
        row = b / period + phase
        column = a / period + 0.5 * (np.floor(row) % 2)
        squared = _centred(column) ** 2 + _centred(row) ** 2
        return ramp(_step((duty**2 - squared) / (2 * duty), fine), ground, figure)
    if name == "gradient":
        return ramp(np.clip((b - top) / (bottom - top), 0, 1), ground, figure)
    if name == "blocks":
        edge = top + (bottom - top) * (0.25 + 0.4 * phase)
        cloth = ramp(_step(b - edge, soft), ground, figure)
        return _over(cloth, accent, _step(0.05 - np.abs(b - edge), soft)) if duty > 0.5 else cloth
    if name == "chevron":
        zigzag = np.abs(_centred(a / period)) * 0.9
        return ramp(_bars(b / period * 1.4 + phase + zigzag, duty, 1.4 * fine), ground, figure)
    if name == "patches":
        return _patches(design, a, b, soft)
    return ground.astype(np.uint8)[None, None]


def _patches(design: Design, a: np.ndarray, b: np.ndarray, soft: float) -> np.ndarray:
    """Smooth blots in two colours; drawn coarsely, since nothing in them is fine."""
    rng = np.random.default_rng(design.seed)
    height, width = np.broadcast_shapes(a.shape, b.shape)
    cloth = design.colours[0].astype(np.uint8)[None, None]
    for colour in design.colours[1:]:
        turn, pace = rng.uniform(0, 7, 4), rng.uniform(3.0, 7.5, 4)
        waves = sum(
            np.sin((x * a[::4, ::4] + y * b[::4, ::4] + start).astype(np.float32))
            for x, y, start in zip(pace * np.cos(turn), pace * np.sin(turn), rng.uniform(0, 7, 4), strict=True)
        )
        waves = cv2.resize(waves, (width, height), interpolation=cv2.INTER_LINEAR)
        cloth = _over(cloth, colour, _step(waves - 0.55, 8 * soft))
    return cloth


def scatter(design: Design, low: Points, high: Points) -> list[tuple[Points, np.ndarray]]:
    """Motifs of the `"scatter"` pattern between two corners: outlines in shoulder widths, and their colours."""
    rng = np.random.default_rng(design.seed)
    shape = str(rng.choice([shape for shape in SHAPES if shape not in ("smile", "ring", "mountain")]))
    outlines = emblem(shape)
    motifs = []
    step = design.period
    for row, y in enumerate(np.arange(low[1], high[1] + step, step)):
        for x in np.arange(low[0], high[0] + step, step) + (row % 2) * step / 2:
            colour = design.colours[1 if rng.random() < 0.7 else 2]
            jitter, turn = rng.uniform(-0.08, 0.08, 2) * step, rng.uniform(-25, 25)
            motifs += [(rotate(points, turn) * 0.36 * step + (x, y) + jitter, colour) for points, _ in outlines]
    return motifs


@lru_cache(maxsize=len(SHAPES))
def emblem(shape: str) -> list[tuple[Points, int]]:
    """An emblem within [-1, 1]: outlines and which of the graphic's colours (-1 for the ground) fills each."""
    if shape == "disc":
        return [(ellipse_points((0, 0), (1, 1)), 0)]
    if shape == "ring":
        return [(ellipse_points((0, 0), (1, 1)), 0), (ellipse_points((0, 0), (0.62, 0.62)), -1)]
    if shape in ("star", "sun"):
        points = 5 if shape == "star" else 12
        turn = np.arange(2 * points) * np.pi / points - np.pi / 2
        radius = np.where(np.arange(2 * points) % 2, 0.42 if shape == "star" else 0.7, 1.0)
        return [(xy(radius * np.cos(turn), radius * np.sin(turn)), 0)]
    if shape == "heart":
        t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return [(xy(np.sin(t) ** 3, -(y + 2.5) / 15.5), 0)]
    if shape == "triangle":
        return [(np.array([[0, -1], [0.95, 0.75], [-0.95, 0.75]]), 0)]
    if shape == "diamond":
        return [(np.array([[0, -1], [0.75, 0], [0, 1], [-0.75, 0]]), 0)]
    if shape == "flower":
        petals = [(ellipse_points(0.58 * _spoke(i * 72), (0.42, 0.42), count=20), 0) for i in range(5)]
        return [*petals, (ellipse_points((0, 0), (0.3, 0.3), count=20), 1)]
    if shape == "bolt":
        return [(np.array([[0.2, -1], [-0.6, 0.15], [-0.08, 0.15], [-0.25, 1], [0.6, -0.25], [0.08, -0.25]]), 0)]
    if shape == "leaf":
        t = np.linspace(0, np.pi, 16)
        side = xy(0.55 * np.sin(t), -np.cos(t))
        return [(np.concatenate([side, side[::-1] * (-1, 1)]), 0)]
    if shape == "cross":
        arm, end = 0.34, 1.0
        corner = [(-arm, -end), (arm, -end), (arm, -arm), (end, -arm), (end, arm), (arm, arm)]
        return [(np.array(corner + [(-x, -y) for x, y in corner]), 0)]
    if shape == "smile":
        t = np.linspace(0.15 * np.pi, 0.85 * np.pi, 14)
        mouth = np.concatenate([
            xy(0.6 * np.cos(t), 0.6 * np.sin(t)),
            xy(0.44 * np.cos(t), 0.4 * np.sin(t))[::-1],
        ])  # fmt: skip
        eyes = [(ellipse_points((x, -0.25), (0.12, 0.2), count=16), 1) for x in (-0.32, 0.32)]
        return [(ellipse_points((0, 0), (1, 1)), 0), *eyes, (mouth, 1)]
    peaks = np.array([[-1, 0.8], [-0.35, -0.45], [0.0, 0.15], [0.35, -0.2], [1, 0.8]])
    return [(peaks, 0), (ellipse_points((0.45, -0.62), (0.26, 0.26), count=20), 1)]


def lettering(
    canvas: Canvas, image: np.ndarray, text: str, centre: Points, height: float, widest: float, font: int,
    colour: np.ndarray, origin: tuple[int, int],
) -> None:  # fmt: skip
    """Write letters centred on a point, in place; height and widest line in canvas units."""
    (width, tall), _ = cv2.getTextSize(text, font, 1.0, 2)
    size = min(height * canvas.scale / tall, widest * canvas.scale / width)
    thickness = max(1, round(size * tall * 0.13))
    x, y = np.asarray(centre) * canvas.scale - (origin[1], origin[0]) + (-width * size / 2, tall * size / 2)
    ink = [min(max(float(value), 0.0), 255.0) for value in colour]
    cv2.putText(image, text, (round(x), round(y)), font, size, ink, thickness, cv2.LINE_AA)


def _spoke(degrees: float) -> np.ndarray:
    return np.array([np.sin(np.radians(degrees)), -np.cos(np.radians(degrees))])


def _luminance(colour: np.ndarray) -> np.ndarray:
    return colour @ np.array([0.299, 0.587, 0.114])


def _turned(a: np.ndarray, b: np.ndarray, angle: float) -> np.ndarray:
    """The coordinate across the stripes: b for level ones, a for upright ones."""
    if angle == 0:
        return b
    if angle == 90:
        return a
    return float(np.sin(np.radians(angle))) * a + float(np.cos(np.radians(angle))) * b


def _centred(value: np.ndarray) -> np.ndarray:
    """Distance to the middle of the period, in [-0.5, 0.5)."""
    return value - np.floor(value) - 0.5


def _step(value: np.ndarray, soft: float) -> np.ndarray:
    """0 below zero, 1 above, a ramp of width `soft` between."""
    return (value * (1 / soft) + 0.5).clip(0, 1)


def _bars(value: np.ndarray, duty: float, soft: float) -> np.ndarray:
    return _step(duty / 2 - np.abs(_centred(value)), soft)


def _over(cloth: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Lay a colour over a cloth; both broadcast."""
    shape = np.broadcast_shapes(cloth.shape[:2], share.shape)
    result = np.array(np.broadcast_to(cloth, (*shape, 3)), order="C")
    alpha = cv2.convertScaleAbs(np.ascontiguousarray(np.broadcast_to(share, shape), dtype=np.float32), alpha=255.0)
    ink = np.empty_like(result)
    flood(ink, colour)
    blend(result, ink, alpha)
    return result
