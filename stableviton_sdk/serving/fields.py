"""A form's text fields, read and bounded."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

from ..choices import CATEGORIES, GARMENT_PHOTOS, QUALITIES
from ..errors import clipped
from .problems import Problem

MAX_SEED = 2**53 - 1  # the largest whole number that JavaScript holds exactly
MAX_STEPS = 100
MAX_GUIDANCE = 20.0
DEFAULT_CATEGORY, DEFAULT_GARMENT_PHOTO, DEFAULT_QUALITY = "upper", "flat-lay", "balanced"
TRY_ON_TEXTS = ("category", "garment_photo", "quality", "detail", "seed", "steps", "guidance_scale")


class Fields:
    """Text fields by name, each read once and within its bounds; an empty one counts as missing.

    Args:
        texts (`dict[str, str]`): As they came.
    """

    def __init__(self, texts: dict[str, str]):
        self.texts = {name: text.strip() for name, text in texts.items() if text.strip()}

    @property
    def category(self) -> str:
        return self._choice("category", CATEGORIES, DEFAULT_CATEGORY)

    @property
    def garment_photo(self) -> str:
        return self._choice("garment_photo", GARMENT_PHOTOS, DEFAULT_GARMENT_PHOTO)

    @property
    def seed(self) -> int:
        """The given one, or another one every time."""
        seed = self._whole("seed", 0, MAX_SEED)
        return secrets.randbelow(2**32) if seed is None else seed

    def call_options(self) -> dict[str, Any]:
        """Options of the pipeline's call."""
        guidance_scale = self._number("guidance_scale", 0.0, MAX_GUIDANCE)
        return {
            "quality": self._choice("quality", QUALITIES, DEFAULT_QUALITY),
            "detail": self._number("detail", 0.0, 1.0),
            "num_inference_steps": self._whole("steps", 1, MAX_STEPS),
            "guidance_scale": 1.0 if guidance_scale is None else guidance_scale,
        }

    def _choice(self, name: str, choices: Sequence[str], default: str) -> str:
        text = self.texts.get(name, default)
        if text not in choices:
            raise self._invalid(name, f"send one of {', '.join(choices)}")
        return text

    def _whole(self, name: str, low: int, high: int) -> int | None:
        text = self.texts.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
            raise self._invalid(name, f"send a whole number from {low} to {high}")
        return int(text)

    def _number(self, name: str, low: float, high: float) -> float | None:
        text = self.texts.get(name)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise self._invalid(name, f"send a number from {low:g} to {high:g}")
        return number

    def _invalid(self, name: str, advice: str) -> Problem:
        return Problem("invalid_field", f"{name} is {clipped(self.texts[name], most=40)!r}: {advice}.")
