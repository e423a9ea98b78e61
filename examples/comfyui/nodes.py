"""The nodes: load a model, prepare a person, try garments on, and see where their pixels came from.

The package itself is imported when a node runs, so that ComfyUI starts as fast as without it.
"""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from . import tensors
from .models import BUNDLED, DTYPES, TryOnModel, available_models

CATEGORY = "try-on"
CATEGORIES = ["upper", "lower", "dress"]
GARMENT_PHOTOS = ["flat-lay", "model"]
QUALITIES = ["balanced", "exact", "fast", "turbo"]

Model = io.Custom("TRYON_MODEL")
Person = io.Custom("TRYON_PERSON")
Attention = io.Custom("TRYON_ATTENTION")


class LoadTryOnModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StableVITON_LoadModel",
            display_name="Load TryOn Model",
            category=CATEGORY,
            description="The small bundled model, or what lies in ComfyUI's models/stableviton: a converted folder, "
            "or a released checkpoint (.ckpt, .safetensors). It is read when it is first needed.",
            inputs=[
                io.Combo.Input("name", options=available_models(), default=BUNDLED),
                io.Combo.Input("dtype", options=DTYPES, default=DTYPES[0]),
            ],
            outputs=[Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, name: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(TryOnModel(name, dtype))


class PreparePerson(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StableVITON_PreparePerson",
            display_name="Prepare Person",
            category=CATEGORY,
            description="What the network is given of a photo. The mask (white = repainted) has the photo's size: "
            "correct it as you like, and pass it to TryOn.",
            inputs=[
                Model.Input("model"),
                io.Image.Input("photo"),
                io.Combo.Input("category", options=CATEGORIES, default=CATEGORIES[0]),
                io.Mask.Input("mask", optional=True, tooltip="Used instead of the derived one."),
                io.Image.Input("densepose", optional=True, tooltip="Of the whole photo, instead of the derived one."),
            ],
            outputs=[
                Person.Output(display_name="person"),
                io.Mask.Output(display_name="mask"),
                io.Image.Output(display_name="agnostic"),
                io.Image.Output(display_name="densepose"),
            ],
        )

    @classmethod
    def execute(cls, model: TryOnModel, photo, category: str, mask=None, densepose=None) -> io.NodeOutput:
        pipeline = model.pipeline()
        photos = tensors.to_images(photo)
        persons = pipeline.prepare_persons(
            photos,
            mask=tensors.for_each(tensors.to_masks(mask), len(photos), "mask"),
            densepose=tensors.for_each(tensors.to_images(densepose), len(photos), "densepose"),
            category=category,
        )
        size = pipeline.default_size
        return io.NodeOutput(
            persons,
            tensors.from_images([person.photo_mask() for person in persons])[..., 0],
            tensors.from_images([person.agnostic_at(size) for person in persons]),
            tensors.from_images([person.frame_densepose.resize(size) for person in persons]),
        )


class TryOn(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StableVITON_TryOn",
            display_name="TryOn",
            category=CATEGORY,
            description="The photos with the garments on, of the photos' size; outside the mask every pixel is the "
            "photo's own. One person in many garments, many persons in one, or as many of each.",
            inputs=[
                Model.Input("model"),
                Person.Input("person"),
                io.Image.Input("garment"),
                io.Combo.Input("garment_photo", options=GARMENT_PHOTOS, default=GARMENT_PHOTOS[0]),
                io.Combo.Input("quality", options=QUALITIES, default=QUALITIES[0]),
                io.Float.Input(
                    "detail", default=-1.0, min=-1.0, max=1.0, step=0.05, tooltip="-1: as suits the weights."
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**53 - 1, control_after_generate=True, tooltip="Of the first image."
                ),
                io.Int.Input("steps", default=0, min=0, max=200, tooltip="0: as the quality has it."),
                io.Float.Input("guidance_scale", default=1.0, min=1.0, max=20.0, step=0.1),
                io.Boolean.Input("unload", default=False, tooltip="Free the model's memory when done."),
                io.Mask.Input("mask", optional=True, tooltip="Of the whole photo: white = repainted."),
            ],
            outputs=[io.Image.Output(display_name="images"), Attention.Output(display_name="attention")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: TryOnModel,
        person,
        garment,
        garment_photo: str,
        quality: str,
        detail: float,
        seed: int,
        steps: int,
        guidance_scale: float,
        unload: bool,
        mask=None,
    ) -> io.NodeOutput:
        import torch

        garments = tensors.to_images(garment)
        count = max(len(person), len(garments))
        try:
            out = model.pipeline()(
                tensors.for_each(person, count, "person"),
                tensors.for_each(garments, count, "garment"),
                mask=tensors.for_each(tensors.to_masks(mask), count, "mask"),
                garment_photo=garment_photo,
                quality=quality,
                detail=None if detail < 0 else detail,
                num_inference_steps=steps or None,
                guidance_scale=guidance_scale,
                generator=[torch.Generator().manual_seed(seed + place) for place in range(count)],
                callback_on_step_end=ProgressOf(cls.hidden.unique_id),
                output_attention=True,
            )
        finally:
            if unload:
                model.unload()
        return io.NodeOutput(tensors.from_images(out.images), out.attention)


class Correspondence(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StableVITON_Correspondence",
            display_name="TryOn Correspondence",
            category=CATEGORY,
            description="Where the result's pixels came from: colours on the garment and where they landed, the "
            "garment as the attention warps it, and the source of one pixel.",
            inputs=[
                Attention.Input("attention"),
                io.Int.Input("index", default=0, min=0, max=4095, tooltip="Which image of the batch."),
                io.Int.Input("x", default=0, min=0, max=65535, tooltip="Pixel of the result."),
                io.Int.Input("y", default=0, min=0, max=65535),
            ],
            outputs=[
                io.Image.Output(display_name="correspondence"),
                io.Image.Output(display_name="warped garment"),
                io.Mask.Output(display_name="warped mask"),
                io.Float.Output(display_name="garment x"),
                io.Float.Output(display_name="garment y"),
                io.Float.Output(display_name="certainty"),
            ],
        )

    @classmethod
    def execute(cls, attention, index: int, x: int, y: int) -> io.NodeOutput:
        source = attention.source_of(x, y, image=index)
        warped = attention.warp(image=index)
        return io.NodeOutput(
            tensors.from_images([attention.to_image(image=index)]),
            tensors.from_images([warped.convert("RGB")]),
            tensors.from_images([warped.getchannel("A")])[..., 0],
            *source,
        )


class ProgressOf:
    """A pipeline's `callback_on_step_end`: a node's progress with a preview, and the end where it is interrupted.

    Args:
        node_id (`str`): Of the node.
    """

    def __init__(self, node_id: str):
        self.node_id = node_id

    def __call__(self, pipeline, step: int, timestep, values: dict) -> dict:
        from comfy import model_management, utils

        from stableviton_sdk.serving.previews import preview_of

        model_management.throw_exception_if_processing_interrupted()
        # the versioned API has no progress that works in the ComfyUI of October 2025
        progress = utils.ProgressBar(pipeline.num_timesteps, node_id=self.node_id)
        preview = preview_of(pipeline.vae, values["latents"])
        progress.update_absolute(step + 1, preview=("JPEG", preview, None))
        return {}


class TryOnExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadTryOnModel, PreparePerson, TryOn, Correspondence]


async def comfy_entrypoint() -> TryOnExtension:
    return TryOnExtension()
