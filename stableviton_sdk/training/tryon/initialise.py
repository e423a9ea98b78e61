"""Networks to start a training with: Paint-by-Example's, as the authors did, or random ones."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel

from ...conversion.architecture import SCHEDULER, component_class
from ...conversion.reading import read_checkpoint
from ...errors import IncompatibleCheckpoint, InvalidInput, WeightsUnavailable
from ...hub import download as hub
from ...models.garment_encoder import GarmentEncoder
from ...models.patch_autoencoder import PatchAutoencoder
from ...models.spatial_encoder import SpatialEncoder
from ...models.strict_loading import refuse_differences
from ...models.unet import TryOnUNet
from ...pipelines.pipeline_tryon import TryOnPipeline
from ...pipelines.saved_weights import refuse_incomplete_weights

PAINT_BY_EXAMPLE = "Fantasy-Studio/Paint-by-Example"
PAINT_BY_EXAMPLE_CHANNELS = 9  # noisy latent, latent of what is kept, mask (1 = keep)
TRY_ON_CHANNELS = 13  # the same, and the DensePose latent

# What is read from a `UNet2DConditionModel`'s configuration; whatever else it holds must have its default value.
UNET_OPTIONS = (
    "sample_size", "in_channels", "out_channels", "down_block_types", "up_block_types", "block_out_channels",
    "layers_per_block", "cross_attention_dim", "attention_head_dim", "num_attention_heads", "norm_num_groups",
)  # fmt: skip
NOT_NEEDED = ("safety_checker", "feature_extractor", "scheduler")
WEIGHT_FILES = {
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "image_encoder": ("model.safetensors", "pytorch_model.bin"),
}


def from_paint_by_example(
    source: str | os.PathLike[str] = PAINT_BY_EXAMPLE,
    *,
    size: tuple[int, int] = (384, 512),
    seed: int = 0,
    **hub_options: Any,
) -> TryOnPipeline:
    """Start as the authors did.

    The U-Net's input convolution is widened with zeros, its zero cross-attentions add nothing yet, and the spatial
    encoder is a copy of the U-Net's encoder: before the first step the prediction is Paint-by-Example's own. The
    convolution that reads the garment's latent is a copy of the filters that read the noisy one.

    Args:
        source (`str` or `os.PathLike`, *optional*): A diffusers folder of Paint-by-Example, or a Hub repository.
        size (`tuple[int, int]`, *optional*, defaults to `(384, 512)`): Width and height in pixels to train at.
        seed (`int`, *optional*, defaults to 0): Seed of the new weights; the global generator stays as it is.
        hub_options: `revision`, `cache_dir`, `token`, `local_files_only`.

    Returns:
        `TryOnPipeline`: float32, without preprocessor.

    Raises:
        `InvalidInput`: if the source is neither, or size doesn't fit.
        `IncompatibleCheckpoint`: if it isn't Paint-by-Example.
        `WeightsUnavailable`: if weights are missing.
    """
    name = os.fspath(source)
    repo = None if os.path.isdir(name) else name
    if repo is not None and (os.path.isabs(name) or name.startswith(".") or name.count("/") != 1):
        raise InvalidInput(f"{name} is neither a folder nor a Hub repository (owner/name): check the path.")
    if repo is None:
        folder = Path(name)
        _check_pipeline(folder, name)
    else:
        check = functools.partial(_check_kind, name=name)
        folder = hub.fetch_folder(name, check_index=check, skip=NOT_NEEDED, **hub_options)

    vae = _whole_autoencoder(AutoencoderKL, _weights_file(folder, "vae", repo, hub_options))
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if any(not isinstance(side, int) or side < factor or side % factor for side in size):
        raise InvalidInput(f"size is {size!r}: pass width and height in pixels, multiples of {factor}.")
    config = _read_config(folder / "unet" / "config.json", name)
    state = dict(_read_weights(folder, "unet", repo, hub_options))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = TryOnUNet(**_unet_config(config, name, tuple(side // factor for side in reversed(size))))
        spatial_encoder = SpatialEncoder(**spatial_encoder_config(unet.config))
        garment_encoder = _garment_encoder(folder, name, _read_weights(folder, "image_encoder", repo, hub_options))
    _load_unet(unet, state, name)
    copy_encoder(unet, spatial_encoder)
    return TryOnPipeline(vae, garment_encoder, spatial_encoder, unet, PNDMScheduler(**SCHEDULER))


def from_scratch(
    architecture: Mapping[str, Mapping[str, Any]],
    *,
    vae: AutoencoderKL | None = None,
    scheduler: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> TryOnPipeline:
    """Start from random weights.

    Args:
        architecture (`Mapping`):
            Options of `"unet"`, `"garment_encoder"` and `"vae"` (the classes' own arguments); the spatial encoder's
            follow from the U-Net's.
        vae (`AutoencoderKL`, *optional*): A trained one, instead of a random one.
        scheduler (`Mapping`, *optional*): Changes to the method's schedule, such as `prediction_type`.
        seed (`int`, *optional*, defaults to 0): Seed of the weights; the global generator stays as it is.

    Raises:
        `InvalidInput`: for an unknown component or option.
    """
    known = ("unet", "garment_encoder", "vae")
    for component, options in architecture.items():
        if component not in known:
            raise InvalidInput(f"the architecture has a part {component!r}: its parts are {', '.join(known)}.")
        accepted = inspect.signature(component_class(component)).parameters
        for option in options:
            if option not in accepted:
                raise InvalidInput(f"the {component} has no option {option!r}.")
    unet_options = {"cross_attention_dim": 768, **architecture.get("unet", {})}
    encoder_options = {
        "projection_dim": unet_options["cross_attention_dim"],
        **architecture.get("garment_encoder", {}),
    }
    if encoder_options["projection_dim"] != unet_options["cross_attention_dim"]:
        raise InvalidInput("the garment encoder's projection_dim must be the U-Net's cross_attention_dim.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = TryOnUNet(**unet_options)
        spatial_encoder = SpatialEncoder(**spatial_encoder_config(unet.config))
        garment_encoder = GarmentEncoder(**encoder_options)
        vae = AutoencoderKL(**architecture.get("vae", {})) if vae is None else vae
    return TryOnPipeline(
        vae, garment_encoder, spatial_encoder, unet, PNDMScheduler(**{**SCHEDULER, **(scheduler or {})})
    )


def load_autoencoder(folder: str | os.PathLike[str]) -> torch.nn.Module:
    """The autoencoder in a folder, of either class.

    Raises:
        `WeightsUnavailable`: if there is none.
        `IncompatibleCheckpoint`: if it is something else, or incomplete.
    """
    path = Path(folder).absolute()
    kind = _read_config(path / "config.json", str(path)).get("_class_name")
    classes = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
    if kind not in classes:
        raise IncompatibleCheckpoint(f"{path} holds a {kind}: pass an {' or a '.join(classes)}.")
    files = [path / name for name in WEIGHT_FILES["vae"] if (path / name).is_file()]
    if not files:
        raise WeightsUnavailable(f"{path} holds no {' or '.join(WEIGHT_FILES['vae'])}: pass a saved autoencoder.")
    return _whole_autoencoder(classes[kind], files[0])


def spatial_encoder_config(unet_config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the spatial encoder that belongs to a U-Net: its encoder without the lowest level."""
    return {
        "in_channels": unet_config["in_channels"],
        "garment_channels": unet_config["out_channels"],
        "down_block_types": tuple(unet_config["down_block_types"][:-1]),
        "block_out_channels": tuple(unet_config["block_out_channels"][:-1]),
        **{
            option: unet_config[option]
            for option in (
                "layers_per_block",
                "cross_attention_dim",
                "num_attention_heads",
                "norm_num_groups",
                "coordinate_channels",
            )
        },
    }


@torch.no_grad()
def copy_encoder(unet: TryOnUNet, spatial_encoder: SpatialEncoder) -> None:
    """Copy the U-Net's encoder, its input convolution too, into the spatial encoder."""
    state, own = unet.state_dict(), spatial_encoder.state_dict()
    spatial_encoder.load_state_dict(
        {key: state[key] for key in own if not key.startswith("garment_conv_in.")}, strict=False
    )
    garment_channels = spatial_encoder.garment_conv_in.in_channels
    spatial_encoder.garment_conv_in.weight.copy_(unet.conv_in.weight[:, :garment_channels])
    spatial_encoder.garment_conv_in.bias.zero_()  # the other convolution's bias is added already


def _unet_config(config: Mapping[str, Any], name: str, sample_size: tuple[int, ...]) -> dict[str, Any]:
    defaults = inspect.signature(UNet2DConditionModel.__init__).parameters
    for option, value in config.items():
        default = defaults[option].default if option in defaults else value
        if option not in UNET_OPTIONS and value != default and not option.startswith("_"):
            raise IncompatibleCheckpoint(
                f"the U-Net of {name} has {option}={value!r}, which a try-on U-Net can't have: pass Paint-by-Example."
            )
    options = {key: config.get(key, defaults[key].default) for key in UNET_OPTIONS}
    if options["in_channels"] != PAINT_BY_EXAMPLE_CHANNELS:
        raise IncompatibleCheckpoint(
            f"the U-Net of {name} has {options['in_channels']} input channels, Paint-by-Example's has "
            f"{PAINT_BY_EXAMPLE_CHANNELS}: pass Paint-by-Example."
        )
    # diffusers' configurations of that time call the number of heads their dimension
    heads = options.pop("num_attention_heads") or options["attention_head_dim"]
    del options["attention_head_dim"]
    lowest, *others = options["up_block_types"]
    if not isinstance(heads, int) or lowest != "UpBlock2D" or set(others) != {"CrossAttnUpBlock2D"}:
        raise IncompatibleCheckpoint(
            f"the U-Net of {name} has decoder blocks {options['up_block_types']} with {heads} heads: pass "
            "Paint-by-Example, whose blocks above the lowest level are CrossAttnUpBlock2D with one number of heads."
        )
    options |= {
        "num_attention_heads": heads,
        "in_channels": TRY_ON_CHANNELS,
        "sample_size": sample_size,
        "up_block_types": (lowest, *["TryOnUpBlock2D"] * len(others)),
    }
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def _load_unet(unet: TryOnUNet, state: dict[str, torch.Tensor], name: str) -> None:
    weight = state.get("conv_in.weight")
    if weight is not None and weight.shape[1] == PAINT_BY_EXAMPLE_CHANNELS:
        new = weight.new_zeros(weight.shape[0], TRY_ON_CHANNELS - PAINT_BY_EXAMPLE_CHANNELS, *weight.shape[2:])
        state["conv_in.weight"] = torch.cat([weight, new], dim=1)
    _load(unet, state, f"the U-Net of {name}", may_be_missing=".zero_cross_attentions.")


def _garment_encoder(folder: Path, name: str, weights: Mapping[str, torch.Tensor]) -> GarmentEncoder:
    config = _read_config(folder / "image_encoder" / "config.json", name)
    state = {}
    for key, tensor in weights.items():
        if key.endswith("position_ids"):
            continue
        key = key.removeprefix("model.")
        if key.startswith(("embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm.")):
            key = f"vision_model.{key}"  # as transformers 5 saves the tower
        state[key] = tensor
    if "proj_out.weight" not in state:
        raise IncompatibleCheckpoint(f"the image encoder of {name} has no proj_out: pass Paint-by-Example.")
    options = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    options += ("image_size", "patch_size", "hidden_act")
    blocks = {key.split(".")[2] for key in state if key.startswith("mapper.blocks.")}
    encoder = GarmentEncoder(
        **{option: config[option] for option in options if option in config},
        mapper_layers=len(blocks),
        projection_dim=state["proj_out.weight"].shape[0],
    )
    _load(encoder, state, f"the image encoder of {name}")
    return encoder


def _load(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], owner: str, may_be_missing: str | None = None
) -> None:
    expected = {
        key: tuple(tensor.shape)
        for key, tensor in network.state_dict().items()
        if key in state or may_be_missing is None or may_be_missing not in key
    }
    refuse_differences(owner, expected, {key: tuple(tensor.shape) for key, tensor in state.items()})
    network.load_state_dict(state, strict=False)


def _whole_autoencoder(cls: type[torch.nn.Module], file: Path) -> torch.nn.Module:
    """An autoencoder whose weights are all in a file; diffusers would make up those that are missing."""
    folder = file.parent
    refuse_incomplete_weights(
        folder.parent, {folder.name: (cls.__module__, cls.__name__)}, {folder.name: [f"{folder.name}/{file.name}"]}
    )
    return cls.from_pretrained(folder)


def _check_pipeline(folder: Path, name: str) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise InvalidInput(f"{name} holds no model_index.json, so it is no diffusers folder: check the path.")
    _check_kind(_read_config(index, name), name)


def _check_kind(index: Mapping[str, Any], name: str) -> None:
    kind = index.get("_class_name")
    if kind != "PaintByExamplePipeline":
        # an inpainting Stable Diffusion has nine channels too, but in another order
        raise IncompatibleCheckpoint(f"{name} is a {kind}, not a PaintByExamplePipeline: pass Paint-by-Example.")


def _read_config(path: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsUnavailable(f"{name} lacks {path.parent.name}/{path.name}: download the whole folder.") from None
    except (OSError, ValueError) as error:
        raise IncompatibleCheckpoint(f"{path} can't be read ({error}): download it again.") from error


def _read_weights(
    folder: Path, component: str, repo: str | None, hub_options: Mapping[str, Any]
) -> Mapping[str, torch.Tensor]:
    return read_checkpoint(_weights_file(folder, component, repo, hub_options))[0]


def _weights_file(folder: Path, component: str, repo: str | None, hub_options: Mapping[str, Any]) -> Path:
    """A component's weights; of a repository, the older file is downloaded only where there is no safetensors."""
    for file in WEIGHT_FILES[component]:
        if (folder / component / file).is_file():
            return folder / component / file
    if repo is not None:
        # of the same commit as the folder, whatever the branch has become meanwhile
        options = {**hub_options, "revision": folder.name}
        return hub.fetch_file(repo, f"{component}/{WEIGHT_FILES[component][1]}", **options)
    raise WeightsUnavailable(
        f"{folder / component} holds no {' or '.join(WEIGHT_FILES[component])}: download the whole folder."
    )
