"""DensePose weights in the released layout whose values follow from their names, and heads of known answers."""

import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import torch

from support import paths

FIXTURES = paths.FIXTURES / "densepose"


def stand_in_tensor(key, shape, salt, damping):
    """Values that follow from the tensor's name, so that the weights needn't be stored."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode())))
    values = generator.standard_normal(shape, dtype=np.float32)
    if key.endswith("running_var"):
        values = 1 + 0.1 * np.abs(values)
    elif key.endswith("running_mean"):
        values *= 0.05
    elif len(shape) >= 2:
        values *= 1.0 / np.sqrt(int(np.prod(shape[1:])))
    elif key.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values *= 0.05
    for part, scale in damping.items():
        if part in key:
            values = values * np.float32(scale)
    return values.astype(np.float32)


def write_weights(path: Path) -> Path:
    """A file of the released names and shapes, 256 MB."""
    manifest = json.loads((FIXTURES / "manifest.json").read_text())
    model = {
        key: stand_in_tensor(key, shape, manifest["salt"], manifest["damping"])
        for key, shape in manifest["tensors"].items()
    }
    with path.open("wb") as stream:
        pickle.dump({"model": model, "__author__": "stand-in"}, stream, protocol=4)
    return path


def ramp_heads():
    """Body right of x = 40.3; the part is the whole number nearest to y / 4 (classes are tangents of a parabola)."""
    x = torch.arange(112.0).expand(112, 112)
    y = x.T
    coarse = torch.stack((torch.zeros(112, 112), x - 40.3))
    part = torch.arange(25.0)[:, None, None]
    return coarse, part * (y / 4 + 1e-4) - part**2 / 2
