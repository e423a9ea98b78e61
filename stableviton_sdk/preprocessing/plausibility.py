"""Maps and images that can't be what they are passed as: certain cases are refused, doubtful ones warned about.

All functions look at a few thousand pixels of an image, so that their time doesn't depend on its size.
"""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image

from ..errors import InvalidInput
from .labels import PARULA, palette_distances

SIDE = 192  # pixels of the longer side that images are sampled at
BLACK = 24  # brightest channel of a pixel that counts as background; JPEG leaves black at less
PALETTE_DISTANCE = 40.0  # RGB; blurring and JPEG leave three quarters of a DensePose image's pixels within it
PLAUSIBLE_SHARE = 0.6  # of a DensePose image's pixels within that distance
CERTAIN_SHARE = 0.7  # the same, for an image with its channels put right
CERTAIN_LABELS = 5  # least number of body parts in such an image
LEAST_BACKGROUND = 0.02  # share of black in a DensePose image
SAME_IMAGE = 6.0  # mean difference of two images, 0 to 255, below which they show the same
BACKGROUND_DISTANCE = 14  # largest difference of a channel from the background's colour
CUT_SHARE = 0.08  # part of the lower edge that isn't background, if it cuts a person off
MIRRORED_MASK = 0.1  # by how much better a mirrored mask fits, in shares of mask and body, if it is a mirrored one
# Share of the body that DensePose has where there is nobody: by the parse; by the background, which clothes may
# resemble; and by how much less of it a mirrored one has, if it is a mirrored one.
BESIDE_PARSE, BESIDE_BACKGROUND, MIRRORED_BODY = 0.15, 0.3, 0.06
TORSO, HEAD = (1, 2), (23, 24)  # DensePose labels
UPPER_BODY = (*TORSO, *range(15, 23))  # and both arms


def check_densepose(densepose: Image.Image, photo: Image.Image, *, name: str = "densepose") -> None:
    """Require an image that can be a DensePose image: body parts in the parula palette on black, RGB.

    Args:
        densepose (`PIL.Image.Image`): RGB, of any size.
        photo (`PIL.Image.Image`): The photo that it belongs to, RGB, of the same proportions.
        name (`str`, *optional*, defaults to `"densepose"`): Name of the argument in messages.

    Raises:
        `InvalidInput`: if it is all black, the photo itself, or a DensePose image with its channels swapped or
            inverted. Any other image without DensePose's colours, or without black, causes a warning.
    """
    if max(high for _, high in densepose.getextrema()) <= BLACK:
        raise InvalidInput(f"{name} is all black, so it shows nobody: pass the DensePose image of this photo.")
    pixels = _sample(densepose, densepose.size)
    if _palette_share(pixels) >= PLAUSIBLE_SHARE:
        if (pixels.max(axis=-1) <= BLACK).mean() < LEAST_BACKGROUND:
            warnings.warn(
                f"{name} has no black background, so the network sees a body everywhere: draw only the body in the "
                "parula palette.",
                stacklevel=2,
            )
        return
    if _difference(densepose, photo) < SAME_IMAGE:
        raise InvalidInput(f"{name} is the photo itself: pass its DensePose image (parula palette on black).")
    for order in ("BGR", "GRB", "RBG", "BRG", "GBR", "RGB"):
        swapped = pixels[..., [order.index(channel) for channel in "RGB"]]
        in_order = "" if order == "RGB" else f"its channels in {order} order"
        if order != "RGB" and _is_certainly_densepose(swapped):
            raise InvalidInput(f"{name} has {in_order}: pass it as RGB (image[..., ::-1] of what OpenCV reads).")
        if _is_certainly_densepose(255 - swapped):
            how = f"with {in_order}: pass it as RGB on black" if in_order else "pass it with a black background"
            raise InvalidInput(f"{name} is inverted{', ' if in_order else ': '}{how} (255 - image).")
    warnings.warn(
        f"{name} lacks DensePose's colours (the parula palette on black) and looks like "
        f"{_likely_content(pixels, densepose, photo)}: the result will be wrong unless it is what the network was "
        "trained with.",
        stacklevel=2,
    )


def check_mask(mask: Image.Image, densepose: Image.Image, *, name: str = "mask") -> None:
    """Require a mask that covers a part of the person.

    Args:
        mask (`PIL.Image.Image`): Mode L, white = repainted, of any size.
        densepose (`PIL.Image.Image`):
            DensePose image of the same person, RGB, of the mask's proportions. If it isn't in the parula palette,
            nothing is known of the person, and any mask passes.
        name (`str`, *optional*, defaults to `"mask"`): Name of the argument in messages.

    Raises:
        `InvalidInput`: if the mask covers nothing of the person. A mask that covers hardly anything of them, or that
            looks inverted or mirrored, causes a warning.
    """
    pixels = _sample(densepose, mask.size)
    if _palette_share(pixels) < PLAUSIBLE_SHARE:
        return
    labels = _labels(pixels)
    repainted = np.asarray(mask.resize(labels.shape[::-1], Image.Resampling.NEAREST).convert("L")) >= 128
    covered = float((labels[repainted] > 0).mean()) if repainted.any() else 0.0
    torso = np.isin(labels, TORSO)
    if covered == 0:
        raise InvalidInput(
            f"{name} covers nothing of the person whom densepose shows: white must cover what is to be repainted."
        )
    if covered < 0.1:
        warnings.warn(
            f"{name} hardly covers the person whom densepose shows ({covered:.0%} of its white lies on them): white "
            "must cover what is to be repainted.",
            stacklevel=2,
        )
    elif repainted.mean() > 0.5 and torso.any() and repainted[torso].mean() < 0.2:
        warnings.warn(
            f"{name} looks inverted: it covers the background and spares the torso, while white is repainted.",
            stacklevel=2,
        )
    elif _fit(repainted[:, ::-1], labels) > _fit(repainted, labels) + MIRRORED_MASK:
        warnings.warn(
            f"{name} looks mirrored, or of another photo: the other way round it would cover more of the person whom "
            "densepose shows, and less of the background.",
            stacklevel=2,
        )


def check_person(
    person: Image.Image, densepose: Image.Image, *, parsing: np.ndarray | None = None, name: str = "person"
) -> None:
    """Warn about a photo that its DensePose image doesn't belong to: a flat lay, another person's, or a mirrored one.

    Where the person is in the photo is known from a parse, and without one on a plain background.

    Args:
        person (`PIL.Image.Image`): Photo, RGB, of any size.
        densepose (`PIL.Image.Image`): Its DensePose image, RGB, of the same proportions.
        parsing (`np.ndarray`, *optional*): Its label map, uint8, (H, W), 0 where there is nobody.
        name (`str`, *optional*, defaults to `"person"`): Name of the argument in messages.
    """
    pixels = _sample(densepose, person.size)
    if _palette_share(pixels) < PLAUSIBLE_SHARE:
        return
    labels = _labels(pixels)
    photo = _sample(person, person.size)
    background = _background(photo)
    head = np.isin(labels, HEAD)
    if background is not None and head.any():
        empty = _is_like(photo[head], background).mean()
        cut, skin = _cut_and_skin(photo, background)
        if empty > 0.8 or (empty > 0.2 and cut < CUT_SHARE and skin < 0.1):
            warnings.warn(
                f"{name} shows plain background where densepose has the head: it looks like a garment without a "
                "person, or like another photo than that of the DensePose image.",
                stacklevel=2,
            )
            return
    nobody = None if background is None else _is_like(photo, background)
    if parsing is not None:
        nobody = np.asarray(Image.fromarray(parsing).resize(labels.shape[::-1], Image.Resampling.NEAREST)) == 0
    if nobody is None or not labels.any():
        return
    beside, mirrored = float(nobody[labels > 0].mean()), float(nobody[labels[:, ::-1] > 0].mean())
    looks_mirrored = beside > mirrored + MIRRORED_BODY
    if looks_mirrored or beside > (BESIDE_BACKGROUND if parsing is None else BESIDE_PARSE):
        warnings.warn(
            f"densepose shows {beside:.0%} of its body beside {name}, so it looks "
            f"{'mirrored, or ' if looks_mirrored else ''}of another photo: pass that of this photo.",
            stacklevel=2,
        )


def check_garment(garment: Image.Image, *, name: str = "garment") -> None:
    """Warn about the photo of a person where a flat lay is expected.

    Works for photos on a plain background: a person has skin at the top, and is cut off by the lower edge.

    Args:
        garment (`PIL.Image.Image`): RGB, of any size.
        name (`str`, *optional*, defaults to `"garment"`): Name of the argument in messages.
    """
    pixels = _sample(garment, garment.size)
    background = _background(pixels)
    if background is None:
        return
    cut, skin = _cut_and_skin(pixels, background)
    if cut >= CUT_SHARE and skin > 0.2:
        warnings.warn(
            f'{name} looks like a photo of a person, not like a garment alone: pass garment_photo="model" to cut the '
            "garment out.",
            stacklevel=2,
        )


def _sample(image: Image.Image, proportions: tuple[int, int]) -> np.ndarray:
    """Pixels of an image at a size of these proportions, int, (H, W, 3); none are mixed, so that colours stay."""
    scale = min(1.0, SIDE / max(proportions))
    size = (max(1, round(proportions[0] * scale)), max(1, round(proportions[1] * scale)))
    return np.asarray(image.resize(size, Image.Resampling.NEAREST).convert("RGB")).astype(np.int32)


def _palette_share(pixels: np.ndarray) -> float:
    """Share of pixels near a colour of DensePose, among those that aren't black."""
    coloured = pixels[pixels.max(axis=-1) > BLACK]
    if not len(coloured):
        return 0.0
    return float((palette_distances(coloured, PARULA[1:]).min(axis=1) < PALETTE_DISTANCE).mean())


def _is_certainly_densepose(pixels: np.ndarray) -> bool:
    # a photo's few colours may be near some of the palette's by chance, but not near many
    return _palette_share(pixels) >= CERTAIN_SHARE and _label_count(pixels) >= CERTAIN_LABELS


def _labels(pixels: np.ndarray) -> np.ndarray:
    """DensePose labels by the nearest colour, (H, W)."""
    labels = palette_distances(pixels.reshape(-1, 3), PARULA).argmin(axis=1).reshape(pixels.shape[:2])
    return np.where(pixels.max(axis=-1) > BLACK, labels, 0)


def _fit(mask: np.ndarray, labels: np.ndarray) -> float:
    """How well a mask lies on a body: the share of it that is on the body, plus that of torso and arms in it."""
    upper = np.isin(labels, UPPER_BODY)
    return float((labels[mask] > 0).mean() if mask.any() else 0.0) + float(mask[upper].mean() if upper.any() else 0.0)


def _label_count(pixels: np.ndarray) -> int:
    """Number of body parts with at least a hundredth of the body."""
    counts = np.bincount(_labels(pixels).ravel(), minlength=len(PARULA))[1:]
    return int((counts > 0.01 * counts.sum()).sum())


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two images' pixels, 0 to 255, at 48 x 64."""
    small = [
        np.asarray(image.resize((48, 64), Image.Resampling.BOX, reducing_gap=2.0).convert("RGB"), np.float32)
        for image in (one, other)
    ]
    return float(np.abs(small[0] - small[1]).mean())


def _likely_content(pixels: np.ndarray, densepose: Image.Image, photo: Image.Image) -> str:
    """What an image without DensePose's colours looks like, for a sentence."""
    coloured = pixels[pixels.max(axis=-1) > BLACK]
    if np.ptp(coloured, axis=1).mean() < 8:
        return "a mask or a greyscale image"
    original = _sample(photo, densepose.size)
    if ((np.abs(pixels - original) <= 12).all(axis=-1) & (original.max(axis=-1) > BLACK)).mean() > 0.3:
        return "the photo, perhaps with DensePose drawn over it"
    edges = [np.abs(np.diff(values.sum(axis=-1), axis=0)).ravel() for values in (pixels, original)]
    if min(edge.std() for edge in edges) > 0 and np.corrcoef(*edges)[0, 1] > 0.5:
        return "the photo, perhaps with DensePose drawn over it"
    if (pixels.max(axis=-1) <= BLACK).mean() > 0.2:
        return "a body map in other colours"
    return "some other image"


def _background(pixels: np.ndarray) -> np.ndarray | None:
    """Colour of an image's background, (3,), if it is plain along the upper edge and most of both sides."""
    sides = pixels[: pixels.shape[0] * 6 // 10, [0, -1]]
    border = np.concatenate([pixels[0], sides.reshape(-1, 3)])
    colour = np.median(border, axis=0)
    return colour if _is_like(border, colour).mean() > 0.9 else None


def _cut_and_skin(pixels: np.ndarray, background: np.ndarray) -> tuple[float, float]:
    """Share of the lower edge that isn't background, and share of skin in the upper 22 % of what isn't background."""
    foreground = ~_is_like(pixels, background, 1.5 * BACKGROUND_DISTANCE)
    rows = np.flatnonzero(foreground.mean(axis=1) > 0.03)
    if not len(rows):
        return 0.0, 0.0
    top = slice(rows[0], rows[0] + max(1, (rows[-1] + 1 - rows[0]) * 22 // 100))
    skin = _is_skin(pixels[top]) & foreground[top]
    return float(foreground[-3:].any(axis=0).mean()), float(skin.sum() / max(foreground[top].sum(), 1))


def _is_like(pixels: np.ndarray, colour: np.ndarray, distance: float = BACKGROUND_DISTANCE) -> np.ndarray:
    return (np.abs(pixels - colour) <= distance).all(axis=-1)


def _is_skin(pixels: np.ndarray) -> np.ndarray:
    """Mask of the pixels in colours that skin has, in the chrominance of YCbCr."""
    luma, blue, red = np.moveaxis(np.asarray(Image.fromarray(pixels.astype(np.uint8)).convert("YCbCr")), -1, 0)
    blue, red = blue.astype(np.int32), red.astype(np.int32)
    return (luma > 40) & (red >= 136) & (red <= 175) & (blue >= 80) & (blue <= 128) & (red - blue > 8)
