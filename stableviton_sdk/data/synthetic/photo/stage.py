"""A photographed figure wears garments: the same maps as in the other styles, between more layers of body and hair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from ....preprocessing.masks.agnostic import agnostic_mask
from ..canvas import Canvas, Layer, Overlay, blend, enlarge, paste, repeated, sampled, shape_of, soften, steps, xy
from ..figure import arm_half_width
from ..garment import Garment
from ..labels import ARMS, CIHP, NOTHING, WHOLE, mark
from ..scene import SLEEVES, Drawing, Rendering, Surface, WornPanel, check_garment_size, sample_panel
from .backdrop import draw_backdrop
from .body import PhotoBody
from .camera import Camera, sample_camera
from .cloth import folds
from .densepose import draw_densepose
from .head import draw_hair_behind, head_overlay
from .ink import Ink, rounded
from .lower import draw_legs, draw_lower, foot_outline, leg_outline, lower_outlines
from .pose import PosedArm
from .skin import bare_arm, draw_torso, hand_overlay, hand_shape, neck_outline, torso_outline

LOOSENESS = {"slim": 0.15, "regular": 0.6, "loose": 1.0}
WIDEST_SLEEVE = 0.3  # half width, in the arm's unit, of the widest sleeve that any garment may have
# Outline of the largest torso that any garment may have, the image's right half, in u and v.
_WIDEST = np.array([(0.0, -0.28), (0.34, -0.28), (0.36, -0.2), (0.98, -0.14), (1.1, -0.02), (1.24, 0.2), (1.3, 0.6),
                    (1.34, 1.4)])  # fmt: skip


class PhotoStage:
    """One body at one size, ready to wear any number of garments.

    Args:
        body (`PhotoBody`): Who.
        size (`tuple[int, int]`, *optional*, defaults to `(192, 256)`): Width and height of the images in pixels.
    """

    def __init__(self, body: PhotoBody, size: tuple[int, int] = (192, 256)):
        self.body = body
        self.shape: tuple[int, int] = shape_of(size)
        self.size: tuple[int, int] = self.shape[::-1]
        self.canvas: Canvas = Canvas(self.shape)
        canvas = self.canvas
        self.keypoints: np.ndarray = body.joints(self.shape)
        self._rng = np.random.default_rng([body.details, 11])
        self.camera: Camera = sample_camera(np.random.default_rng([body.details, 12]))
        image = draw_backdrop(np.random.default_rng([body.details, 13]), body.style, self.shape)
        image = self._cast_shadow(image)
        labels, solid = np.zeros(self.shape, np.uint8), np.zeros(self.shape, np.uint8)
        self._ink = ink = Ink(canvas, repeated(image, canvas.supersample), labels, solid)
        draw_hair_behind(ink, body, self._rng)
        self._base = ink.image.copy(), labels.copy()
        self._surfaces = [self._arm_surface(posed) for posed in body.arms]
        self._wide = [_widest_sleeve(surface) for surface in self._surfaces]
        self._bare = [
            bare_arm(body, posed, canvas, surface.box, surface.first, surface.second)
            for posed, surface in zip(body.arms, self._surfaces, strict=True)
        ]
        self._hand_shapes = [hand_shape(posed, side, self._rng) for side, posed in enumerate(body.arms)]
        self._hands = [None if shape is None else hand_overlay(body, shape, canvas) for shape in self._hand_shapes]
        self._front = self._draw_front()
        self._head, self._head_labels, self._head_solid = head_overlay(body, ink, self._rng)
        self._torsos: dict[str, Surface] = {}
        self._fold_seed = int(self._rng.integers(2**31))
        corners = np.concatenate([[(-1.5, -0.6), (0, -0.6), (1.5, -0.6)], xy(1.5 - 3 * steps(15), body.end)])
        self._above_hem = canvas.polygon(body.torso.to_canvas(corners))
        self.region: np.ndarray = self._draw_region()

    def dress(self, garment: Garment, *, shading: bool = True) -> Rendering:
        """Put a garment on; what comes back has not been through the camera.

        Args:
            garment (`Garment`): A garment of the stage's size.
            shading (`bool`, *optional*, defaults to `True`): False leaves the fabric's colours as they are.

        Raises:
            `InvalidInput`: if the garment was drawn at another size.
        """
        check_garment_size(garment, self.size)
        return self._draw(garment, shading)

    def undressed(self) -> np.ndarray:
        """The figure without an upper garment, as it shows through nothing: uint8 RGB, (H, W, 3)."""
        return self._draw(None, True).person

    def agnostic_mask(self) -> np.ndarray:
        """The agnostic mask, bool, (H, W): the rule's, and wherever any garment could lie on this body."""
        reach = self.region == CIHP.UPPER_CLOTHES
        return agnostic_mask(self.region, self.keypoints, category="upper") | reach

    def develop(self, renderings: Sequence[Rendering], mask: np.ndarray) -> list[Rendering]:
        """Take the camera's shots of the figure in several garments.

        Softness and compression spread colours. So that nothing of a garment is spread over the mask's edge, the
        outside is taken from a shot of the figure without any.

        Args:
            renderings (`Sequence[Rendering]`): Of `dress`.
            mask (`np.ndarray`): bool, (H, W): what may depend on the garment.
        """
        outside = self.camera.develop(self.undressed())
        return [
            dataclasses.replace(
                rendering, person=np.where(mask[..., None], self.camera.develop(rendering.person), outside)
            )
            for rendering in renderings
        ]

    def densepose(self) -> np.ndarray:
        """DensePose's body-part labels, which see the body through its clothes: uint8 in 0..24, (H, W)."""
        return draw_densepose(self.body, self._hand_shapes, self.shape)

    def _draw(self, garment: Garment | None, shading: bool) -> Rendering:
        image, labels = self._base
        drawing = Drawing(image.astype(np.uint8 if garment is None else garment.fabric.dtype), labels.copy())
        for side in self._order("behind"):
            self._draw_arm(drawing, side, garment, shading)
        front, front_labels, lower = self._front
        drawing.lay(Overlay(*front))
        paste(drawing.labels, front_labels, front_labels != NOTHING)
        if garment is not None:
            self._wear(drawing, garment, "torso", self._torso_surface(garment.cut.fit), shading, lower)
        for side in self._order("front"):
            self._draw_arm(drawing, side, garment, shading)
        drawing.lay(self._head)
        paste(drawing.labels[self._head.layer.pixels], self._head_labels, self._head_labels != NOTHING)
        for side in self._order("over"):
            self._draw_arm(drawing, side, garment, shading)
        return drawing.finish(self.canvas.supersample)

    def _order(self, depth: str) -> list[int]:
        """Sides whose arms lie at a depth, the farther one first."""
        sides = [side for side in (0, 1) if self.body.arms[side].depth == depth]
        return sides if (self.body.details // 2) % 2 else sides[::-1]

    def _cast_shadow(self, image: np.ndarray) -> np.ndarray:
        """Darken the background where the figure keeps light off it."""
        rng, body = self._rng, self.body
        if rng.random() < 0.25:
            return image
        coarse = Canvas(self.shape, supersample=1)
        shade = np.zeros(self.shape, np.uint8)
        torso = np.concatenate([_WIDEST[1:] * (0.85, 1), (_WIDEST[1:] * (-0.85, 1))[::-1]])
        coarse.fill(shade, body.torso.to_canvas(torso), (255, 255, 255))
        for posed in body.arms:
            coarse.fill(shade, posed.arm.outline(0.0, 1.1, arm_half_width), (255, 255, 255))
        for side in (0, 1):
            points = np.array([body.lower.hips[side], body.lower.knees[side], body.lower.ankles[side]])
            coarse.line(shade, 0.45 * body.unit, points, (255, 255, 255))
        x, y = body.head.centre
        cv2.circle(
            shade,
            (round(x * coarse.scale), round(y * coarse.scale)),
            round(body.head.half_height * coarse.scale),
            255,
            -1,
        )
        offset = (
            rng.uniform(-0.35, 0.35) * body.unit * coarse.scale,
            rng.uniform(-0.05, 0.25) * body.unit * coarse.scale,
        )
        shade = cv2.warpAffine(shade, np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32), self.size)
        shade = soften(shade, rng.uniform(0.04, 0.4) * body.unit * coarse.scale)
        light = 1 - shade.astype(np.float32) * (rng.uniform(0.03, 0.22) / 255)
        return cv2.multiply(image, cv2.merge((light, light, light)), dtype=cv2.CV_8U)

    def _draw_front(self):
        """Legs, torso and lower garment: what lies between the arms behind the body and those before it."""
        canvas, body = self.canvas, self.body
        shape = (canvas.height, canvas.width)
        labels = np.full(self.shape, NOTHING, np.uint8)
        solid = np.full(self.shape, NOTHING, np.uint8)
        image = self._ink.image.copy()
        ink = Ink(canvas, image, labels, solid)
        covered = np.zeros(shape, np.uint8)
        draw_legs(ink, body, self._rng)
        draw_torso(ink, body, self._rng)
        lower = draw_lower(ink, body, self._rng)
        outlines = [
            torso_outline(body),
            neck_outline(body),
            *lower_outlines(body),
            *(leg_outline(body, side) for side in (0, 1)),
            *(foot_outline(body, side) for side in (0, 1)),
        ]
        layer = canvas.polygon(*outlines)
        covered[layer.area] = layer.alpha
        self._front_solid = solid
        return (Layer(0, 0, covered, canvas.supersample), image), labels, lower

    def _torso_surface(self, fit: str) -> Surface:
        """Where on the canvas a garment of a fit may lie around the torso, and how light falls on it."""
        if fit in self._torsos:
            return self._torsos[fit]
        body, canvas = self.body, self.canvas
        torso = body.torso.hanging(LOOSENESS[fit])
        edge = np.array([[u, v] for u in (-1.34, 0.0, 1.34) for v in (-0.3, 0.5, 1.35)])
        box = canvas.box(torso.to_canvas(edge), 2.0)
        x, y = canvas.centres(box)
        u, v = torso.to_fabric(x, y)
        rng = np.random.default_rng([self._fold_seed, len(fit)])
        light = rounded(u + 0.4 * torso.turn, body.light, 0.2) - 0.18 * self._arms_shadow(box)
        depth = {"slim": 0.09, "regular": 0.13, "loose": 0.17}[fit] * rng.uniform(0.4, 1.5)
        shape = u.shape
        cells = rng.uniform(3, 7) * max(shape) / (1.6 * body.unit * canvas.scale / canvas.supersample)
        creases = folds(rng, shape, cells, rng.uniform(-35, 35), rng.uniform(1.2, 3.0))
        creases = creases + 0.6 * folds(rng, shape, 1.7 * cells, rng.uniform(-90, 90), 1.5)
        low = ((v - 0.55) / (max(body.end, 0.8) - 0.55)).clip(0, 1)
        pull = 0.35 + 0.65 * np.maximum(low if body.tucked else 0.8 * low, np.exp(-(((np.abs(u) - 0.95) / 0.3) ** 2)))
        light = light + depth * creases * pull
        light = light - 0.05 * (1 - body.light[1]) * np.exp(-(((v - 0.42) / 0.07) ** 2)) * (np.abs(u) < 0.8) * (
            body.torso.chest > 0
        )
        surface = Surface(box, *(field.astype(np.float32) for field in (u, v, light)), np.zeros(shape, np.float32))
        self._torsos[fit] = surface
        return surface

    def _arm_surface(self, posed: PosedArm) -> Surface:
        arm, rng = posed.arm, self._rng
        s = 1.22 * steps(12) - 0.16
        box = self.canvas.box(arm.to_canvas(np.concatenate([xy(s, WIDEST_SLEEVE), xy(s, -WIDEST_SLEEVE)])), 2.0)
        x, y = self.canvas.centres(box)
        s, t = arm.to_fabric(x, y)
        across = (t * 5).clip(-1.2, 1.2)
        light = rounded(across if arm.direction[1] >= 0 else -across, self.body.light, 0.18)
        shape = s.shape
        angle = float(np.degrees(np.arctan2(*(np.array(arm.wrist) - arm.shoulder))))
        unit = self.body.unit * self.canvas.scale / self.canvas.supersample
        creases = folds(
            rng,
            shape,
            max(3.0, rng.uniform(3, 6) * max(shape) / unit),
            angle + rng.choice([-1, 1]) * rng.uniform(30, 80),
            1.6,
        )
        bend = np.exp(-(((s - arm.elbow_at) / 0.14) ** 2))
        light = light + creases * (
            0.05 + 0.1 * bend * min(abs(arm.turn), 1.2) + 0.05 * np.exp(-(((s - 0.93) / 0.08) ** 2))
        )
        start = ((s + 0.1) * 5).clip(0, 1)
        light = 1 + start * (light - 1)
        return Surface(box, *(field.astype(np.float32) for field in (s, t, light)), np.zeros(shape, np.float32))

    def _arms_shadow(self, box) -> np.ndarray:
        """Soft shadow of the arms before the torso, whatever they wear."""
        coarse = Canvas(self.shape, supersample=1)
        shade = np.zeros(self.shape, np.uint8)
        for posed in self.body.arms:
            if posed.depth != "behind":
                coarse.fill(shade, posed.arm.outline(0.15, 1.0, lambda s: arm_half_width(s) * 1.4), (255, 255, 255))
        step = self.canvas.supersample
        top, left, bottom, right = (edge // step for edge in box)
        part = np.ascontiguousarray(shade[top:bottom, left:right])
        return soften(part, 0.07 * self.body.unit * coarse.scale) * np.float32(1 / 255)

    def _draw_arm(self, drawing: Drawing, side: int, garment: Garment | None, shading: bool) -> None:
        bare, palm = self._bare[side], self._hands[side]
        drawing.lay(bare)
        mark(drawing.labels, bare.layer, ARMS[side])
        if palm is not None:
            drawing.lay(palm)
            mark(drawing.labels, palm.layer, ARMS[side])
        if garment is not None and SLEEVES[side] in garment.panels:
            self._wear(drawing, garment, SLEEVES[side], self._surfaces[side], shading)

    def _wear(
        self,
        drawing: Drawing,
        garment: Garment,
        name: str,
        surface: Surface,
        shading: bool,
        lower: Layer | None = None,
    ) -> None:
        """Sample a panel's fabric through the body's map and lay it over the image."""
        panel, step = garment.panels[name], self.canvas.supersample
        source = [a * surface.first + b * surface.second + c for a, b, c in panel.to_pixels.tolist()]
        fabric, alpha = sample_panel(garment.fabric, panel.alpha, *(enlarge(part, step) for part in source))
        layer = Layer(surface.box[0], surface.box[1], alpha, step)
        if name == "torso":
            cv2.multiply(alpha, sampled(self._above_hem, layer), alpha, scale=1 / 255)
            if self.body.tucked:
                cv2.multiply(alpha, 255 - sampled(lower, layer), alpha, scale=1 / 255)
        else:  # where a folded arm's map jumps, interpolation would find some of the sleeve far from it
            cv2.bitwise_and(alpha, repeated(self._wide[SLEEVES.index(name)] * np.uint8(255), step), alpha)
        if shading:
            light = enlarge(surface.light, step)
            depth = cv2.CV_8U if fabric.dtype == np.uint8 else cv2.CV_32F
            sheen = (light - 0.97) * 22  # black cloth would show no folds otherwise
            fabric = cv2.multiply(fabric, cv2.merge((light, light, light)), dtype=depth)
            fabric = cv2.add(fabric, cv2.merge((sheen, sheen, sheen)), dtype=depth)
        blend(drawing.image[layer.area], fabric, alpha)
        mark(drawing.labels, layer, CIHP.UPPER_CLOTHES)
        drawing.cover(layer)
        drawing.panels.append(WornPanel(layer, source, layer.coverage.copy()))

    def _draw_region(self) -> np.ndarray:
        """CIHP labels of the figure in a garment as large as any: what is not "upper clothes" no garment covers."""
        canvas, body = self.canvas, self.body
        labels = self._ink.solid.copy()

        def arm(side: int) -> None:
            palm = self._hands[side]
            mark(labels, self._bare[side].layer, ARMS[side], WHOLE)
            if palm is not None:
                mark(labels, palm.layer, ARMS[side], WHOLE)
            surface = self._surfaces[side]
            top, left, bottom, right = (edge // canvas.supersample for edge in surface.box)
            labels[top:bottom, left:right][self._wide[side]] = CIHP.UPPER_CLOTHES

        for side in self._order("behind"):
            arm(side)
        paste(labels, self._front_solid, self._front_solid != NOTHING)
        torso = body.torso.hanging(1.0)
        outline = torso.to_canvas(np.concatenate([_WIDEST, (_WIDEST * (-1, 1))[::-1]]))
        layer = canvas.polygon(outline)
        cv2.multiply(layer.alpha, sampled(self._above_hem, layer), layer.alpha, scale=1 / 255)
        mark(labels, layer, CIHP.UPPER_CLOTHES, 1e-9)
        if body.tucked:
            mark(labels, self._front[2], CIHP.TROUSERS, WHOLE)
            paste(labels, self._front_solid, (labels == CIHP.TROUSERS) & (self._front_solid != NOTHING))
        for side in self._order("front"):
            arm(side)
        area = self._head.layer.pixels
        paste(labels[area], self._head_solid, self._head_solid != NOTHING)
        for side in self._order("over"):
            arm(side)
        return labels


def _widest_sleeve(surface: Surface) -> np.ndarray:
    """Where a sleeve as wide as any may lie, bool, (h, w).

    By the arm's map and not by an outline, which would cross itself where the arm is folded.
    """
    wide = (np.abs(surface.second) <= WIDEST_SLEEVE) & (surface.first > -0.2) & (surface.first < 1.03)
    return cv2.dilate(wide.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
