"""Raw images in, what the network needs out: the part of `TryOnPipeline` that people look at and correct."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ..errors import InvalidInput
from ..images import ImageLike, as_image_list
from ..preprocessing.garment import PlacedGarment, place_garment
from ..preprocessing.inputs import TryOnInputs


class PreparationMixin:
    """`prepare` and `prepare_garment` of `TryOnPipeline`."""

    @property
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels that the weights were trained at."""
        height, width = self.unet.config.sample_size
        return height * self.vae_scale_factor, width * self.vae_scale_factor

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Width and height that a call works at."""
        own_height, own_width = self.default_size
        return own_width if width is None else width, own_height if height is None else height

    def prepare(
        self,
        person: ImageLike | list[ImageLike],
        category: str = "upper",
        *,
        height: int | None = None,
        width: int | None = None,
        **options: Any,
    ) -> TryOnInputs | list[TryOnInputs]:
        """Derive from a raw photo what the network needs: frame, agnostic mask, DensePose.

        Args:
            person (`ImageLike` or a list): Photo of a person.
            category (`str`, *optional*, defaults to `"upper"`): `"upper"`, `"lower"` or `"dress"`.
            height (`int`, *optional*), width (`int`, *optional*): What the network will work at, for the proportions.
            options: The preprocessor's own options: `person_box`, `pose`, `mask_grow`, `close` … (see
                [`PersonPreprocessor.__call__`]).

        Returns:
            `TryOnInputs`, or a list of them for a list: to look at, correct and use again and again.

        Raises:
            `InvalidInput`: if the pipeline has no preprocessor, or the photo can't be used.
            `NoPersonFound`: if the photo shows nobody.
        """
        if self.preprocessor is None:
            raise InvalidInput(
                "this pipeline has no preprocessor to derive mask and densepose with: pass both along, or make the "
                "pipeline with preprocessor=PersonPreprocessor()."
            )
        aspect = self._size(height, width)
        photos, batched = as_image_list(person, name="person")
        prepared = [
            self.preprocessor(photo, category=category, aspect=aspect, device=self._execution_device, **options)
            for photo in photos
        ]
        return prepared if batched else prepared[0]

    def prepare_garment(
        self,
        garment: ImageLike,
        *,
        height: int | None = None,
        width: int | None = None,
        garment_photo: str = "flat-lay",
        category: str = "upper",
    ) -> Image.Image:
        """Put a garment on the canvas that the network was trained with.

        Args:
            garment (`ImageLike`): Garment image of any size; transparency is respected.
            height (`int`, *optional*), width (`int`, *optional*): Size of the result; the trained one by default.
            garment_photo (`str`, *optional*, defaults to `"flat-lay"`):
                `"flat-lay"` (the garment alone), or `"model"` (worn by somebody: it is cut out).
            category (`str`, *optional*, defaults to `"upper"`): What to cut out of a photo of somebody.

        Returns:
            `PIL.Image.Image`: RGB.
        """
        return self._place_garment(garment, self._size(height, width), garment_photo, category).image

    def _place_garment(
        self, garment: ImageLike, size: tuple[int, int], garment_photo: str, category: str
    ) -> PlacedGarment:
        parser = None
        if garment_photo == "model":
            if self.preprocessor is None:
                raise InvalidInput(
                    'garment_photo="model" needs a preprocessor to cut the garment out: pass an image of the garment '
                    "alone, or make the pipeline with preprocessor=PersonPreprocessor()."
                )
            parser = self.preprocessor.parser(self._execution_device)
        return place_garment(garment, size=size, garment_photo=garment_photo, parser=parser, category=category)
