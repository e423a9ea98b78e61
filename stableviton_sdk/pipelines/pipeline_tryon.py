"""`TryOnPipeline`: a photo and a garment in, the same photo with the garment on out."""

from __future__ import annotations

import copy
import inspect
import os
import tempfile
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

from ..attention.recorder import AttentionRequest, ImagesBranch, StepRecorder, open_recorder, read_request
from ..attention.result import TryOnAttention
from ..conversion.cache import ArchitectureOverride
from ..errors import InvalidInput
from ..images import ImageLike, as_image_list, resize, resize_mask, to_tensor
from ..models.garment_encoder import GarmentEncoder
from ..models.patch_autoencoder import PatchAutoencoder
from ..models.spatial_encoder import SpatialEncoder
from ..models.unet import TryOnUNet
from ..preprocessing.inputs import TryOnInputs, grey_out
from ..preprocessing.preprocessor import PersonPreprocessor
from . import loading
from .call_state import CallPropertiesMixin, CallState, OffloadGuard
from .checks import check_numbers, check_tensors, collect_inputs, pair_up
from .lora import TryOnLoraLoaderMixin, refuse_adapters
from .pasting import finish
from .pipeline_output import TryOnPipelineOutput
from .preparation import PreparationMixin


class TryOnPipeline(PreparationMixin, CallPropertiesMixin, TryOnLoraLoaderMixin, DiffusionPipeline):
    """Virtual try-on with StableVITON (arXiv 2312.01725).

    Inherits loading, saving, offloading and memory options from [`DiffusionPipeline`].

    Args:
        vae (`AutoencoderKL` or `PatchAutoencoder`): Images to latents and back.
        garment_encoder (`GarmentEncoder`): The garment as one context token.
        spatial_encoder (`SpatialEncoder`): The garment as feature maps to look things up in.
        unet (`TryOnUNet`): Denoises the person's latent.
        scheduler (`SchedulerMixin`): Copied for every call.
        preprocessor (`PersonPreprocessor`, *optional*): Derives agnostic mask and DensePose from a raw photo.
        weights_licence (`str`, *optional*): Licence of the weights; goes where the weights go.
        default_steps (`int`, *optional*, defaults to 50): Denoising steps where a call doesn't say.
        attention_block (`int`, *optional*):
            The zero cross-attention that tells where pixels came from, where a call doesn't say; by default each
            image's sharpest. (A block that nothing trained for it may be sure of a wrong place.)
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
        default_steps: int = 50,
        attention_block: int | None = None,
    ):
        super().__init__()
        self.register_modules(
            vae=vae,
            garment_encoder=garment_encoder,
            spatial_encoder=spatial_encoder,
            unet=unet,
            scheduler=scheduler,
            preprocessor=preprocessor,
        )
        self.register_to_config(
            weights_licence=weights_licence, default_steps=default_steps, attention_block=attention_block
        )
        self.vae_scale_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._offload_guard = OffloadGuard()
        self._call_state = CallState()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
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
            kwargs: As for `DiffusionPipeline.from_pretrained`: `dtype`, `variant`, `revision`, `cache_dir`, `token`,
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
            return super().from_pretrained(str(folder), **kwargs)

    @classmethod
    def from_bundled(cls, **kwargs: Any) -> Self:
        """Load the small model that comes with the package: no download, no network.

        It was trained from nothing on rendered figures, works at 256 x 192, and is there to try things out, for tests
        and for measurements. It knows no photos. `BUNDLED / "README.md"` is its model card.

        Args:
            kwargs: As for `from_pretrained`. The networks compute in float32 by default.
        """
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", torch.float32)
        return cls.from_pretrained(loading.BUNDLED, **kwargs)

    @classmethod
    def download(
        cls,
        pretrained_model_name: str | os.PathLike,
        *,
        checkpoint: str | None = None,
        architecture: ArchitectureOverride | None = None,
        **kwargs: Any,
    ) -> str:
        """Download a Hub repository, convert it if it is in the authors' layout, and return the folder.

        From a repository in this package's layout only configurations and weights are fetched, so no code can come
        along. (diffusers' own refuses pipelines whose classes live outside of it.)

        Args:
            pretrained_model_name, checkpoint, architecture, kwargs: As for `from_pretrained`.

        Returns:
            `str`: a folder that `from_pretrained` loads.
        """
        return str(loading.download(cls, os.fspath(pretrained_model_name), checkpoint, architecture, kwargs))

    @classmethod
    def from_single_file(
        cls,
        path: str | os.PathLike,
        *,
        dtype: torch.dtype | str | None = None,
        architecture: ArchitectureOverride | None = None,
        **components: Any,
    ) -> Self:
        """Load the authors' checkpoint file, without converting it on disk.

        Args:
            path (`str` or `os.PathLike`): `.ckpt`, or a safetensors file of the same keys.
            dtype (`torch.dtype` or `str`, *optional*): Type of the weights; by default as stored.
            architecture (`Mapping`, *optional*): What shapes can't tell; see `conversion.infer_architecture`.
            components: `scheduler=…`, `preprocessor=…`, to use instead of the released ones.

        Returns:
            `TryOnPipeline`

        Raises:
            `InvalidInput`: if there is no such file, or an argument is none of these.
            `IncompatibleCheckpoint`: if the file isn't a StableVITON checkpoint.
        """
        known = inspect.signature(cls.__init__).parameters
        for component in components:
            if component not in known:
                raise InvalidInput(f"from_single_file has no argument {component!r}: leave it out.")
        return cls(**loading.load_single_file(path, dtype, architecture, components))

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as `DiffusionPipeline` does, with a model card that carries the weights' licence on.

        A card that was written or changed by hand stays; a warning is given if it doesn't name the licence.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write.
            args, kwargs: As for `DiffusionPipeline.save_pretrained`.

        Raises:
            `InvalidInput`: if a network has adapters in place, with which it couldn't be loaded.
        """
        refuse_adapters(self.components)
        push_to_hub, repo_id = kwargs.pop("push_to_hub", False), kwargs.pop("repo_id", None)
        names = ("commit_message", "private", "token", "create_pr")
        hub_options = {key: kwargs.pop(key) for key in names if key in kwargs}
        super().save_pretrained(save_directory, *args, **kwargs)
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

    def encode_images(self, images: list[Image.Image], size: tuple[int, int]) -> torch.Tensor:
        """Scaled latents of images by the mode of the VAE's posterior, (N, channels, h, w).

        Args:
            images (`list[PIL.Image.Image]`): RGB, resized to `size` where they aren't of it.
            size (`tuple[int, int]`): Width and height.
        """
        return self._encode(torch.stack([to_tensor(image, size) for image in images]))

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.to(device=self._execution_device, dtype=self.vae.dtype)
        latents = retrieve_latents(self.vae.encode(pixels), sample_mode="argmax")
        return latents * self.vae.config.scaling_factor

    def prepare_conditioning(self, inputs: list[TryOnInputs], size: tuple[int, int]) -> torch.Tensor:
        """What the U-Net sees beside the noisy latent: agnostic latent, mask (1 = keep), DensePose latent.

        Args:
            inputs (`list[TryOnInputs]`): Prepared persons.
            size (`tuple[int, int]`): Width and height in pixels.

        Returns:
            `torch.Tensor`: (N, 9, h, w).
        """
        agnostic, masks, densepose = [], [], []
        for entry in inputs:
            mask = resize_mask(entry.mask, size)
            agnostic.append(entry.agnostic or grey_out(resize(entry.person, size), mask))
            densepose.append(resize(entry.densepose, size, Image.Resampling.BILINEAR))
            masks.append(torch.from_numpy(np.asarray(mask) < 128).float()[None])
        count = len(inputs)
        latents = self.encode_images(agnostic + densepose, size)
        # bilinear without anti-aliasing, as the weights were trained: values in between survive
        keep = F.interpolate(torch.stack(masks), size=latents.shape[-2:], mode="bilinear").to(latents)
        return torch.cat([latents[:count], keep, latents[count:]], dim=1)

    def prepare_latents(
        self,
        start_latents: torch.Tensor | None,
        shape: tuple[int, ...],
        scheduler: Any,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
    ) -> torch.Tensor:
        """The latents to denoise, float32.

        Args:
            start_latents (`torch.Tensor`, *optional*): Latents to noise to the last timestep; None for pure noise.
            shape (`tuple[int, ...]`): (batch, channels, h, w).
            scheduler (`SchedulerMixin`): The call's own.
            generator (`torch.Generator` or a list, *optional*): Of the noise.
            latents (`torch.Tensor`, *optional*): Used as they are, instead.
        """
        device = self._execution_device
        if latents is not None:
            return latents.to(device=device, dtype=torch.float32)
        noise = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        if start_latents is not None:
            signal = scheduler.alphas_cumprod[-1].to(device=device, dtype=torch.float32)
            noise = signal.sqrt() * start_latents.float() + (1 - signal).sqrt() * noise
        return noise * scheduler.init_noise_sigma

    def check_inputs(self, **arguments: Any) -> None:
        """Refuse numbers and choices that can't work; images are checked where they are loaded."""
        check_numbers(multiple=self.vae_scale_factor, **arguments)

    @torch.no_grad()
    def __call__(
        self,
        person: ImageLike | TryOnInputs | list[ImageLike | TryOnInputs],
        garment: ImageLike | list[ImageLike],
        *,
        category: str = "upper",
        mask: ImageLike | list[ImageLike] | None = None,
        agnostic: ImageLike | list[ImageLike] | None = None,
        densepose: ImageLike | list[ImageLike] | None = None,
        garment_photo: str = "flat-lay",
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        start: str = "agnostic",
        repaint: bool = True,
        feather: float = 6.0,
        output_type: str = "pil",
        return_dict: bool = True,
        output_attention: bool | Collection[int] | AttentionRequest | StepRecorder = False,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006 (diffusers' own signature)
    ) -> TryOnPipelineOutput | tuple:
        """Dress a person.

        One person with N garments, N persons with one garment, or N with N pairwise.

        Args:
            person (`ImageLike`, `TryOnInputs` or a list):
                Photo of any size and proportions, or what `prepare` made of one.
            garment (`ImageLike` or a list): Garment image of any size.
            category (`str`, *optional*, defaults to `"upper"`): `"upper"`, `"lower"` or `"dress"`, for a derived mask.
            mask (`ImageLike` or a list, *optional*):
                White = repaint, black = keep, of the whole photo in any resolution. Wins over the derived one.
            agnostic (`ImageLike` or a list, *optional*):
                The photo with the region to repaint at grey 128; derived from photo and mask by default.
            densepose (`ImageLike` or a list, *optional*): DensePose of the whole photo, parula palette on black.
            garment_photo (`str`, *optional*, defaults to `"flat-lay"`): `"flat-lay"` or `"model"`.
            height (`int`, *optional*), width (`int`, *optional*):
                What the network works at, in pixels; as trained by default. The result always has the photo's size.
            num_inference_steps (`int`, *optional*):
                Denoising steps; by default as many as suit the weights (`default_steps`): 50 for the released ones.
            guidance_scale (`float`, *optional*, defaults to 1.0):
                Classifier-free guidance towards the garment's embedding. 1 is the authors' and costs half.
            num_images_per_prompt (`int`, *optional*, defaults to 1): Images of each pair.
            generator (`torch.Generator` or a list, *optional*): One for all images, or one for each.
            latents (`torch.Tensor`, *optional*): Noised start latents, of the shape that
                `output_type="latent"` has: (images, 4, height / 8, width / 8) for the authors' weights.
            start (`str`, *optional*, defaults to `"agnostic"`):
                What is noised to start from: the `"agnostic"` image, the `"person"` (the authors' way, which leaks
                the worn garment in paired tests), or nothing (`"noise"`).
            repaint (`bool`, *optional*, defaults to `True`):
                Keep the photo's own pixels outside the mask. False returns all that the network painted.
            feather (`float`, *optional*, defaults to 6.0):
                Width of the seam, inside the mask, in pixels of the network's image.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"`.
            return_dict (`bool`, *optional*, defaults to `True`): Return an output class instead of a tuple.
            output_attention (`bool`, a collection of `int` or `AttentionRequest`, *optional*, defaults to `False`):
                Note where the network looked, at all steps or the given ones, or what the request says. Changes no
                pixel. Or a `StepRecorder` of your own, which is shown queries and keys; `attention` is None then.
            callback_on_step_end (`Callable`, *optional*): Called as `callback(pipeline, step, timestep, tensors)`.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): Of `_callback_tensor_inputs`.

        Returns:
            `TryOnPipelineOutput` or `tuple`: the images first.

        Raises:
            `InvalidInput`: one sentence on what doesn't fit.
            `NoPersonFound`: if a mask has to be derived and the photo shows nobody.

        Examples:
            ```py
            >>> from stableviton_sdk import TryOnPipeline
            >>> pipe = TryOnPipeline.from_pretrained("rlawjdghek/StableVITON", dtype=torch.float16).to("cuda")
            >>> pipe("person.jpg", "garment.jpg").images[0].save("result.png")
            ```
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        with self._offload_guard.enter(bool(getattr(self, "_all_hooks", None))):
            # 1. the door
            width, height = size = self._size(height, width)
            if num_inference_steps is None:
                num_inference_steps = self.config.default_steps
            self.check_inputs(
                height=height,
                width=width,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                num_images_per_prompt=num_images_per_prompt,
                start=start,
                output_type=output_type,
                feather=feather,
            )
            unknown = set(callback_on_step_end_tensor_inputs or ()) - set(self._callback_tensor_inputs)
            if unknown:
                raise InvalidInput(
                    f"callback_on_step_end_tensor_inputs names {sorted(unknown)}: pass some of "
                    f"{self._callback_tensor_inputs}."
                )
            garments, _ = as_image_list(garment, name="garment")
            inputs = collect_inputs(
                person,
                mask=mask,
                agnostic=agnostic,
                densepose=densepose,
                aspect=size,
                prepare=lambda photo: self.prepare(photo, category, height=height, width=width),
            )
            request = read_request(
                output_attention, self.unet.num_zero_cross_attentions, [entry.frame for entry in inputs]
            )
            placed, originals = [], garments
            garments = []
            for entry in originals:
                one = self._place_garment(entry, size, garment_photo, category)
                garments.append(one.image)
                if request is not None:  # otherwise a catalogue's images needn't all be in memory at full size
                    placed.append(one)
            pairs = [pair for pair in pair_up(len(inputs), len(garments)) for _ in range(int(num_images_per_prompt))]
            person_index, garment_index = (list(indices) for indices in zip(*pairs, strict=True))
            factor = self.vae_scale_factor
            shape = (len(pairs), self.vae.config.latent_channels, height // factor, width // factor)
            check_tensors(generator=generator, latents=latents, batch_size=len(pairs), latent_shape=shape[1:])
            self._guidance_scale = guidance_scale
            self._interrupt = False

            # 2. garments, each encoded once
            dtype = self.unet.dtype
            garment_pixels = torch.stack([to_tensor(image, size) for image in garments])
            garment_pixels = garment_pixels.to(self._execution_device)
            embedding, unconditional = self.garment_encoder(
                garment_pixels.to(self.garment_encoder.dtype), return_dict=False
            )
            garment_embeds = embedding.to(dtype)[garment_index]
            garment_latents = self._encode(garment_pixels).to(dtype)[garment_index]

            # 3. persons, each encoded once
            conditioning = self.prepare_conditioning(inputs, size)
            scheduler = copy.deepcopy(self.scheduler)
            start_latents = None
            if start == "agnostic":
                start_latents = conditioning[:, : shape[1]][person_index]
            elif start == "person" and latents is None:
                start_latents = self.encode_images([entry.person for entry in inputs], size)[person_index]
            conditioning = conditioning.to(dtype)[person_index]

            # 4. start and schedule
            scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
            timesteps = scheduler.timesteps
            self._call_state.num_timesteps = len(timesteps)
            latents = self.prepare_latents(start_latents, shape, scheduler, generator, latents)
            accepted = inspect.signature(scheduler.step).parameters
            step_options = {"generator": generator} if "generator" in accepted else {}

            # 5. guidance puts the unconditional branch in front
            if self.do_classifier_free_guidance:
                garment_embeds = torch.cat([unconditional.to(dtype).expand_as(garment_embeds), garment_embeds])
                garment_latents = torch.cat([garment_latents] * 2)
                conditioning = torch.cat([conditioning] * 2)
            recorder = open_recorder(request, [inputs[index].frame for index in person_index], len(timesteps))
            watcher = None if recorder is None else ImagesBranch(recorder, len(pairs))

            # 6. denoising
            num_warmup_steps = len(timesteps) - num_inference_steps * scheduler.order
            with self.progress_bar(total=num_inference_steps) as progress_bar:
                for i, t in enumerate(timesteps):
                    if self.interrupt:
                        continue
                    self._call_state.current_timestep = t
                    noisy = torch.cat([latents] * 2) if self.do_classifier_free_guidance else latents
                    noisy = scheduler.scale_model_input(noisy, t).to(dtype)
                    sample = torch.cat([noisy, conditioning], dim=1)
                    garment_features = self.spatial_encoder(sample, t, garment_embeds, garment_latents)
                    if watcher is not None:
                        watcher.start_step(i)
                    prediction = self.unet(
                        sample, t, garment_embeds, garment_features, attention_recorder=watcher, return_dict=False
                    )[0].float()
                    if self.do_classifier_free_guidance:
                        without, with_garment = prediction.chunk(2)
                        prediction = without + self.guidance_scale * (with_garment - without)
                    latents = scheduler.step(prediction, t, latents, **step_options, return_dict=False)[0]

                    if callback_on_step_end is not None:
                        callback_kwargs = {}
                        for k in callback_on_step_end_tensor_inputs or ():
                            callback_kwargs[k] = locals()[k]
                        callback_outputs = callback_on_step_end(self, i, t, callback_kwargs)
                        latents = callback_outputs.pop("latents", latents)
                        garment_embeds = callback_outputs.pop("garment_embeds", garment_embeds)
                        garment_latents = callback_outputs.pop("garment_latents", garment_latents)
                        conditioning = callback_outputs.pop("conditioning", conditioning)
                    if i == len(timesteps) - 1 or (i + 1 > num_warmup_steps and (i + 1) % scheduler.order == 0):
                        progress_bar.update()
            self._call_state.current_timestep = None

            # 7. back into the photos
            used = [inputs[index] for index in person_index]
            if output_type == "latent":
                images = latents
            else:
                pixels = self.vae.decode(
                    (latents / self.vae.config.scaling_factor).to(self.vae.dtype), return_dict=False
                )[0]
                arrays = self.image_processor.postprocess(pixels.float(), output_type="np")
                images = finish(arrays, used, repaint=repaint, feather=feather, output_type=output_type)
            attention = None
            if isinstance(request, AttentionRequest):
                own_garments = [placed[index] for index in garment_index]
                shown = () if output_type == "latent" else images
                own_block = self.config.attention_block
                attention = TryOnAttention.of_call(recorder, request, used, own_garments, shown, own_block)
            self.maybe_free_model_hooks()
        output = TryOnPipelineOutput(images=images, attention=attention, inputs=used)
        return output if return_dict else output.to_tuple()
