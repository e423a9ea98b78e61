"""A data set encoded once: latents on disk, so that epochs neither read, render nor encode images again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ...files import RunManifest
from ..loop.dataloader import open_loader
from .batches import LATENTS, Batch, collate
from .correspondence import SEAM, correspondence_at_cells

DONE = "done.npy"
BATCH = 16


class LatentCache:
    """The encoded items of a data set, as a map-style data set for `EpochShuffle`.

    Half precision for latents, 8 bits for the garment's image, which is squashed to what the garment encoder sees;
    masks and correspondence at the latents' resolution, so only blocks of that resolution can be supervised.

    Args:
        folder (`Path`): A folder that `fill_latent_cache` has filled.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.arrays: dict[str, Any] = {
            path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy")) if path.name != DONE
        }

    def __len__(self) -> int:
        return len(self.arrays["latents"])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self.arrays.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}  # a process that reads maps the files itself

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["folder"])


def fill_latent_cache(
    folder: Path,
    data: Any,
    vae: nn.Module,
    *,
    shape: tuple[int, int],
    garment_side: int,
    needs: Sequence[str],
    source: Mapping[str, Any],
    workers: int = 0,
    progress: bool = True,
) -> LatentCache:
    """The items' latents, encoded where they aren't yet. An interrupted encoding goes on where it was.

    Args:
        folder (`Path`): Folder of the cache.
        data: A map-style data set of item dictionaries; see `train`.
        vae (`nn.Module`): The pipeline's autoencoder.
        shape (`tuple[int, int]`): Height and width of the images.
        garment_side (`int`): Side of the square that the garment encoder sees.
        needs (`Sequence[str]`): Names of what the losses need beside the images; see `collate`.
        source (`Mapping[str, Any]`): Reader and options of the data set, as JSON holds them, to tell caches apart.
        workers (`int`, *optional*, defaults to 0): Processes that read data.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar.

    Raises:
        `InvalidInput`: if the folder holds a cache of other data or of another autoencoder.
    """
    from .objective import encode  # late: processes that read the cache need no networks

    manifest = {
        "source": source,
        "items": len(data),
        "size": list(shape),  # height and width, as in caches that exist
        "garment_side": garment_side,
        "autoencoder": fingerprint(vae),
        "needs": list(needs),
    }
    if "correspondence" in needs:
        manifest["correspondence"] = "at the cells' centres"  # earlier caches keep the nearest pixel's
    RunManifest(folder, kind="latent cache").open_or_refuse(manifest)
    collated = functools.partial(collate, wanted=tuple(needs))
    device = next(vae.parameters()).device

    def encoded(items: Batch) -> dict[str, np.ndarray]:
        batch = encode(vae, {name: tensor.to(device) for name, tensor in items.items()})
        return _compact(batch, garment_side)

    done_path = folder / DONE
    if not done_path.is_file():
        first = encoded(collated([dict(data[0], position=0)]))
        for name, value in first.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", value.dtype, (len(data), *value.shape[1:])).flush()
        np.lib.format.open_memmap(done_path, "w+", np.bool_, (len(data),)).flush()
    done = np.lib.format.open_memmap(done_path, "r+")
    missing = np.flatnonzero(~done)
    if len(missing):
        arrays = {
            path.stem: np.lib.format.open_memmap(path, "r+") for path in folder.glob("*.npy") if path != done_path
        }
        # in order: neighbours may share work
        runs = [missing[start : start + BATCH].tolist() for start in range(0, len(missing), BATCH)]
        loader = open_loader(_Numbered(data), runs, collated, workers=workers)
        bar = tqdm(total=len(data), initial=len(data) - len(missing), unit="item", disable=not progress)
        for items in loader:
            indices = items["positions"].numpy()
            for name, value in encoded(items).items():
                arrays[name][indices] = value
            done[indices] = True  # after the values: what is marked is there
            bar.update(len(indices))
        bar.close()
        for array in (*arrays.values(), done):
            array.flush()
    return LatentCache(folder)


def fingerprint(network: nn.Module) -> str:
    """Short hash of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Numbered(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, data: Any):
        self.data = data

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.data[index], position=index)


def _compact(batch: Batch, garment_side: int) -> dict[str, np.ndarray]:
    latent_shape = batch["latents"].shape[-2:]
    squashed = F.interpolate(batch["garment"], size=(garment_side, garment_side), mode="bilinear", align_corners=False)
    values = {name: batch[name].half() for name in LATENTS}
    values["garment"] = ((squashed + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    if "worn_mask" in batch:
        values["worn_mask"] = F.interpolate(batch["worn_mask"].float(), size=latent_shape, mode="nearest") > 0
    if "correspondence" in batch:
        places = batch["correspondence"].permute(0, 3, 1, 2)
        places = correspondence_at_cells(places, latent_shape, SEAM * int(batch["garment_shape"][0]))
        values["correspondence"] = places.permute(0, 2, 3, 1).half()
    if "panel" in batch:
        values["panel"] = F.interpolate(batch["panel"][:, None].float(), size=latent_shape, mode="nearest-exact")
        values["panel"] = values["panel"][:, 0].byte()
    if "panel_maps" in batch:
        values["panel_maps"] = batch["panel_maps"]
    return {name: value.cpu().numpy() for name, value in values.items()}
