"""Many pairs into many images: resumable, on this machine's devices or on a Ray cluster."""

from .engines.local import LocalEngine
from .engines.ray_data import RayEngine
from .painters import Painter
from .runner import Summary, TooManyErrors, run
from .settings import BatchSettings, Folders
from .worker import CannotGoOn

__all__ = [
    "BatchSettings",
    "CannotGoOn",
    "Folders",
    "LocalEngine",
    "Painter",
    "RayEngine",
    "Summary",
    "TooManyErrors",
    "run",
]
