"""A painter that stands in for a model, where everything else is measured. Processes of a batch import it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from stableviton_sdk.images import load_image


class StandIn:
    """Paints each person as they are.

    Args:
        device (`str`), threads (`int`, *optional*): As for every painter; nothing is made of them.
    """

    def __init__(self, device: str, threads: int | None = None):
        self.device = device

    def describe(self) -> dict[str, Any]:
        return {"model": {"weights_sha256": "none"}}

    def prepare_person(self, person: bytes | str, maps: Mapping[str, bytes | str], category: str) -> Image.Image:
        return load_image(person)

    def prepare_garment(self, garment: bytes | str, garment_photo: str, category: str) -> Image.Image:
        return load_image(garment)

    def paint(self, persons: Sequence[Any], garments: Sequence[Any], seeds: Sequence[int]) -> list[Image.Image]:
        return list(persons)

    def settings_of(self, seed: int) -> dict[str, Any]:
        return {"model": "stand-in", "seed": seed}
