"""Places that figures stand in front of: studio walls, gradients, textures, rooms, skies, tiles, lights."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Canvas, Layer, ellipse_points, flood, ramp, shaded, steps, tint, xy
from .style import Style, darker, lighter, pick_colour


def draw_background(kind: str, style: Style, seed: int, shape: tuple[int, int]) -> np.ndarray:
    """Draw a place.

    Args:
        kind (`str`): A key of `Style.backgrounds`.
        style (`Style`): Whose palette is used.
        seed (`int`): Decides everything else.
        shape (`tuple[int, int]`): Height and width.

    Returns:
        `np.ndarray`: uint8 RGB, (H, W, 3).
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(shape, supersample=1)
    wall = pick_colour(rng, style.walls)
    image = np.empty((*shape, 3), np.uint8)
    flood(image, wall)
    _DRAWERS[kind](image, canvas, style, wall, rng)
    return image


def _plain(image, canvas, style, wall, rng) -> None:
    x, y = _grid(canvas)
    vignette = ((x - 96) / 96) ** 2 + ((y - 110) / 150) ** 2
    image[...] = shaded(1.02 - rng.uniform(0.02, 0.08) * vignette, wall)
    if rng.random() < 0.5:
        _floor(image, canvas, darker(wall, 0.08), rng.uniform(222, 246))


def _gradient(image, canvas, style, wall, rng) -> None:
    x, y = _grid(canvas)
    if rng.random() < 0.35:
        squared = ((x - rng.uniform(40, 150)) / 150) ** 2 + ((y - rng.uniform(40, 160)) / 180) ** 2
        share = np.sqrt(squared)
    else:
        angle = rng.uniform(-0.7, 0.7)
        share = (np.sin(angle) * x + np.cos(angle) * y) / 240
    image[...] = ramp(np.clip(share, 0, 1), wall, pick_colour(rng, style.walls))


def _textured(image, canvas, style, wall, rng) -> None:
    kind = rng.integers(5)
    if kind == 0:  # plaster
        image[...] = shaded(1 + _noise(rng, canvas, 9, 0.03) + _noise(rng, canvas, 40, 0.02), wall)
    elif kind == 1:  # planks
        wood = pick_colour(rng, ((196, 160, 120), (170, 130, 96), (214, 190, 160), (130, 112, 100)))
        image[...] = shaded(1 + _noise(rng, canvas, (4, 60), 0.07), wood)
        _lines(image, canvas, darker(wood, 0.3), np.arange(rng.uniform(5, 25), 192, rng.uniform(18, 32)), ())
    elif kind == 2:  # wallpaper stripes
        x, _ = _grid(canvas)
        stripe = np.clip(np.sin(x * (2 * np.pi / rng.uniform(9, 24))) * 6, 0, 1)
        image[...] = shaded(1 - rng.uniform(0.04, 0.1) * stripe, wall)
    elif kind == 3:  # wallpaper dots
        step, dot = rng.uniform(12, 22), lighter(wall, 0.5) if wall.mean() < 215 else darker(wall, 0.12)
        for row, y in enumerate(np.arange(step / 2, 256, step)):
            for x in np.arange(step / 2 + (row % 2) * step / 2, 192 + step, step):
                _disc(image, canvas, (x, y), 0.14 * step, dot)
    else:
        _bricks(image, canvas, wall, rng, rng.uniform(8, 13))


def _cluttered(image, canvas, style, wall, rng) -> None:
    _plain(image, canvas, style, wall, rng)
    level = rng.uniform(196, 236)
    _floor(image, canvas, pick_colour(rng, ((150, 120, 92), (120, 100, 84), (180, 160, 140), (140, 146, 150))), level)
    furniture = (_frame, _window, _plant, _shelf, _lamp, _frame, _door)
    for index in rng.permutation(len(furniture))[: rng.integers(3, 6)]:
        furniture[index](image, canvas, style, level, rng)


def _sky(image, canvas, style, wall, rng) -> None:
    top = pick_colour(rng, ((120, 180, 240), (90, 150, 220), (250, 190, 150), (150, 130, 200)))
    _, y = _grid(canvas)
    image[...] = ramp(np.clip(y / 170, 0, 1), top, lighter(top, 0.6))
    for _ in range(rng.integers(2, 6)):
        x, height = rng.uniform(0, 192), rng.uniform(10, 110)
        for _ in range(4):
            centre = (x + rng.uniform(-14, 14), height + rng.uniform(-3, 3))
            cloud = ellipse_points(centre, (rng.uniform(8, 16), rng.uniform(4, 8)))
            canvas.fill(image, cloud, np.array([252.0, 252, 255]))
    for depth in range(3):
        colour = pick_colour(rng, ((120, 180, 100), (90, 150, 90), (150, 190, 110), (110, 140, 160)))
        x = 212 * steps(30) - 10
        level = 150 + 28 * depth + rng.uniform(4, 14) * np.sin(x / rng.uniform(18, 40) + rng.uniform(0, 6))
        canvas.fill(image, np.concatenate([xy(x, level), [(202, 260), (-10, 260)]]), colour)


def _tiles(image, canvas, style, wall, rng) -> None:
    other = pick_colour(rng, style.walls)
    if rng.random() < 0.5:
        _bricks(image, canvas, wall, rng, rng.uniform(10, 18))
        return
    step = rng.uniform(14, 30)
    x, y = _grid(canvas)
    image[...] = ramp((np.floor(x / step) + np.floor(y / step)) % 2, wall, 0.4 * wall + 0.6 * other)
    lines = np.arange(0, 256, step)
    _lines(image, canvas, lighter(wall, 0.4), lines, lines)


def _bokeh(image, canvas, style, wall, rng) -> None:
    _, y = _grid(canvas)
    image[...] = shaded((1.1 - y / 700) * rng.uniform(0.35, 0.6), wall)
    for _ in range(rng.integers(12, 28)):
        layer = canvas.polygon(ellipse_points(rng.uniform((0, 0), (192, 220)), (radius := rng.uniform(4, 16), radius)))
        cv2.multiply(layer.alpha, layer.alpha, layer.alpha, scale=rng.uniform(0.15, 0.5) / 255)
        tint(image, layer, lighter(pick_colour(rng, style.walls), 0.3))


def _frame(image, canvas, style, level, rng) -> None:
    x, y = rng.uniform(0, 180), rng.uniform(14, 110)
    width, height = rng.uniform(20, 46), rng.uniform(20, 50)
    _box(image, canvas, x, y, width, height, np.full(3, rng.uniform(30, 90)))
    _box(image, canvas, x + 2, y + 2, width - 4, height - 4, np.full(3, 240.0))
    _box(image, canvas, x + 5, y + 5, width - 10, height - 10, pick_colour(rng, style.fabrics))
    centre = (x + width * rng.uniform(0.3, 0.7), y + height * rng.uniform(0.4, 0.6))
    _disc(image, canvas, centre, width * 0.16, pick_colour(rng, style.fabrics))


def _window(image, canvas, style, level, rng) -> None:
    x, y, width, height = rng.uniform(-20, 150), rng.uniform(4, 40), rng.uniform(44, 74), rng.uniform(70, 120)
    _box(image, canvas, x, y, width, height, np.full(3, 246.0))
    sky = pick_colour(rng, ((190, 216, 240), (206, 226, 236), (240, 220, 190), (110, 130, 170)))
    for column in range(2):
        for row in range(2):
            pane = (x + 3 + column * (width - 3) / 2, y + 3 + row * (height - 3) / 2)
            _box(image, canvas, *pane, (width - 9) / 2, (height - 9) / 2, lighter(sky, 0.2 * row))


def _plant(image, canvas, style, level, rng) -> None:
    x = rng.choice([rng.uniform(4, 40), rng.uniform(152, 188)])
    pot = pick_colour(rng, ((196, 110, 80), (230, 226, 220), (90, 96, 104), (210, 170, 110)))
    outline = np.array([[x - 11, level - 12], [x + 11, level - 12], [x + 8, level + 14], [x - 8, level + 14]])
    green = pick_colour(rng, ((70, 130, 80), (90, 150, 90), (50, 110, 90), (120, 150, 70)))
    for _ in range(rng.integers(7, 13)):
        lean, length = rng.uniform(-50, 50), rng.uniform(20, 52)
        tip = (x + length * np.sin(np.radians(lean)) * 0.55, level - 12 - length * np.cos(np.radians(lean)) * 0.55)
        leaf = ellipse_points(tip, (rng.uniform(3, 6), length / 2), lean, count=18)
        canvas.fill(image, leaf, darker(green, rng.uniform(0, 0.3)))
    canvas.fill(image, outline, pot)


def _shelf(image, canvas, style, level, rng) -> None:
    x, y, width = rng.uniform(-10, 140), rng.uniform(40, 120), rng.uniform(40, 64)
    _box(image, canvas, x, y, width, 4, pick_colour(rng, ((150, 110, 80), (230, 226, 220), (90, 70, 60))))
    left = x + 2.0
    while left < x + width - 6:
        book, height = rng.uniform(3, 7), rng.uniform(14, 26)
        _box(image, canvas, left, y - height, book, height, pick_colour(rng, style.fabrics))
        left += book + (rng.uniform(0, 8) if rng.random() < 0.3 else 0.4)


def _lamp(image, canvas, style, level, rng) -> None:
    x, top = rng.choice([rng.uniform(8, 44), rng.uniform(148, 184)]), rng.uniform(50, 90)
    canvas.line(image, 2.0, np.array([[x, top], [x, level + 8]]), np.full(3, 70.0))
    shade = np.array([[x - 8, top], [x + 8, top], [x + 15, top + 24], [x - 15, top + 24]])
    canvas.fill(image, shade, pick_colour(rng, ((250, 232, 190), (240, 240, 236), (220, 150, 110))))
    canvas.fill(image, ellipse_points((x, level + 8), (10, 2.4)), np.full(3, 60.0))


def _door(image, canvas, style, level, rng) -> None:
    x, width, top = rng.uniform(-14, 150), rng.uniform(44, 58), rng.uniform(16, 40)
    colour = pick_colour(rng, ((236, 232, 226), (150, 116, 90), (110, 130, 130), (200, 190, 176)))
    _box(image, canvas, x, top, width, level - top, darker(colour, 0.15))
    _box(image, canvas, x + 3, top + 3, width - 6, level - top - 3, colour)
    for y, height in ((top + 10, 50), (top + 72, 60)):
        _box(image, canvas, x + 9, y, width - 18, height, darker(colour, 0.08))
    _disc(image, canvas, (x + width - 8, (top + level) / 2 + 10), 2.0, np.array([210.0, 180, 110]))


_DRAWERS = {
    "plain": _plain, "gradient": _gradient, "textured": _textured, "cluttered": _cluttered, "sky": _sky,
    "tiles": _tiles, "bokeh": _bokeh,
}  # fmt: skip


def _grid(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    return canvas.fields((0, 0, canvas.height, canvas.width))


def _box(image, canvas: Canvas, x: float, y: float, width: float, height: float, colour: np.ndarray) -> None:
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    canvas.fill(image, corners, colour)


def _disc(image, canvas: Canvas, centre, radius: float, colour: np.ndarray) -> None:
    canvas.fill(image, ellipse_points(centre, (radius, radius), count=16), colour)


def _floor(image, canvas: Canvas, colour: np.ndarray, level: float) -> None:
    _box(image, canvas, -2, level, 196, 260 - level, colour)


def _lines(image, canvas: Canvas, colour: np.ndarray, columns, rows) -> None:
    for x in columns:
        canvas.line(image, 1.0, np.array([[x, -2.0], [x, 258.0]]), colour)
    for y in rows:
        canvas.line(image, 1.0, np.array([[-2.0, y], [194.0, y]]), colour)


def _bricks(image, canvas: Canvas, wall: np.ndarray, rng, height: float) -> None:
    x, y = _grid(canvas)
    width = height * rng.uniform(1.8, 2.6)
    row = np.floor(y / height)
    across, down = x / width + 0.5 * (row % 2), y / height
    tone = rng.normal(0, 0.035, (64, 64)).astype(np.float32)
    image[...] = shaded(1 + tone[row.astype(int) % 64, np.floor(across).astype(int) % 64], wall)
    joint = np.maximum(
        np.abs(across % 1 - 0.5) * 2 - (1 - 1.6 / width), np.abs(down % 1 - 0.5) * 2 - (1 - 1.6 / height)
    )
    share = cv2.convertScaleAbs(np.clip(joint * (height / 0.8), 0, 1), alpha=255.0)
    tint(image, Layer(0, 0, share, 1), lighter(wall, 0.45) if wall.mean() < 190 else darker(wall, 0.14))


def _noise(rng, canvas: Canvas, cells: int | tuple[int, int], strength: float) -> np.ndarray:
    rows, columns = cells if isinstance(cells, tuple) else (cells, max(2, cells * 3 // 4))
    coarse = rng.normal(0, strength, (rows, columns)).astype(np.float32)
    return cv2.resize(coarse, (canvas.width, canvas.height), interpolation=cv2.INTER_CUBIC)
