"""A figure and a garment of any style, and the figure in the garment."""

from __future__ import annotations

import numpy as np

from ...errors import InvalidInput
from . import cut, texture
from .body import Body, sample_drawn_body
from .canvas import shape_of
from .garment import Garment, sample_drawn_garment
from .photo import garment as photo
from .photo.body import PhotoBody, sample_photo_body
from .photo.stage import PhotoStage
from .scene import Rendering, Stage
from .style import Style, check_generator, get_style


def sample_body(rng: np.random.Generator, style: str | Style = "studio") -> Body | PhotoBody:
    """Draw a figure: the same generator state gives the same figure.

    Args:
        rng (`np.random.Generator`): Random generator.
        style (`str`, *optional*, defaults to `"studio"`): `"studio"`, `"shifted"` or `"photo"`.

    Raises:
        `InvalidInput`: for an unknown style, or if `rng` is no generator.
    """
    check_generator(rng)
    style = get_style(style)
    return sample_photo_body(rng, style) if style.name == "photo" else sample_drawn_body(rng, style)


def sample_garment(
    rng: np.random.Generator,
    style: str | Style = "studio",
    size: tuple[int, int] = (192, 256),
    *,
    neckline: str | None = None,
    sleeve: str | None = None,
    fit: str | None = None,
    pattern: str | None = None,
    graphic: str | None = None,
) -> Garment:
    """Draw a garment: the same generator state gives the same garment.

    Args:
        rng (`np.random.Generator`): Random generator.
        style (`str`, *optional*, defaults to `"studio"`): `"studio"`, `"shifted"` or `"photo"`.
        size (`tuple[int, int]`, *optional*, defaults to `(192, 256)`): Width and height of the image in pixels.
        neckline, sleeve, fit, pattern, graphic (`str`, *optional*):
            Fix what is otherwise drawn: a key of `NECKLINES`, `SLEEVES`, `FITS`, `PATTERNS`, `GRAPHICS`, or of the
            photo style's own.

    Raises:
        `InvalidInput`: for an unknown name, a size that isn't 3:4, or if `rng` is no generator.
    """
    check_generator(rng)
    style = get_style(style)
    choices = (cut.NECKLINES, cut.SLEEVES, cut.FITS, texture.PATTERNS, texture.GRAPHICS)
    if style.name == "photo":
        choices = (photo.NECKLINES, photo.SLEEVES, photo.FITS, photo.PATTERNS, photo.GRAPHICS)
    given_names = {"neckline": neckline, "sleeve": sleeve, "fit": fit, "pattern": pattern, "graphic": graphic}
    for (name, given), known in zip(given_names.items(), choices, strict=True):
        if given is not None and given not in known:
            raise InvalidInput(f"there is no {name} {given!r}: use one of {', '.join(known)}.")
    sample = photo.sample_photo_garment if style.name == "photo" else sample_drawn_garment
    return sample(rng, style, shape_of(size), **given_names)


def stage_for(body: Body | PhotoBody, size: tuple[int, int]) -> Stage | PhotoStage:
    """Stage of a figure of any style; `size` is (width, height)."""
    return Stage(body, size) if isinstance(body, Body) else PhotoStage(body, size)


def render(body: Body | PhotoBody, garment: Garment, *, shading: bool = True) -> Rendering:
    """Draw a body in a garment, at the garment's size.

    Args:
        body (`Body` or `PhotoBody`): A figure; see `sample_body`.
        garment (`Garment`): A garment; see `sample_garment` and `garment_from_coordinates`.
        shading (`bool`, *optional*, defaults to `True`): False leaves the fabric's colours as they are.

    Returns:
        `Rendering`
    """
    return stage_for(body, garment.size).dress(garment, shading=shading)
