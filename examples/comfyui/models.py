"""Models that can be loaded, and one that is loaded while it is needed."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

FOLDER = "stableviton"  # in ComfyUI's models
BUNDLED = "bundled"
DTYPES = ["auto", "fp16", "bf16", "fp32"]


def available_models() -> list[str]:
    """The bundled model, and what lies in ComfyUI's models/stableviton."""
    names = [BUNDLED]
    for folder in model_folders():
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if (path / "model_index.json").is_file() or path.suffix in (".ckpt", ".safetensors"):
                names.append(path.name)
    return list(dict.fromkeys(names))


def model_folders() -> list[Path]:
    import folder_paths

    if FOLDER in folder_paths.folder_names_and_paths:  # extra_model_paths.yaml names others
        return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]
    return [Path(folder_paths.models_dir) / FOLDER]


class TryOnModel:
    """A model by name. It is read when it is first needed, and again after it was unloaded.

    Args:
        name (`str`): One of `available_models`.
        dtype (`str`): One of `DTYPES`; `auto` is fp16 on accelerators that compute in it, fp32 elsewhere.
    """

    def __init__(self, name: str, dtype: str):
        self.name = name
        self.dtype = dtype
        self._pipeline = None
        self._lock = threading.Lock()

    def pipeline(self):
        """The pipeline, on ComfyUI's device."""
        with self._lock:
            if self._pipeline is None:
                self._pipeline = self._load()
            return self._pipeline

    def unload(self) -> None:
        """Free its memory."""
        with self._lock:
            self._pipeline = None
        gc.collect()
        from comfy import model_management

        model_management.soft_empty_cache()

    def _load(self):
        from comfy import model_management

        from stableviton_sdk.pipelines.places import load_place

        device = model_management.get_torch_device()
        if self.dtype == "auto":
            dtype = "fp16" if model_management.should_use_fp16(device) else "fp32"
        else:
            dtype = self.dtype
        pipeline = load_place(self._place(), dtype=dtype)
        pipeline.set_progress_bar_config(disable=True)
        needed = sum(
            tensor.numel() * tensor.element_size()
            for network in (pipeline.vae, pipeline.garment_encoder, pipeline.spatial_encoder, pipeline.unet)
            for tensor in network.parameters()
        )
        model_management.free_memory(needed * 1.5, device)  # ComfyUI's own models make room, activations included
        return pipeline.to(device)

    def _place(self) -> str:
        if self.name == BUNDLED:
            return BUNDLED
        for folder in model_folders():
            path = folder / self.name
            if path.exists() and path.parent == folder:
                return os.fspath(path)
        raise FileNotFoundError(f"{self.name} isn't in ComfyUI's models/{FOLDER} any more: choose another model.")
