"""Who makes the images: a pipeline, or an object of one's own that follows `Painter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..choices import Category, GarmentPhoto, InitFrom, Quality

if TYPE_CHECKING:
    from PIL import Image

    from ..preprocessing.garment import PreparedGarment
    from ..preprocessing.inputs import TryOnInputs

Source = bytes | str  # an encoded file's bytes, or an address that `load_image` reads


@runtime_checkable
class Painter(Protocol):
    """Makes images of prepared persons and garments. Preparing may be called from several threads, painting from one
    at a time."""

    def describe(self) -> dict[str, Any]:
        """All that its images follow from, beside persons, garments and seeds; of JSON's types."""
        ...

    def prepare_person(self, person: Source, maps: Mapping[str, Source], category: Category) -> Any:
        """A person, prepared. Raises `TryOnError` with one sentence where it can't be."""
        ...

    def prepare_garment(self, garment: Source, garment_photo: GarmentPhoto, category: Category) -> Any:
        """A garment, prepared. Raises `TryOnError` with one sentence where it can't be."""
        ...

    def paint(self, persons: Sequence[Any], garments: Sequence[Any], seeds: Sequence[int]) -> list[Image.Image]:
        """An image of each person in the garment of the same place."""
        ...

    def settings_of(self, seed: int) -> dict[str, Any]:
        """What one image's file says of its making; of JSON's types."""
        ...


class PipelinePainter:
    """A pipeline on one device.

    Args:
        model (`str`): As for `load_place`.
        checkpoint (`str`, *optional*): Likewise.
        dtype (`str`): Number type of the weights: `"fp32"`, `"fp16"` or `"bf16"`.
        device (`str`, *optional*, defaults to `"cpu"`): Where it computes.
        threads (`int`, *optional*):
            Threads of PyTorch's operations, in a process of the painter's own; by default nothing of the process is
            changed.
        quality (`str`, *optional*), detail (`float`, *optional*), steps (`int`, *optional*),
        guidance_scale (`float`, *optional*), init_from (`str`, *optional*): As for the pipeline's call.
    """

    def __init__(
        self,
        *,
        model: str,
        checkpoint: str | None = None,
        dtype: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
        quality: Quality = "exact",
        detail: float | None = None,
        steps: int | None = None,
        guidance_scale: float = 1.0,
        init_from: InitFrom = "agnostic",
    ):
        import torch
        from diffusers.utils.logging import disable_progress_bar

        from ..dtypes import resolve_dtype
        from ..pipelines.identity import model_identity
        from ..pipelines.places import load_place
        from ..preprocessing.preprocessor import PersonPreprocessor

        if threads is not None:  # this process is the painter's own
            torch.set_num_threads(threads)
            disable_progress_bar()
        self.pipeline = load_place(model, checkpoint, dtype=resolve_dtype(dtype))
        if self.pipeline.preprocessor is None:
            self.pipeline.register_modules(preprocessor=PersonPreprocessor())
        self.identity = model_identity(self.pipeline, model)
        self.pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.options: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
            "init_from": init_from,
            "detail": detail,
            "quality": quality,
        }

    def describe(self) -> dict[str, Any]:
        """Weights, number type, scheduler and options of the call."""
        from ..pipelines.identity import describe_model

        model = {**self.identity, **describe_model(self.pipeline)}
        del model["name"]
        return {"model": model, "painting": self.settings_of(0) | dict.fromkeys(("seed", *self.identity))}

    def prepare_person(self, person: Source, maps: Mapping[str, Source], category: Category) -> TryOnInputs:
        """The person of a photo, encoded; maps that are given win."""
        import torch

        inputs = self.pipeline.prepare_persons(person, category=category, **maps)[0]
        with torch.no_grad():  # by itself: others in the same call would round it otherwise
            self.pipeline.prepare_conditioning([inputs], self.pipeline.default_size)
            if self.options["init_from"] == "person":
                self.pipeline._encode_kept([inputs], [inputs.frame_person], self.pipeline.default_size, None)
        return inputs

    def prepare_garment(self, garment: Source, garment_photo: GarmentPhoto, category: Category) -> PreparedGarment:
        """The garment on the canvas that the network was trained with, encoded."""
        import torch

        prepared = self.pipeline.prepare_garments(garment, garment_photo=garment_photo, category=category)[0]
        with torch.no_grad():
            self.pipeline.encode_garments([prepared], self.pipeline.default_size)
        return prepared

    def paint(
        self, persons: Sequence[TryOnInputs], garments: Sequence[PreparedGarment], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """An image of each person in the garment of the same place."""
        import torch

        generators = [torch.Generator().manual_seed(seed) for seed in seeds]  # on the CPU: for every device the same
        return self.pipeline(list(persons), list(garments), generator=generators, **self.options).images

    def settings_of(self, seed: int) -> dict[str, Any]:
        """Model, revision, seed, size and options of the call, for the image's file."""
        from ..pipelines.identity import result_settings

        return result_settings(self.pipeline, self.identity, seed=seed, **self.options)
