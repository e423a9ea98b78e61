"""A figure wears a garment: the flat fabric, sampled through the body's map, shaded, between skin, hair and hands."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import InvalidInput
from .background import draw_background
from .body import Body, widest_sleeve
from .canvas import (
    Box,
    Canvas,
    Layer,
    Overlay,
    bell,
    blend,
    enlarge,
    intersect,
    paste,
    repeated,
    restrict,
    sampled,
    shape_of,
    shrink,
    soften,
    steps,
    xy,
)
from .densepose import draw_densepose
from .figure import OPAQUE, arm_half_width, arm_overlay, draw_base, hand_overlay
from .garment import Garment
from .geometry import Arm
from .head import head_overlay
from .labels import ARMS, CIHP, NOTHING, WHOLE, mark

SLEEVES = ("right_sleeve", "left_sleeve")
DRAPE = {"slim": 0.22, "regular": 0.3, "loose": 0.4}  # depth of the folds


@dataclass(frozen=True, eq=False)
class Rendering:
    """A figure in a garment.

    Args:
        person (`np.ndarray`):
            RGB, (H, W, 3): uint8 in [0, 255]; float32, unrounded, where the garment's fabric is float32.
        parsing (`np.ndarray`): CIHP labels, uint8, (H, W).
        worn_mask (`np.ndarray`): bool, (H, W), True for every pixel that shows any of the garment, however little.
        coverage (`np.ndarray`):
            float32 in [0, 1], (H, W): how much of the pixel shows the garment's panel that `correspondence` is about.
        correspondence (`np.ndarray`):
            float32, (H, W, 2): for every worn pixel the x, y of its fabric in pixels of the garment's image, whole
            numbers being pixel centres; NaN elsewhere.
    """

    person: np.ndarray
    parsing: np.ndarray
    worn_mask: np.ndarray
    coverage: np.ndarray
    correspondence: np.ndarray


@dataclass(frozen=True, eq=False)
class Surface:
    """Where on the canvas a panel may lie. All fields are float32 at the final image's pixel centres, (h, w)."""

    box: Box
    first: np.ndarray  # u, or s
    second: np.ndarray  # v, or t
    light: np.ndarray
    folds: np.ndarray

    def within(self, box: Box, step: int) -> Surface:
        """The part of it that lies in a box."""
        top, left, bottom, right = self.box
        cut = max(top, box[0]), max(left, box[1]), min(bottom, box[2]), min(right, box[3])
        rows, columns = (slice((cut[i] - self.box[i]) // step, (cut[i + 2] - self.box[i]) // step) for i in (0, 1))
        fields = (field[rows, columns] for field in (self.first, self.second, self.light, self.folds))
        return Surface(cut, *fields)


class Stage:
    """One body at one size, ready to wear any number of garments.

    Args:
        body (`Body`): The figure.
        size (`tuple[int, int]`, *optional*, defaults to `(192, 256)`): Width and height of the images in pixels.
    """

    def __init__(self, body: Body, size: tuple[int, int] = (192, 256)):
        self.body = body
        self.shape: tuple[int, int] = shape_of(size)
        self.size: tuple[int, int] = self.shape[::-1]
        self.canvas: Canvas = Canvas(self.shape)
        canvas = self.canvas
        self.keypoints: np.ndarray = body.joints(self.shape)
        self._torso = self._torso_surface()
        self._arms = [self._arm_surface(arm) for arm in body.arms]
        background = draw_background(body.background, body.style, body.details, self.shape)
        self._base = repeated(background, canvas.supersample)
        self._labels = np.zeros(self.shape, np.uint8)
        self._lower = draw_base(self._base, self._labels, body, canvas, self._reach())
        # Where an upper garment ends, however it is cut: in the waistband, or at the hem that all of them share.
        end = body.legs.top + (0.012 if body.tucked else 0.004)
        corners = [(-1.4, -0.5), (0, -0.5), (1.4, -0.5), *((u, end) for u in 1.4 - 2.8 * steps(15))]
        self._above_hem = canvas.polygon(body.torso.to_canvas(np.array(corners)))
        self._bare_arms = [
            arm_overlay(body, arm, canvas, surface.box, self._skin_light(surface))
            for arm, surface in zip(body.arms, self._arms, strict=True)
        ]
        self._hands = [hand_overlay(body, arm, side, canvas) for side, arm in enumerate(body.arms)]
        self._head, self._head_labels = head_overlay(body, canvas)

    def dress(self, garment: Garment, *, shading: bool = True) -> Rendering:
        """Put a garment on.

        Args:
            garment (`Garment`): A garment of the stage's size.
            shading (`bool`, *optional*, defaults to `True`): False leaves the fabric's colours as they are.

        Raises:
            `InvalidInput`: if the garment was drawn at another size.
        """
        check_garment_size(garment, self.size)
        drawing = Drawing(self._base.astype(garment.fabric.dtype, copy=True), self._labels.copy())
        self._wear(drawing, garment, "torso", self._torso, shading)
        cuffs = []
        for side, name in enumerate(SLEEVES):
            drawing.lay(self._bare_arms[side])
            mark(drawing.labels, self._bare_arms[side].layer, ARMS[side])
            worn = name in garment.panels
            cuffs.append(self._wear(drawing, garment, name, self._sleeved(side, garment), shading) if worn else None)
        drawing.lay(self._head)
        paste(drawing.labels[self._head.layer.pixels], self._head_labels, self._head_labels != NOTHING)
        for side, cuff in enumerate(cuffs):
            hand = self._hands[side] if cuff is None else self._hands[side].beneath(cuff)
            drawing.lay(hand)
            mark(drawing.labels, hand.layer, ARMS[side], WHOLE)
        return drawing.finish(self.canvas.supersample)

    def densepose(self) -> np.ndarray:
        """DensePose's body-part labels, which see the body through its clothes: uint8 in 0..24, (H, W)."""
        return draw_densepose(self.body, self.shape)

    def _torso_surface(self) -> Surface:
        body, canvas = self.body, self.canvas
        edge = np.array([[u, v] for u in (-1.22, 0.0, 1.22) for v in (-0.28, 0.5, 1.06)])
        box = canvas.box(body.torso.to_canvas(edge), 2.0)
        x, y = self.canvas.centres(box)
        u, v = body.torso.to_fabric(x, y)
        size = np.abs(u)
        turned = np.minimum(size, 1.3)
        light = 1.02 - 0.2 * (turned * turned * turned) - 0.07 * body.light * u - 0.24 * self._arms_shadow(box)
        folds = np.zeros_like(light)
        near = bell((size - 0.85) * 2)
        for offset, sharp, depth in ((0.0, 28.0, 0.5), (0.11, 33.0, 0.35)):  # drawn from the armpits to the middle
            fall = v - 0.22 - 0.35 * (1 - size) + offset
            folds -= near * bell(fall * sharp) * depth
        low = ((v - 0.62) / 0.38).clip(0, 1)  # bunched above the waistband, or falling in waves
        if body.tucked:
            folds -= low**2 * (0.225 + 0.225 * np.cos(11.0 * u))
        else:
            folds -= low * (0.15 + 0.15 * np.cos(6.5 * u + 0.6))
        return Surface(box, u, v, light, folds)

    def _arm_surface(self, arm: Arm) -> Surface:
        s = 1.2 * steps(12) - 0.14
        wide = widest_sleeve(s)
        box = self.canvas.box(arm.to_canvas(np.concatenate([xy(s, wide), xy(s, -wide)])), 1.5)
        x, y = self.canvas.centres(box)
        s, t = arm.to_fabric(x, y)
        across = (t * 5).clip(-1.2, 1.2)
        side = -1.0 if arm.direction[1] < 0 else 1.0
        light = 1.0 - 0.17 * across**2 - (0.07 * self.body.light * side) * across
        bend = s - arm.elbow_at
        crease = bell(bend * 10) * (0.5 + 0.5 * np.cos(bend * 80))
        inner = (across if arm.turn > 0 else -across).clip(-0.35, 0.65) + 0.35
        folds = -crease * inner * (min(abs(arm.turn), 1.5) * 0.55)
        folds -= bell((s - 0.93) * 14) * (0.125 + 0.125 * np.cos(s * 110))
        return Surface(box, s, t, light, folds)

    def _sleeved(self, side: int, garment: Garment) -> Surface:
        """The part of an arm's surface that a garment's sleeve reaches."""
        arm, surface = self.body.arms[side], self._arms[side]
        end = garment.cut.sleeve_end + 0.02
        if end >= 1.0:
            return surface
        s = -0.14 + (end + 0.14) * steps(12)
        wide = widest_sleeve(s)
        box = self.canvas.box(arm.to_canvas(np.concatenate([xy(s, wide), xy(s, -wide)])), 2.0)
        return surface.within(box, self.canvas.supersample)

    def _skin_light(self, surface: Surface) -> np.ndarray:
        across = (surface.second * 10).clip(-1, 1)
        rise = (surface.first * 5 - 0.1).clip(0, 1)  # no edge where the arm leaves the shoulder
        return 1 - rise * (0.15 * across**2 + 0.05 * self.body.light * across)

    def _arms_shadow(self, box: Box) -> np.ndarray:
        """Soft shadow that both arms cast, whatever they wear; drawn coarsely."""
        coarse = Canvas(self.shape, supersample=1)
        shade = np.zeros(self.shape, np.uint8)
        for arm in self.body.arms:
            coarse.fill(shade, arm.outline(0.12, 1.0, lambda s: arm_half_width(s) * 1.35), OPAQUE)
        step = self.canvas.supersample
        top, left, bottom, right = (edge // step for edge in box)
        part = np.ascontiguousarray(shade[top:bottom, left:right])
        return soften(part, 0.06 * self.body.unit * coarse.scale) * np.float32(1 / 255)

    def _reach(self) -> np.ndarray:
        """Pixels of the lower garment that some upper garment may cover: the hem's line with a little slack."""
        reach = np.zeros(self.shape, bool)
        if not self.body.tucked:  # what is tucked in lies behind the lower garment
            surface, step = self._torso, self.canvas.supersample
            top, left, bottom, right = (edge // step for edge in surface.box)
            slack = 2.2 * step / self.canvas.scale / self.body.torso.length
            reach[top:bottom, left:right] = (surface.second < 1 + slack) & (np.abs(surface.first) < 1.3)
        return reach

    def _wear(self, drawing: Drawing, garment: Garment, name: str, surface: Surface, shading: bool) -> Layer:
        """Sample a panel's fabric through the body's map and lay it over the image."""
        panel, step = garment.panels[name], self.canvas.supersample
        to_x, to_y = panel.to_pixels.tolist()
        source = [a * surface.first + b * surface.second + c for a, b, c in (to_x, to_y)]
        fine = [enlarge(part, step) for part in source]
        fabric, alpha = sample_panel(garment.fabric, panel.alpha, *fine)
        layer = Layer(surface.box[0], surface.box[1], alpha, step)
        if name == "torso":
            restrict(layer, self._above_hem)
        if name == "torso" and self.body.tucked:
            cv2.multiply(alpha, 255 - sampled(self._lower, layer), alpha, scale=1 / 255)
        if shading:
            light = repeated(surface.light + DRAPE[garment.cut.fit] * surface.folds, step)
            depth = cv2.CV_8U if fabric.dtype == np.uint8 else cv2.CV_32F
            fabric = cv2.multiply(fabric, cv2.merge((light, light, light)), dtype=depth)
        blend(drawing.image[layer.area], fabric, alpha)
        mark(drawing.labels, layer, CIHP.UPPER_CLOTHES, 1e-9)
        drawing.cover(layer)
        drawing.panels.append(WornPanel(layer, source, layer.coverage.copy()))
        return layer


def sample_panel(fabric: np.ndarray, alpha: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours and coverage of a flat panel at positions in its image; none of it lies at the image's edge."""
    if fabric.dtype == np.uint8:  # OpenCV samples four channels at once in a third of the time of three and one
        both = cv2.remap(cv2.merge((fabric, alpha)), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.cvtColor(both, cv2.COLOR_RGBA2RGB), cv2.extractChannel(both, 3)
    return tuple(
        cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for values in (fabric, alpha)
    )


@dataclass(frozen=True, eq=False)
class WornPanel:
    """Where a panel lies, where its fabric comes from (x, y at pixel centres), and how much each pixel still shows."""

    layer: Layer
    source: list[np.ndarray]
    visible: np.ndarray


class Drawing:
    """A figure while it is drawn: the supersampled image, the final labels, and the panels worn so far."""

    def __init__(self, image: np.ndarray, labels: np.ndarray):
        self.image = image
        self.labels = labels
        self.panels: list[WornPanel] = []

    def lay(self, overlay: Overlay) -> None:
        """Lay skin, a head or a hand over the image."""
        overlay.onto(self.image)
        self.cover(overlay.layer)

    def cover(self, layer: Layer) -> None:
        """Less is seen of the panels below a layer."""
        step = layer.supersample
        for panel in self.panels:
            cut = intersect(panel.layer, layer)
            if cut is not None:
                mine, theirs = (tuple(slice(part.start // step, part.stop // step) for part in side) for side in cut)
                panel.visible[mine] *= 1 - layer.coverage[theirs]

    def finish(self, step: int) -> Rendering:
        """Average the subpixels, and let each pixel correspond to the panel that it shows most of."""
        shape = self.labels.shape
        coverage = np.zeros(shape, np.float32)
        source = np.full((2, *shape), np.nan, np.float32)
        for panel in self.panels:
            area = panel.layer.pixels
            wins = panel.visible > coverage[area]
            paste(coverage[area], panel.visible, wins)
            for axis in (0, 1):
                paste(source[axis][area], panel.source[axis], wins)
        return Rendering(shrink(self.image, step), self.labels, coverage > 0, coverage, cv2.merge(source))


def check_garment_size(garment: Garment, size: tuple[int, int]) -> None:
    """Refuse a garment of another size, (width, height), than the figure's.

    Raises:
        `InvalidInput`
    """
    if garment.size != size:
        raise InvalidInput(
            f"the garment is {garment.size} and the figure {size} (width, height): draw both at one size."
        )
