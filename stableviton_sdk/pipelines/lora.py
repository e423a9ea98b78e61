"""Low-rank adapters (LoRA) on the U-Net and the spatial encoder, by the methods that diffusers' pipelines have."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import (
    LORA_ADAPTER_METADATA_KEY,
    LORA_WEIGHT_NAME,
    LORA_WEIGHT_NAME_SAFE,
    LoraBaseMixin,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import IncompatibleCheckpoint, InvalidInput, MissingDependency, WeightsUnavailable, reason_of
from ..files import replacing
from ..hub.download import fetch_file

# The networks that may have adapters, and the classes after which a training names their folders.
NETWORKS = {"unet": "TryOnUNet", "spatial_encoder": "SpatialEncoder"}
HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")

Adapters = dict[str, torch.Tensor]


class OnClassOrInstance:
    """A method that gets the instance that it is called on, and None where it is called on the class."""

    def __init__(self, function: Callable[..., Any]):
        self.function: Callable[..., Any] = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        return partial(self.function, instance)


class TryOnLoraLoaderMixin(LoraBaseMixin):
    """Loads, weighs, merges and saves adapters; the rest (`delete_adapters`, `get_list_adapters` …) is diffusers'."""

    _lora_loadable_modules = list(NETWORKS)

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike[str] | Mapping[str, torch.Tensor],
        adapter_name: str | None = None,
        *,
        hotswap: bool = False,
        low_cpu_mem_usage: bool = True,
        **kwargs: Any,
    ) -> None:
        """Add adapters to the networks that they were trained for.

        Args:
            pretrained_model_name_or_path_or_dict (`str`, `os.PathLike` or `Mapping`):
                A file, a folder that a training with `trainable: lora` or `save_lora_weights` has written, a Hub
                repository, or a state dict with `unet.` and `spatial_encoder.` in front of its keys.
            adapter_name (`str`, *optional*): Name to call the adapters by; `"default_0"`, `"default_1"` … by default.
            hotswap (`bool`, *optional*, defaults to `False`): Replace the adapters of this name in place.
            low_cpu_mem_usage (`bool`, *optional*, defaults to `True`): Don't initialise what is then overwritten.
            kwargs: See `lora_state_dict`.

        Raises:
            `MissingDependency`: without the package peft.
            `InvalidInput`: if there is no such file, or the name is taken.
            `WeightsUnavailable`: if the file can't be read.
            `IncompatibleCheckpoint`: if a tensor has no place in these networks, or a half of an adapter is missing.
        """
        _require_peft()
        if adapter_name is not None and (not isinstance(adapter_name, str) or not adapter_name or "." in adapter_name):
            raise InvalidInput(f"adapter_name is {adapter_name!r}: pass a name without dots.")
        state, metadata = self.lora_state_dict(
            pretrained_model_name_or_path_or_dict, return_lora_metadata=True, **kwargs
        )
        networks = {name: getattr(self, name) for name in NETWORKS}
        _refuse_misfits(state, networks)
        taken = {name for network in networks.values() for name in getattr(network, "peft_config", {})}
        if adapter_name is None:
            adapter_name = next(name for number in range(len(taken) + 1) if (name := f"default_{number}") not in taken)
        elif adapter_name in taken and not hotswap:
            raise InvalidInput(
                f"there is an adapter {adapter_name!r} already: pass another adapter_name, or hotswap=True to "
                "replace it."
            )
        loaded = []
        try:
            for component, network in networks.items():
                if any(key.startswith(f"{component}.") for key in state):
                    loaded.append(network)
                    network.load_lora_adapter(
                        state,
                        prefix=component,
                        adapter_name=adapter_name,
                        metadata=metadata,
                        hotswap=hotswap,
                        low_cpu_mem_usage=low_cpu_mem_usage,
                        _pipeline=self,
                    )
        except Exception:
            for network in loaded:  # all of the networks or none
                if adapter_name not in taken and adapter_name in getattr(network, "peft_config", {}):
                    network.delete_adapters(adapter_name)
            raise

    @classmethod
    def lora_state_dict(
        cls,
        pretrained_model_name_or_path_or_dict: str | os.PathLike[str] | Mapping[str, torch.Tensor],
        *,
        weight_name: str | None = None,
        return_lora_metadata: bool = False,
        **kwargs: Any,
    ) -> Adapters | tuple[Adapters, dict[str, Any] | None]:
        """The tensors of saved adapters, by network and name.

        Args:
            pretrained_model_name_or_path_or_dict (`str`, `os.PathLike` or `Mapping`): See `load_lora_weights`.
            weight_name (`str`, *optional*): Which file of a folder or repository.
            return_lora_metadata (`bool`, *optional*, defaults to `False`): Return the adapters' configuration too.
            kwargs: For a Hub repository: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`.

        Returns:
            `dict[str, torch.Tensor]`, or that and a `dict` or None.
        """
        unknown = kwargs.keys() - set(HUB_OPTIONS)
        if unknown:
            raise InvalidInput(f"loading adapters has no argument {sorted(unknown)[0]!r}: leave it out.")
        source = pretrained_model_name_or_path_or_dict
        state: Adapters = {}
        metadata: dict[str, Any] = {}
        if isinstance(source, Mapping):
            state = _prefixed(dict(source), None, "the state dict")
        elif not isinstance(source, (str, os.PathLike)):
            raise InvalidInput(f"{type(source).__name__} is no place to load adapters from: pass a file or a folder.")
        else:
            for path, component in _find_files(os.fspath(source), weight_name, kwargs):
                tensors, config = _read(path)
                state |= _prefixed(tensors, component, str(path))
                metadata |= _prefixed(config, component, str(path)) if component else config
        return (state, metadata or None) if return_lora_metadata else state

    @OnClassOrInstance
    def save_lora_weights(
        pipeline: TryOnLoraLoaderMixin | None,
        save_directory: str | os.PathLike[str],
        unet_lora_layers: Mapping[str, torch.Tensor] | None = None,
        spatial_encoder_lora_layers: Mapping[str, torch.Tensor] | None = None,
        *,
        adapter_name: str | None = None,
        weight_name: str | None = None,
        safe_serialization: bool = True,
        unet_lora_adapter_metadata: Mapping[str, Any] | None = None,
        spatial_encoder_lora_adapter_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Save the adapters that are in place to one file that `load_lora_weights` takes.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write; made where it isn't there.
            unet_lora_layers, spatial_encoder_lora_layers (`Mapping`, *optional*):
                State dicts of adapters to save instead, as peft's `get_peft_model_state_dict` gives them.
            adapter_name (`str`, *optional*): Which adapters, where several are in place.
            weight_name (`str`, *optional*): Name of the file.
            safe_serialization (`bool`, *optional*, defaults to `True`): Write safetensors, not a pickle.
            unet_lora_adapter_metadata, spatial_encoder_lora_adapter_metadata (`Mapping`, *optional*):
                Configuration of the adapters that are passed.

        Raises:
            `InvalidInput`: if there is no adapter, or several and none is named; and for a pickle of adapters whose
                scale it can't hold.
        """
        layers = {"unet": unet_lora_layers, "spatial_encoder": spatial_encoder_lora_layers}
        configs = {
            "unet": unet_lora_adapter_metadata,
            "spatial_encoder": spatial_encoder_lora_adapter_metadata,
        }
        if not any(layers.values()):
            layers, configs = _adapters_in_place(pipeline, adapter_name)
        state = {f"{name}.{key}": value for name, part in layers.items() for key, value in (part or {}).items()}
        metadata = {f"{name}.{key}": value for name, part in configs.items() for key, value in (part or {}).items()}
        if not safe_serialization and any(map(_needs_metadata, configs.values())):
            raise InvalidInput(
                "a pickle can't hold the scale of these adapters (lora_alpha), without which they are others: leave "
                "safe_serialization=False out."
            )
        folder = Path(save_directory)
        if folder.is_file():
            raise InvalidInput(f"{folder} is a file: pass a folder to save the adapters in.")
        folder.mkdir(parents=True, exist_ok=True)
        name = weight_name or (LORA_WEIGHT_NAME_SAFE if safe_serialization else LORA_WEIGHT_NAME)
        with replacing(folder / name) as partial_file:
            if safe_serialization:
                text = json.dumps(metadata, indent=2, sort_keys=True, default=list)
                header = {"format": "pt", **({LORA_ADAPTER_METADATA_KEY: text} if metadata else {})}
                save_file({key: value.contiguous() for key, value in state.items()}, partial_file, metadata=header)
            else:
                torch.save(state, partial_file)

    def fuse_lora(self, components: list[str] | str | None = None, *, lora_scale: float = 1.0, **kwargs: Any) -> None:
        """Add the adapters to the weights that they adapt, so that a call computes no more than without them.

        Args:
            components (`list[str]`, *optional*): Of `"unet"` and `"spatial_encoder"`; both by default.
            lora_scale (`float`, *optional*, defaults to 1.0): Factor of all adapters' weights while they are fused.
            kwargs: `safe_fusing`, `adapter_names`, as for diffusers' pipelines.

        Raises:
            `InvalidInput`: for a scale other than 1 where adapters are fused already.
        """
        names = self._fusible(components)
        layers = [layer for name in names for layer in _adapted_layers(getattr(self, name))]
        if lora_scale != 1.0 and any(layer.merged for layer in layers):
            raise InvalidInput("adapters are fused already: call unfuse_lora before you fuse with another lora_scale.")
        before = [dict(layer.scaling) for layer in layers]
        super().fuse_lora(components=names, lora_scale=lora_scale, **kwargs)
        for layer, scaling in zip(layers, before, strict=True):
            earlier = vars(layer).get("_scalings", ({}, {}))
            # of every adapter, as it is when it isn't fused, and as it was when it was fused
            layer._scalings = ({**scaling, **earlier[0]}, {**layer.scaling, **earlier[1]})

    def unfuse_lora(self, components: list[str] | str | None = None, **kwargs: Any) -> None:
        """Undo `fuse_lora`, up to rounding; the adapters' weights are those from before, or what was set since then.

        Args:
            components (`list[str]`, *optional*): Of `"unet"` and `"spatial_encoder"`; both by default.
        """
        names = self._fusible(components)
        after = []
        for layer in (layer for name in names for layer in _adapted_layers(getattr(self, name))):
            unfused, fused = vars(layer).pop("_scalings", ({}, {}))
            kept = {name: unfused[name] for name in unfused if layer.scaling.get(name) == fused.get(name)}
            after.append((layer, {**layer.scaling, **kept}))
            layer.scaling.update(fused)  # what is subtracted is what was added
        super().unfuse_lora(components=names, **kwargs)
        for layer, scaling in after:
            layer.scaling.update(scaling)

    def _fusible(self, components: list[str] | str | None) -> list[str]:
        """Names of the networks to fuse or unfuse."""
        if components is None:
            return self._lora_loadable_modules
        names = [components] if isinstance(components, str) else list(components)
        if not names or not set(names) <= set(NETWORKS):
            raise InvalidInput(f"components is {components!r}: pass some of {', '.join(map(repr, NETWORKS))}.")
        return names

    def unload_lora_weights(self) -> None:
        """Remove all adapters. What `fuse_lora` has added to the weights stays in them."""
        super().unload_lora_weights()
        self._merged_adapters = set()


def _adapted_layers(network: torch.nn.Module) -> list[Any]:
    return [module for module in network.modules() if hasattr(module, "base_layer") and hasattr(module, "merged")]


def _require_peft() -> None:
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise MissingDependency("adapters need the package peft: pip install 'stableviton-sdk[lora]'.") from error


def _find_files(name: str, weight_name: str | None, hub_options: Mapping[str, Any]) -> list[tuple[Path, str | None]]:
    """Files of adapters, and for each the network that its folder is named after."""
    path = Path(name).expanduser()
    if path.is_file():
        return [(path, _network_of(path.parent))]
    if path.is_dir():
        if weight_name is not None:
            found = [path / weight_name]
        else:
            folders = [base / folder for base in (path, path / "adapters") for folder in NETWORKS.values()]
            found = [file for folder in (path, *folders) for file in _weights_in(folder)]
        found = [file for file in found if file.is_file()]
        if not found:
            raise InvalidInput(f"{path} holds no adapters (safetensors): pass a folder that a training has written.")
        folders_found = {file.parent for file in found}
        if len(found) > len(folders_found):
            raise InvalidInput(f"{found[0].parent} holds several weight files: pass weight_name= to say which.")
        return [(file, _network_of(file.parent)) for file in found]
    if path.is_absolute() or name.count("/") != 1 or name.startswith((".", "~")):
        raise InvalidInput(f"{name} is no file, folder or Hub repository (owner/name): check the path.")
    options = {key: value for key, value in hub_options.items() if value is not None}
    return [(fetch_file(name, weight_name or LORA_WEIGHT_NAME_SAFE, **options), None)]


def _weights_in(folder: Path) -> list[Path]:
    usual = folder / LORA_WEIGHT_NAME_SAFE
    return [usual] if usual.is_file() else sorted(folder.glob("*.safetensors"))


def _network_of(folder: Path) -> str | None:
    return next((component for component, name in NETWORKS.items() if folder.name == name), None)


def _read(path: Path) -> tuple[Adapters, dict[str, Any]]:
    """A file's tensors, and the configuration in its header."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                header = (file.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY)
                return {name: file.get_tensor(name) for name in names}, json.loads(header) if header else {}
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ValueError("it holds no state dict")
        return content, {}
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # pickle's own kinds
        raise _unreadable(path, error) from error


def _needs_metadata(config: Mapping[str, Any] | None) -> bool:
    """Whether adapters are scaled in a way that their tensors don't tell."""
    config = config or {}
    return bool(
        config.get("lora_alpha", config.get("r")) != config.get("r")
        or config.get("use_rslora")
        or config.get("alpha_pattern")
        or config.get("rank_pattern")
    )


def _unreadable(path: Path, error: Exception) -> WeightsUnavailable:
    return WeightsUnavailable(f"{path} can't be read ({reason_of(error)}): fetch or save it again.")


def _prefixed(content: dict[str, Any], component: str | None, what: str) -> dict[str, Any]:
    """Keys with their network in front; one network is known by its folder, or by layers that only it has."""
    if all(key.startswith(tuple(f"{name}." for name in NETWORKS)) for key in content):
        return content
    if component is None and any(key.startswith(("mid_block.", "up_blocks.")) for key in content):
        component = "unet"
    if component is None:
        raise IncompatibleCheckpoint(
            f"{what} doesn't say which network its adapters are for (the first is {next(iter(content))!r}): put unet. "
            f"or spatial_encoder. in front of its keys, or it into a folder {' or '.join(NETWORKS.values())}."
        )
    return {f"{component}.{key}": value for key, value in content.items()}


def _refuse_misfits(state: Adapters, networks: Mapping[str, torch.nn.Module]) -> None:
    """Refuse adapters that peft would load in part, or fail on late."""
    if not state:
        raise IncompatibleCheckpoint("there are no adapters in it: pass what a training or save_lora_weights wrote.")
    layers = {name: dict(network.named_modules()) for name, network in networks.items()}
    halves: dict[str, set[str]] = {}
    for key, value in state.items():
        component, _, name = key.partition(".")
        module, _, part = name.partition(".lora_")
        layer = layers[component].get(module) if part else None
        weight = getattr(getattr(layer, "base_layer", layer), "weight", None)
        if not isinstance(weight, torch.Tensor):
            raise IncompatibleCheckpoint(
                f"the adapters' {key!r} has no place in the {component}: they are of another network."
            )
        half = part[:1]
        halves.setdefault(f"{component}.{module}", set()).add(half)
        side = {"A": 1, "B": 0}.get(half)
        if side is not None and value.ndim > 1 and value.shape[side] != weight.shape[side]:
            raise IncompatibleCheckpoint(
                f"the adapters' {key!r} has the shape {tuple(value.shape)}, which doesn't fit the {component}'s layer "
                f"of {tuple(weight.shape)}: they are of another network."
            )
    for module, found in halves.items():
        if lacking := {"A", "B"} - found:
            raise IncompatibleCheckpoint(f"the adapters lack {module}.lora_{lacking.pop()}: the file is damaged.")


def _adapters_in_place(
    pipeline: TryOnLoraLoaderMixin | None, adapter_name: str | None
) -> tuple[dict[str, Adapters], dict[str, dict[str, Any]]]:
    """State dicts and configurations of a pipeline's adapters, by network."""
    _require_peft()
    from peft.utils import get_peft_model_state_dict

    if pipeline is None:
        raise InvalidInput("there are no layers to save: pass unet_lora_layers, or call it on a pipeline.")
    found: dict[str, Collection[str]] = {
        name: getattr(getattr(pipeline, name), "peft_config", {}) for name in NETWORKS
    }
    names: Iterable[str] = dict.fromkeys(name for part in found.values() for name in part)
    names = [name for name in names if adapter_name in (None, name)]
    if not names:
        raise InvalidInput(f"there is no adapter {adapter_name or 'in place'} to save: load or train one first.")
    if len(names) > 1:
        raise InvalidInput(f"there are several adapters ({', '.join(names)}): pass adapter_name= to say which.")
    networks = {name: getattr(pipeline, name) for name, part in found.items() if names[0] in part}
    layers = {name: get_peft_model_state_dict(net, adapter_name=names[0]) for name, net in networks.items()}
    return layers, {name: net.peft_config[names[0]].to_dict() for name, net in networks.items()}
