"""The bundled model, and rendered figures that it dresses."""

import numpy as np
import torch
from PIL import Image

UNSEEN = 7  # a seed of the renderer that nothing was trained with


def given(sample):
    """A sample's own maps, as arguments of a call."""
    return {
        "mask": Image.fromarray(sample.mask.astype(np.uint8) * 255),
        "agnostic": Image.fromarray(sample.agnostic),
        "densepose": Image.fromarray(sample.densepose),
    }


def dress(pipe, sample, seed=0, **options):
    """Put the other garment on a sample's person."""
    person, garment = Image.fromarray(sample.person), Image.fromarray(sample.garment_other)
    return pipe(person, garment, generator=torch.Generator().manual_seed(seed), **options)
