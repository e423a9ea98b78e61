"""Rendered figures that wear rendered garments, with true correspondence: data that needs no download."""

from .body import Body, sample_body
from .garment import Garment, garment_from_coordinates, sample_garment
from .sample import SyntheticDataset, SyntheticSample, assemble, one_thread, render_pair
from .scene import Rendering, Stage, render

__all__ = [
    "Body",
    "Garment",
    "Rendering",
    "Stage",
    "SyntheticDataset",
    "SyntheticSample",
    "assemble",
    "garment_from_coordinates",
    "one_thread",
    "render",
    "render_pair",
    "sample_body",
    "sample_garment",
]
