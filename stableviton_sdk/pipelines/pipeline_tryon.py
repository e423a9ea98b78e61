"""`TryOnPipeline`: a photo and a garment in, the same photo with the garment on out."""

from __future__ import annotations

import copy
import os
import tempfile
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import retrieve_latents
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from ..attention.detail import detail_transfers
from ..attention.recorder import (
    AttentionRequest,
    CallRecorder,
    ConditionalBranch,
    CoordinateRecorder,
    make_recorder,
    parse_attention_request,
)
from ..attention.result import TryOnAttention
from ..conversion.cache import ArchitectureOverride
from ..dtypes import resolve_dtype
from ..errors import InvalidInput, TryOnError
from ..hub.custom_pipeline import without_custom_modules
from ..images import ImageLike, as_image_list, load_photo, resize, resize_mask, to_tensor
from ..models.garment_encoder import GarmentEncoder
from ..models.patch_autoencoder import PatchAutoencoder
from ..models.spatial_encoder import SpatialEncoder
from ..models.step_cache import StepCache
from ..models.strict_loading import refuse_adapters
from ..models.unet import TryOnUNet
from ..preprocessing.garment import PreparedGarment, prepare_garment
from ..preprocessing.inputs import TryOnInputs
from ..preprocessing.preprocessor import PersonPreprocessor
from . import loading
from .acceleration import DEPTH, check_step_cache, optimize
from .background import with_background
from .batches import Pairs, each, split_batch
from .calls import Calls
from .checks import check_choices, check_finite, check_garment, check_person, check_tensors, raise_if_set
from .components import (
    check_components,
    check_same_dtype,
    check_scheduler,
    recall_options,
    remember_noise,
    warn_of_other_noise,
)
from .denoising import Conditions, denoise
from .encoding import encode_kept
from .lora import TryOnLoraLoaderMixin
from .pasting import paste_into_photos
from .pipeline_output import TryOnPipelineOutput
from .presets import QualityPreset, make_scheduler, resolve_preset

# Options of saved pipelines, by their names in earlier versions.
RENAMED_OPTIONS = {"default_steps": "default_num_inference_steps", "attention_block": "correspondence_block"}


class TryOnPipeline(TryOnLoraLoaderMixin, DiffusionPipeline):
    """Virtual try-on with StableVITON (arXiv 2312.01725).

    Inherits loading, saving, offloading and memory options from [`DiffusionPipeline`]. Several threads may call one
    pipeline at once, unless its weights move during a call (offloading, layerwise casting).

    Args:
        vae (`AutoencoderKL` or `PatchAutoencoder`): Encodes images to latents and decodes them.
        garment_encoder (`GarmentEncoder`): Encodes the garment as one context token.
        spatial_encoder (`SpatialEncoder`): Encodes the garment as the feature maps that zero cross-attention reads.
        unet (`TryOnUNet`): Denoises the person's latent.
        scheduler (`SchedulerMixin`): Noise schedule; copied for every call.
        preprocessor (`PersonPreprocessor`, *optional*): Derives agnostic mask and DensePose from a raw photo.
        weights_licence (`str`, *optional*):
            Licence of the weights, stored in the config and the model card; by default that of the pipeline that the
            networks come from.
        default_num_inference_steps (`int`, *optional*):
            Denoising steps of a call that names none; 50, unless the U-Net comes from a pipeline with another number.
        correspondence_block (`int`, *optional*):
            Zero cross-attention block that answers where pixels came from, 0 being the decoder's lowest resolution;
            by default each image's sharpest. (An unsupervised block can be confidently wrong.)
        default_detail (`float`, *optional*, defaults to 0.0): Detail transfer of a call that doesn't say, in [0, 1].
        restores_background (`bool`, *optional*, defaults to `False`):
            Replace what is background in a result by the photo's background continued into the mask: for networks
            that paint it as fog. It takes a preprocessor that tells silhouettes, as the bundled one does.
        quality_presets (`dict[str, dict]`, *optional*):
            What `quality=` means for these weights, by the fields of `QualityPreset`; by default what suits the
            authors' (`components.DEFAULT_PRESETS`).
    """

    # The spatial encoder alternates with the U-Net at every step, so it stays out of the sequence and on the device.
    model_cpu_offload_seq = "garment_encoder->unet->vae"
    _optional_components = ["preprocessor"]
    _callback_tensor_inputs = ["latents", "garment_embeds", "garment_latents", "conditioning"]

    def __init__(
        self,
        vae: AutoencoderKL | PatchAutoencoder,
        garment_encoder: GarmentEncoder,
        spatial_encoder: SpatialEncoder,
        unet: TryOnUNet,
        scheduler: KarrasDiffusionSchedulers,
        preprocessor: PersonPreprocessor | None = None,
        weights_licence: str | None = None,
        default_num_inference_steps: int | None = None,
        correspondence_block: int | None = None,
        default_detail: float | None = None,
        restores_background: bool | None = None,
        quality_presets: dict[str, dict[str, Any]] | None = None,
    ):
        super().__init__()
        components = {
            "vae": vae,
            "garment_encoder": garment_encoder,
            "spatial_encoder": spatial_encoder,
            "unet": unet,
            "scheduler": scheduler,
            "preprocessor": preprocessor,
        }
        options = {
            "weights_licence": weights_licence,
            "default_num_inference_steps": default_num_inference_steps,
            "correspondence_block": correspondence_block,
            "default_detail": default_detail,
            "restores_background": restores_background,
            "quality_presets": quality_presets,
        }
        check_components(components)
        self.register_modules(**components)
        self.register_to_config(**recall_options(components, options))
        remember_noise(unet, scheduler.config)
        self.vae_scale_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._calls = Calls()
        self._step_cache: dict[str, int] | None = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        checkpoint: str | None = None,
        architecture: ArchitectureOverride | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a pipeline.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`):
                A folder or Hub repository in this package's layout, or one of the authors' repositories
                (`hub.known_repos.KNOWN_REPOS`), whose checkpoint is downloaded, converted to `dtype` once and kept
                beside the Hub's cache; it has no `variant`.
            checkpoint (`str`, *optional*): Which of an authors' repository's checkpoints.
            architecture (`Mapping`, *optional*): For the conversion, what shapes can't tell.
            kwargs: See `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `revision`, `cache_dir`, `token`,
                `local_files_only`, `force_download`, `device_map`, components … A folder's weights are read from
                safetensors files, and where it has none from pickled ones (`.bin`), of which nothing but tensors is
                loaded; from the Hub come pickled ones only with `use_safetensors=False`.

        Returns:
            `TryOnPipeline`

        Raises:
            `WeightsUnavailable`: if the weights can't be had.
            `IncompatibleCheckpoint`: if a tensor is missing, one too many, or of another shape.
            `InvalidInput`: if the name is of something else.
        """
        folder, kwargs = loading.find_folder(cls, pretrained_model_name_or_path, checkpoint, architecture, kwargs)
        with loading.reading(folder):
            pipeline = super().from_pretrained(str(folder), **kwargs)
        if "scheduler" in kwargs and "unet" not in kwargs:  # the folder's own tells what its U-Net was trained with
            loading.remember_noise_of_folder(pipeline.unet, folder)
        return pipeline

    @classmethod
    def from_bundled(cls, **kwargs: Any) -> Self:
        """Load the small model that comes with the package: no download, no network.

        A preview that works anywhere, for upper bodies: it learnt from rendered figures alone and paints 256 x 192,
        with the garment's own detail at the photo's resolution. For quality there are the authors' weights.
        `BUNDLED / "README.md"` is its model card.

        Args:
            kwargs: See `from_pretrained`; the networks compute in float32 by default.
        """
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", torch.float32)
        return cls.from_pretrained(loading.BUNDLED, **kwargs)

    @classmethod
    def download(
        cls,
        pretrained_model_name: str | os.PathLike[str],
        *,
        checkpoint: str | None = None,
        architecture: ArchitectureOverride | None = None,
        **kwargs: Any,
    ) -> str:
        """Download a Hub repository, convert it if it is in the authors' layout, and return the folder.

        From a repository in this package's layout only configurations and weights are fetched, so no code can come
        along. (diffusers' own refuses pipelines whose classes live outside of it.)

        Args:
            pretrained_model_name, checkpoint, architecture, kwargs: See `from_pretrained`.

        Returns:
            `str`: a folder that `from_pretrained` loads.
        """
        return str(loading.download(cls, os.fspath(pretrained_model_name), checkpoint, architecture, kwargs))

    @classmethod
    def from_single_file(
        cls,
        path: str | os.PathLike[str],
        *,
        dtype: torch.dtype | str | None = None,
        architecture: ArchitectureOverride | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the authors' checkpoint file, without converting it on disk.

        Args:
            path (`str` or `os.PathLike`):
                `.ckpt`, or a safetensors file of the same keys; or the address of one on the Hub, as its page has it.
            dtype (`torch.dtype` or `str`, *optional*): Type of the weights; by default as stored.
            architecture (`Mapping`, *optional*): What shapes can't tell; see `conversion.infer_architecture`.
            kwargs: `scheduler=…`, `preprocessor=…`, to use instead of the released ones; and for an address
                `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`.

        Returns:
            `TryOnPipeline`

        Raises:
            `InvalidInput`: if there is no such file, or an argument is none of these.
            `IncompatibleCheckpoint`: if the file isn't a StableVITON checkpoint.
            `WeightsUnavailable`: if the address's file can't be had.
        """
        return cls(**loading.load_single_file(cls, path, dtype, architecture, kwargs))

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """A pipeline that shares another one's networks and options.

        Args:
            pipeline (`DiffusionPipeline`): A `TryOnPipeline`, or one of a class derived from it.
            kwargs: Components and options to use instead; `dtype` casts the networks, which are the other one's too.

        Returns:
            `TryOnPipeline`

        Raises:
            `InvalidInput`: if a component is missing, or an argument is none of these.
        """
        dtypes = [dtype for name in ("dtype", "torch_dtype") if (dtype := kwargs.pop(name, None)) is not None]
        made = cls(**loading.shared_arguments(cls, pipeline, kwargs))
        return made.to(dtype=resolve_dtype(dtypes[0])) if dtypes else made

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The pipeline, moved or cast in place.

        Args:
            args, kwargs: See `DiffusionPipeline.to`: a device, a number type, or both.
        """
        # a CPU computes float16, if slowly: diffusers' warning, once a network, says that it can't
        with loading.without_empty_warnings():
            return super().to(*args, **{"silence_dtype_warnings": True, **kwargs})

    def enable_vae_slicing(self) -> None:
        """Decode a batch's images one by one, which needs less memory. As on Stable Diffusion's pipelines."""
        loading.switch_vae(self.vae, "slicing", True)

    def disable_vae_slicing(self) -> None:
        """Decode a batch at once again."""
        loading.switch_vae(self.vae, "slicing", False)

    def enable_vae_tiling(self) -> None:
        """Encode and decode large images in tiles, which needs less memory. As on Stable Diffusion's pipelines."""
        loading.switch_vae(self.vae, "tiling", True)

    def disable_vae_tiling(self) -> None:
        """Encode and decode images as a whole again."""
        loading.switch_vae(self.vae, "tiling", False)

    def optimize(self) -> list[str]:
        """Do what makes calls faster on the pipeline's device, and changes results in the last digits only.

        Call it after `to`, and before offloading or layerwise casting is turned on; again when weights have moved.

        Returns:
            `list[str]`: a line on each thing that was done.

        Raises:
            `InvalidInput`: if weights are offloaded or cast during calls.
        """
        return optimize(self)

    def compile(self, **options: Any) -> None:
        """Compile the transformer blocks of the U-Net and the spatial encoder, for calls on a GPU.

        Their first calls take long then. On a CPU it gains nothing: `optimize` does more there, and compiled blocks
        do without it.

        Args:
            options: Of `torch.compile`.
        """
        for network in (self.unet, self.spatial_encoder):
            network.compile_repeated_blocks(**options)

    def enable_step_cache(self, interval: int = 2, depth: int = DEPTH) -> None:
        """Compute one denoising step in `interval` in full, and of the others only the decoder's last layers.

        An approximation (DeepCache, arXiv 2312.00858): deep features, and the spatial encoder's maps, hardly change
        from step to step. It needs no training and is meant for several steps: at one step nothing changes. Steps
        whose attention is recorded, and the last one where detail is carried over, are computed in full. Also instead
        of the step cache that a quality brings along.

        Args:
            interval (`int`, *optional*, defaults to 2): From 1, which changes nothing.
            depth (`int`, *optional*, defaults to 2):
                Layers of the decoder, and maps of the encoder, that every step computes: the more, the closer to the
                full result and the slower.

        Raises:
            `InvalidInput`: for other numbers, or networks whose inner blocks are offloaded or compiled.
        """
        self._step_cache = check_step_cache(self, interval, depth)

    def disable_step_cache(self) -> None:
        """Compute every step in full again, unless a call's quality says otherwise."""
        self._step_cache = None

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as `DiffusionPipeline` does, with a model card that carries the weights' licence on.

        A card that was written or changed by hand stays; a warning is given if it doesn't name the licence.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write.
            args, kwargs: See `DiffusionPipeline.save_pretrained`.

        Raises:
            `InvalidInput`: if a network has adapters in place, with which it couldn't be loaded.
        """
        refuse_adapters(self.components)
        push_to_hub, repo_id = kwargs.pop("push_to_hub", False), kwargs.pop("repo_id", None)
        names = ("commit_message", "private", "token", "create_pr")
        hub_options = {key: kwargs.pop(key) for key in names if key in kwargs}
        super().save_pretrained(save_directory, *args, **kwargs)
        loading.write_entry(Path(save_directory), type(self))
        is_own = loading.write_card(Path(save_directory), self.config.get("weights_licence"))
        if push_to_hub:
            loading.upload(save_directory, repo_id or Path(save_directory).name, keep_card=is_own, **hub_options)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        *,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
    ) -> str:
        """Upload the pipeline with a model card that carries the weights' licence; a card that is there stays.

        Args:
            repo_id (`str`): Owner and name; created if it isn't there.
            commit_message (`str`, *optional*): First line of the commit.
            private (`bool`, *optional*): Whether a repository that is created is private.
            token (`str` or `bool`, *optional*): Access token; the stored one by default.
            create_pr (`bool`, *optional*, defaults to `False`): Make a pull request of it.
            variant (`str`, *optional*): Part of the weights' file names.
            max_shard_size (`int` or `str`, *optional*): Of the weights' files.

        Returns:
            `str`: address of the commit.

        Raises:
            `WeightsUnavailable`: one sentence on why it couldn't be uploaded.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant, max_shard_size=max_shard_size)
            return loading.upload(folder, repo_id, True, commit_message, private, token, create_pr)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """A saved pipeline's configuration; names of earlier versions are translated.

        Args:
            args, kwargs: See `ConfigMixin.load_config`.
        """
        loaded = super().load_config(*args, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for old, new in RENAMED_OPTIONS.items():
            if old in config:
                config[new] = config.pop(old)
        # a folder's own modules are for `DiffusionPipeline`: this class imports none of them
        config.update(without_custom_modules(config))
        return loaded

    @property
    def default_size(self) -> tuple[int, int]:
        """Width and height in pixels that the weights were trained at."""
        height, width = self.unet.config.sample_size
        return width * self.vae_scale_factor, height * self.vae_scale_factor

    @property
    def default_width(self) -> int:
        """Width in pixels that the weights were trained at."""
        return self.default_size[0]

    @property
    def default_height(self) -> int:
        """Height in pixels that the weights were trained at."""
        return self.default_size[1]

    def quality_preset(self, quality: str) -> QualityPreset:
        """Steps and scheduler of a quality, for these weights and this scheduler.

        Args:
            quality (`str`): `"exact"`, `"balanced"`, `"fast"` or `"turbo"`.

        Raises:
            `InvalidInput`: for any other.
        """
        presets, steps = self.config.quality_presets, self.config.default_num_inference_steps
        return resolve_preset(quality, presets, steps, self.scheduler)

    @property
    def guidance_scale(self) -> float:
        """Guidance scale of the running call. A step callback may set it, by this name or diffusers' own."""
        return self._calls.current.guidance_scale

    @guidance_scale.setter
    def guidance_scale(self, value: float) -> None:
        self._calls.current.guidance_scale = value

    @property
    def _guidance_scale(self) -> float:
        return self._calls.current.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        self._calls.current.guidance_scale = value

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the running call computes the unconditional branch, as it does for guidance scales above 1."""
        return self._calls.current.guidance_scale > 1.0

    @property
    def num_timesteps(self) -> int:
        """Timesteps of the running call."""
        return self._calls.current.num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        """Timestep of the running call; None between calls."""
        return self._calls.current.current_timestep

    @property
    def interrupt(self) -> bool:
        """Whether the running call stops after the step. Set `_interrupt`: in a callback it stops the callback's
        call, anywhere else all calls that are running."""
        return self._calls.current.interrupt

    @property
    def _interrupt(self) -> bool:
        return self._calls.current.interrupt

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        self._calls.interrupt(value)

    def check_inputs(
        self,
        *,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float = 1.0,
        num_images_per_prompt: int = 1,
        init_from: str = "agnostic",
        feather: float = 6.0,
        detail: float = 0.0,
        output_type: str = "pil",
        on_error: str = "raise",
        batch_size: int | None = None,
        cancel_event: threading.Event | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> None:
        """Refuse sizes, counts and choices that can't work; images are checked where they are loaded.

        Args:
            height (`int`), width (`int`), num_inference_steps (`int`): See the call, and given.
            guidance_scale (`float`, *optional*), num_images_per_prompt (`int`, *optional*): See the call.
            init_from (`str`, *optional*), feather (`float`, *optional*): See the call.
            detail (`float`, *optional*), output_type (`str`, *optional*): See the call.
            on_error (`str`, *optional*), batch_size (`int`, *optional*): See the call.
            cancel_event (`Event`, *optional*): See the call.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): See the call.

        Raises:
            `InvalidInput`: naming the argument.
        """
        check_scheduler(self.scheduler)  # which may have been replaced, and the networks cast, at any time
        warn_of_other_noise(self.scheduler, self.unet)
        check_same_dtype(self.unet.dtype, self.spatial_encoder.dtype)
        check_choices(
            height=height,
            width=width,
            multiple=self.vae_scale_factor,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            num_images_per_prompt=num_images_per_prompt,
            init_from=init_from,
            feather=feather,
            detail=detail,
            output_type=output_type,
            on_error=on_error,
            batch_size=batch_size,
            cancel_event=cancel_event,
        )
        unknown = set(callback_on_step_end_tensor_inputs or ()) - set(self._callback_tensor_inputs)
        if unknown:
            raise InvalidInput(
                f"callback_on_step_end_tensor_inputs names {sorted(unknown)}: pass some of "
                f"{self._callback_tensor_inputs}."
            )

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
            height (`int`, *optional*), width (`int`, *optional*):
                Size in pixels that the network will work at; the frame has its proportions. As trained by default.
            options: The preprocessor's own options: `person_box`, `pose`, `mask_dilation`, `zoom_to_person` … (see
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
        options |= {"category": category, "aspect": self._size(height, width), "device": self._execution_device}
        photos, batched = as_image_list(person, name="person")
        prepared = each("person", photos, lambda _, photo: self.preprocessor(photo, **options))
        return prepared if batched else prepared[0]

    def prepare_persons(
        self,
        person: ImageLike | TryOnInputs | list[ImageLike | TryOnInputs],
        *,
        mask: ImageLike | list[ImageLike] | None = None,
        agnostic: ImageLike | list[ImageLike] | None = None,
        densepose: ImageLike | list[ImageLike] | None = None,
        category: str = "upper",
        height: int | None = None,
        width: int | None = None,
        failed: dict[int, TryOnError] | None = None,
    ) -> list[TryOnInputs]:
        """The call's persons, prepared: maps that are given win, the others are derived.

        Args:
            person, mask, agnostic, densepose, category, height, width: See the call.
            failed (`dict[int, TryOnError]`, *optional*):
                Collects what is wrong with persons, by their places, whose entries are None then.

        Returns:
            `list[TryOnInputs]`: one for each person.

        Raises:
            `InvalidInput`, `NoPersonFound`: naming the argument that doesn't fit.
        """
        size = self._size(height, width)
        persons, _ = ([person], False) if isinstance(person, TryOnInputs) else as_image_list(person, name="person")
        maps = {
            name: split_batch(value, len(persons), name)
            for name, value in (("mask", mask), ("agnostic", agnostic), ("densepose", densepose))
        }

        def prepare_one(place: int, entry: ImageLike | TryOnInputs) -> TryOnInputs:
            given = {name: values[place] for name, values in maps.items() if values[place] is not None}
            if isinstance(entry, TryOnInputs):
                inputs = entry
            elif {"mask", "densepose"} <= set(given):
                return check_person(TryOnInputs.from_maps(entry, aspect=size, **given), size)
            else:
                inputs = self.prepare(load_photo(entry, name="person"), category, height=size[1], width=size[0])
            return check_person(inputs.replace(**given) if given else inputs, size)

        return each("person", persons, prepare_one, failed)

    def prepare_garment(
        self,
        garment: ImageLike,
        *,
        height: int | None = None,
        width: int | None = None,
        garment_photo: str = "flat-lay",
        category: str = "upper",
    ) -> PreparedGarment:
        """Put a garment on the canvas that the network was trained with.

        Args:
            garment (`ImageLike`): Garment image of any size; transparency is respected.
            height (`int`, *optional*), width (`int`, *optional*):
                Size of the canvas in pixels; the trained one by default.
            garment_photo (`str`, *optional*, defaults to `"flat-lay"`):
                `"flat-lay"` (the garment alone), or `"model"` (worn by somebody: it is cut out).
            category (`str`, *optional*, defaults to `"upper"`): What to cut out of a photo of somebody.

        Returns:
            `PreparedGarment`: to look at and use again and again.

        Raises:
            `InvalidInput`: if the image can't be used.
            `NoPersonFound`: for `"model"`, if the photo shows nobody.
        """
        parser = None
        if garment_photo == "model":
            if self.preprocessor is None:
                raise InvalidInput(
                    'garment_photo="model" needs a preprocessor to cut the garment out: pass an image of the garment '
                    "alone, or make the pipeline with preprocessor=PersonPreprocessor()."
                )
            parser = self.preprocessor.parser(self._execution_device)
        size = self._size(height, width)
        return prepare_garment(garment, size=size, garment_photo=garment_photo, parser=parser, category=category)

    def prepare_garments(
        self,
        garment: ImageLike | PreparedGarment | list[ImageLike | PreparedGarment],
        *,
        garment_photo: str = "flat-lay",
        category: str = "upper",
        height: int | None = None,
        width: int | None = None,
        failed: dict[int, TryOnError] | None = None,
    ) -> list[PreparedGarment]:
        """The call's garments, prepared; what is prepared already stays as it is.

        Args:
            garment, garment_photo, category, height, width: See the call.
            failed (`dict[int, TryOnError]`, *optional*): See `prepare_persons`.

        Returns:
            `list[PreparedGarment]`: one for each garment.

        Raises:
            `InvalidInput`, `NoPersonFound`: naming the garment that can't be used.
        """
        size = self._size(height, width)
        options = {"garment_photo": garment_photo, "category": category, "height": size[1], "width": size[0]}
        garments, _ = (
            ([garment], False) if isinstance(garment, PreparedGarment) else as_image_list(garment, name="garment")
        )

        def prepare_one(_: int, entry: ImageLike | PreparedGarment) -> PreparedGarment:
            if isinstance(entry, PreparedGarment):
                return check_garment(entry, size)
            return self.prepare_garment(entry, **options)

        return each("garment", garments, prepare_one, failed)

    def encode_images(self, images: list[Image.Image], size: tuple[int, int]) -> torch.Tensor:
        """Scaled latents of images by the mode of the VAE's posterior.

        Args:
            images (`list[PIL.Image.Image]`): RGB, resized to `size` where they aren't of it.
            size (`tuple[int, int]`): Width and height in pixels.

        Returns:
            `torch.Tensor`: (N, channels, h, w).
        """
        return self._encode(torch.stack([to_tensor(image, size) for image in images]))

    def encode_garments(
        self, garments: list[PreparedGarment], size: tuple[int, int], batch_size: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode garments for the U-Net and the spatial encoder; what a garment keeps of an earlier call is taken.

        Args:
            garments (`list[PreparedGarment]`): Prepared garments.
            size (`tuple[int, int]`): Width and height in pixels.
            batch_size (`int`, *optional*): How many at a time; all by default.

        Returns:
            `tuple[torch.Tensor, torch.Tensor, torch.Tensor]`: in the U-Net's dtype: the garments' tokens
            (N, 1, width), the unconditional token (1, 1, width), and the garments' latents (N, channels, h, w).
        """
        device, dtype = self._execution_device, self.unet.dtype

        def embed(pixels: torch.Tensor) -> torch.Tensor:
            pixels = pixels.to(device=device, dtype=self.garment_encoder.dtype)
            embeds, negative_embeds = self.garment_encoder(pixels, return_dict=False)
            return torch.stack([embeds, negative_embeds.expand_as(embeds)], dim=1)

        pixels = [to_tensor(garment.image, size) for garment in garments]
        kept = [garment.encodings for garment in garments]
        embeds = encode_kept(pixels, kept, self.garment_encoder, embed, device, batch_size).to(dtype)
        latents = encode_kept(pixels, kept, self.vae, self._encode, device, batch_size).to(dtype)
        return embeds[:, 0], embeds[:1, 1], latents

    def prepare_conditioning(
        self, inputs: list[TryOnInputs], size: tuple[int, int], batch_size: int | None = None
    ) -> torch.Tensor:
        """What the U-Net sees beside the noisy latent: agnostic latent, mask (1 = keep), DensePose latent.

        What a person keeps of an earlier call is taken.

        Args:
            inputs (`list[TryOnInputs]`): Prepared persons.
            size (`tuple[int, int]`): Width and height in pixels.
            batch_size (`int`, *optional*): How many to encode at a time; all by default.

        Returns:
            `torch.Tensor`: (N, 9, h, w).
        """
        agnostic = [entry.agnostic_at(size) for entry in inputs]
        densepose = [resize(entry.frame_densepose, size, Image.Resampling.BILINEAR) for entry in inputs]
        masks = [np.asarray(resize_mask(entry.frame_mask, size)) < 128 for entry in inputs]
        latents = self._encode_kept(inputs * 2, agnostic + densepose, size, batch_size)
        # bilinear without anti-aliasing, as the weights were trained: values in between survive
        keep = torch.from_numpy(np.stack(masks)).float()[:, None]
        keep = F.interpolate(keep, size=latents.shape[-2:], mode="bilinear").to(latents)
        return torch.cat([latents[: len(inputs)], keep, latents[len(inputs) :]], dim=1)

    def prepare_latents(
        self,
        init_latents: torch.Tensor | None,
        shape: tuple[int, ...],
        scheduler: Any,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
    ) -> torch.Tensor:
        """The latents to denoise.

        Args:
            init_latents (`torch.Tensor`, *optional*): Latents to noise to the last timestep; None for pure noise.
            shape (`tuple[int, ...]`): (batch, channels, h, w).
            scheduler (`SchedulerMixin`): The call's own.
            generator (`torch.Generator` or a list, *optional*): Of the noise.
            latents (`torch.Tensor`, *optional*): Used as they are, instead.

        Returns:
            `torch.Tensor`: float32, of `shape`.
        """
        device = self._execution_device
        if latents is not None:
            return latents.to(device=device, dtype=torch.float32)
        noise = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        if init_latents is not None:
            signal = scheduler.alphas_cumprod[-1].to(device=device, dtype=torch.float32)
            noise = signal.sqrt() * init_latents.float() + (1 - signal).sqrt() * noise
        return noise * scheduler.init_noise_sigma

    def decode_latents(self, latents: torch.Tensor, batch_size: int | None = None) -> np.ndarray:
        """Images of scaled latents.

        Args:
            latents (`torch.Tensor`): (N, channels, h, w).
            batch_size (`int`, *optional*): How many at a time; all by default.

        Returns:
            `np.ndarray`: float32, (N, H, W, 3) in [0, 1].

        Raises:
            `TryOnError`: if the decoder computed NaN or infinite values.
        """
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        parts = latents.split(batch_size or len(latents))
        pixels = torch.cat([self.vae.decode(part, return_dict=False)[0] for part in parts])
        check_finite(pixels, self.vae.dtype)
        return self.image_processor.postprocess(pixels.float(), output_type="np")

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.to(device=self._execution_device, dtype=self.vae.dtype)
        latents = retrieve_latents(self.vae.encode(pixels), sample_mode="argmax")
        return latents * self.vae.config.scaling_factor

    def _encode_kept(
        self, inputs: list[TryOnInputs], images: list[Image.Image], size: tuple[int, int], batch_size: int | None
    ) -> torch.Tensor:
        """Scaled latents of the persons' images, which each person keeps."""
        pixels = [to_tensor(image, size) for image in images]
        kept = [entry.encodings for entry in inputs]
        return encode_kept(pixels, kept, self.vae, self._encode, self._execution_device, batch_size)

    def _make_step_cache(self, preset: QualityPreset, given_steps: int | None) -> StepCache | None:
        """An empty step cache for a part of a call, as was enabled, or as the preset says for its own steps."""
        options = self._step_cache or (preset.step_cache if given_steps is None else None)
        return StepCache(**options) if options else None

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Width and height that a call works at."""
        return self.default_width if width is None else width, self.default_height if height is None else height

    @torch.no_grad()
    def __call__(
        self,
        person: ImageLike | TryOnInputs | list[ImageLike | TryOnInputs],
        garment: ImageLike | PreparedGarment | list[ImageLike | PreparedGarment],
        *,
        category: str = "upper",
        mask: ImageLike | list[ImageLike] | None = None,
        agnostic: ImageLike | list[ImageLike] | None = None,
        densepose: ImageLike | list[ImageLike] | None = None,
        garment_photo: str = "flat-lay",
        height: int | None = None,
        width: int | None = None,
        quality: str = "exact",
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        init_from: str = "agnostic",
        paste_back: bool = True,
        feather: float = 6.0,
        detail: float | None = None,
        output_type: str = "pil",
        on_error: str = "raise",
        return_dict: bool = True,
        batch_size: int | None = None,
        output_attention: bool | Collection[int] | AttentionRequest | CallRecorder = False,
        cancel_event: threading.Event | None = None,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006 (diffusers' own signature)
    ) -> TryOnPipelineOutput | tuple[Any, ...]:
        """Dress a person.

        One person with N garments, N persons with one garment, or N with N pairwise.

        Args:
            person (`ImageLike`, `TryOnInputs` or a list):
                Photo of any size and proportions, or what `prepare` made of one.
            garment (`ImageLike`, `PreparedGarment` or a list):
                Image of a garment, of any size, or what `prepare_garment` made of one.
            category (`str`, *optional*, defaults to `"upper"`): `"upper"`, `"lower"` or `"dress"`, for a derived mask.
            mask (`ImageLike` or a list, *optional*):
                Agnostic mask of the whole photo, in any resolution: white is repainted, black is kept. Wins over the
                derived one.
            agnostic (`ImageLike` or a list, *optional*):
                The whole photo with what is repainted at grey 128; derived from photo and mask by default.
            densepose (`ImageLike` or a list, *optional*): DensePose image of the whole photo, parula palette on black.
            garment_photo (`str`, *optional*, defaults to `"flat-lay"`): `"flat-lay"` or `"model"` (worn).
            height (`int`, *optional*), width (`int`, *optional*):
                Size in pixels that the network works at; as trained by default. The result has the photo's size.
            quality (`str`, *optional*, defaults to `"exact"`):
                `"exact"`, `"balanced"`, `"fast"` or `"turbo"`: fewer steps, by a scheduler made for them, as the
                weights' `quality_presets` say: 50, 20, 10 and 5 steps for the authors', `"fast"` with the step cache;
                the bundled model paints in one step whatever the quality. `num_inference_steps` wins, and so does a
                scheduler that you put in the pipeline.
            num_inference_steps (`int`, *optional*):
                Denoising steps; by default as many as the quality says.
            guidance_scale (`float`, *optional*, defaults to 1.0):
                Classifier-free guidance towards the garment's embedding, from 0. Up to 1, the authors' value, it is
                off; above 1 every step costs two evaluations.
            num_images_per_prompt (`int`, *optional*, defaults to 1): Images of each pair.
            generator (`torch.Generator` or a list, *optional*): One for all images, or one for each.
            latents (`torch.Tensor`, *optional*): Noised start latents, of the shape that
                `output_type="latent"` has: (images, 4, height / 8, width / 8) for the authors' weights.
            init_from (`str`, *optional*, defaults to `"agnostic"`):
                What is noised to denoise from: the `"agnostic"` image, the `"person"` (the authors' way, which leaks
                the worn garment in paired tests), or nothing (`"noise"`).
            paste_back (`bool`, *optional*, defaults to `True`):
                Paste what the network painted into the photo, so that pixels outside the mask stay the photo's own.
                False returns all of the frame that the network painted.
            feather (`float`, *optional*, defaults to 6.0):
                Width of the seam, which lies inside the mask, in pixels of the network's image.
            detail (`float`, *optional*):
                How much of the garment's own fine detail (prints, letters, weave) is carried along the attention into
                the result, at the photo's resolution: from 0, none, to 1; the weights' `default_detail` by default.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"`.
            on_error (`str`, *optional*, defaults to `"raise"`):
                `"raise"`, or `"skip"`: a person or garment of a list that can't be used leaves None in its results'
                places, and its error in `errors`; the rest of the call goes on. A call without any usable pair raises.
            return_dict (`bool`, *optional*, defaults to `True`): Return an output class instead of a tuple.
            batch_size (`int`, *optional*):
                Images at a time, which bounds the memory; all of the call at once by default. Callbacks and a
                `CallRecorder` go through all steps of the first ones, then of the next.
            output_attention (`bool`, a collection of `int` or `AttentionRequest`, *optional*, defaults to `False`):
                Whether to record where the network looks, at all steps or the given ones, or as the request says.
                Changes no pixel. A `CallRecorder` of your own receives queries and keys; `attention` is None then.
            cancel_event (`threading.Event`, *optional*):
                Cancels this call alone when it is set, from any thread: the call ends before its next step with
                `CallCancelled`.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipeline, step, timestep, tensors)`; may return tensors to go on with, by name.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): Names out of `_callback_tensor_inputs`.

        Returns:
            `TryOnPipelineOutput`, or a `tuple` that begins with the images.

        Raises:
            `InvalidInput`: one sentence on what doesn't fit.
            `NoPersonFound`: if a mask has to be derived and the photo shows nobody.
            `CallCancelled`: if `cancel_event` was set.
            `TryOnError`: if a network computed NaN or infinite values, which would be black in an image.

        Examples:
            ```py
            >>> from stableviton_sdk import TryOnPipeline
            >>> pipe = TryOnPipeline.from_pretrained("rlawjdghek/StableVITON", dtype=torch.float16).to("cuda")
            >>> pipe("person.jpg", "garment.jpg").images[0].save("result.png")
            ```
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        networks = (part for part in self.components.values() if isinstance(part, torch.nn.Module))
        with self._calls.begin(networks) as call:
            # 1. check what needs no image
            width, height = size = self._size(height, width)
            preset = self.quality_preset(quality)
            given_steps = num_inference_steps
            if num_inference_steps is None:
                num_inference_steps = preset.num_inference_steps
            if detail is None:
                detail = self.config.default_detail
            self.check_inputs(
                height=height,
                width=width,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                num_images_per_prompt=num_images_per_prompt,
                init_from=init_from,
                feather=feather,
                detail=detail,
                output_type=output_type,
                on_error=on_error,
                batch_size=batch_size,
                cancel_event=cancel_event,
                callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            )
            call.guidance_scale = guidance_scale

            # 2. prepare persons and garments, and pair them
            options = {"category": category, "height": height, "width": width}
            failed_persons, failed_garments = ({}, {}) if on_error == "skip" else (None, None)
            persons = self.prepare_persons(
                person, mask=mask, agnostic=agnostic, densepose=densepose, **options, failed=failed_persons
            )
            garments = self.prepare_garments(garment, garment_photo=garment_photo, **options, failed=failed_garments)
            pairs = Pairs(len(persons), len(garments), num_images_per_prompt, failed_persons, failed_garments)
            raise_if_set(cancel_event)
            persons, garments = pairs.persons_of(persons), pairs.garments_of(garments)
            person_index, garment_index = pairs.person_index, pairs.garment_index
            request = parse_attention_request(
                output_attention, self.unet.num_zero_cross_attentions, [entry.frame for entry in persons]
            )
            factor = self.vae_scale_factor
            shape = (pairs.count, self.vae.config.latent_channels, height // factor, width // factor)
            check_tensors(generator=generator, latents=latents, batch_size=pairs.total, latent_shape=shape[1:])
            generator, latents = pairs.select(generator), pairs.select(latents)

            # 3. encode garments and persons, each once
            garment_embeds, negative_garment_embeds, garment_latents = self.encode_garments(garments, size, batch_size)
            conditioning = self.prepare_conditioning(persons, size, batch_size)
            init_latents = None
            if init_from == "agnostic":
                init_latents = conditioning[:, : shape[1]][person_index]
            elif init_from == "person" and latents is None:
                init_latents = self._encode_kept(persons, [entry.frame_person for entry in persons], size, batch_size)
                init_latents = init_latents[person_index]
            conditions = Conditions(
                garment_embeds[garment_index],
                negative_garment_embeds,
                garment_latents[garment_index],
                conditioning.to(self.unet.dtype)[person_index],
            )

            # 4. timesteps and latents
            scheduler = make_scheduler(self.scheduler, preset, given_steps, self._execution_device)
            call.num_timesteps = len(scheduler.timesteps)
            latents = self.prepare_latents(init_latents, shape, scheduler, generator, latents)
            inputs = [persons[index] for index in person_index]
            worn = [garments[index] for index in garment_index]
            parts = pairs.parts(batch_size)
            recorders = [make_recorder(request, [inputs[i].frame for i in part], call.num_timesteps) for part in parts]
            block, places = self.config.correspondence_block, []
            if detail > 0 and output_type != "latent":
                blocks = None if block is None else {block}
                places = [CoordinateRecorder({call.num_timesteps - 1}, blocks) for _ in parts]

            # 5. denoise, all images at once or so many at a time
            denoised = []
            with self.progress_bar(total=num_inference_steps * len(parts)) as progress_bar:
                for number, part in enumerate(parts):
                    listening = [recorders[number], *places[number : number + 1]]
                    listening = [recorder for recorder in listening if recorder is not None]
                    denoised.append(
                        denoise(
                            self,
                            call,
                            copy.deepcopy(scheduler),
                            latents[part],
                            conditions.select(part),
                            num_inference_steps=num_inference_steps,
                            generator=[generator[i] for i in part] if isinstance(generator, list) else generator,
                            branch=ConditionalBranch(listening, len(part)) if listening else None,
                            step_cache=self._make_step_cache(preset, given_steps),
                            cancel_event=cancel_event,
                            callback_on_step_end=callback_on_step_end,
                            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
                            progress_bar=progress_bar,
                        )
                    )
            latents = torch.cat(denoised)
            check_finite(latents, self.unet.dtype)

            # 6. decode, and paste back into the photos
            images = latents
            if output_type != "latent":
                finishes = []
                if places:
                    finishes = detail_transfers(CoordinateRecorder.joined(places), inputs, worn, block, detail)
                if self.config.restores_background:
                    finishes = with_background(finishes, inputs, self.preprocessor)
                images = paste_into_photos(
                    self.decode_latents(latents, batch_size),
                    inputs,
                    paste_back=paste_back,
                    feather=feather,
                    output_type=output_type,
                    finishes=finishes,
                )
            attention = None
            if isinstance(request, AttentionRequest):
                attention = TryOnAttention.of_call(
                    CoordinateRecorder.joined(recorders),
                    request,
                    inputs,
                    worn,
                    () if output_type == "latent" else images,
                    self.config.correspondence_block,
                )
                attention = attention if not pairs.errors else attention.spread(pairs.kept, pairs.total)
            self.maybe_free_model_hooks()
        output = TryOnPipelineOutput(
            images=pairs.spread(images), attention=attention, inputs=pairs.spread(inputs), errors=pairs.errors or None
        )
        return output if return_dict else output.to_tuple()
