"""StableVITON virtual try-on for developers. Public names load on first use, so importing this package is quick."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

_PUBLIC = {
    "AttentionRequest": "attention.recorder",
    "BodyAnalysis": "preprocessing.analyzers.base",
    "BodyAnalyzer": "preprocessing.analyzers.base",
    "CallCancelled": "errors",
    "Frame": "preprocessing.frame",
    "GarmentEncoder": "models.garment_encoder",
    "IncompatibleCheckpoint": "errors",
    "InvalidInput": "errors",
    "MissingDependency": "errors",
    "NoPersonFound": "errors",
    "PersonPreprocessor": "preprocessing.preprocessor",
    "PreparedGarment": "preprocessing.garment",
    "SpatialEncoder": "models.spatial_encoder",
    "TryOnAttention": "attention.result",
    "TryOnError": "errors",
    "TryOnInputs": "preprocessing.inputs",
    "TryOnPipeline": "pipelines.pipeline_tryon",
    "TryOnPipelineOutput": "pipelines.pipeline_output",
    "TryOnUNet": "models.unet",
    "WeightsUnavailable": "errors",
    "ZeroCrossAttention": "models.zero_cross_attention",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from .attention.recorder import AttentionRequest
    from .attention.result import TryOnAttention
    from .errors import (
        CallCancelled,
        IncompatibleCheckpoint,
        InvalidInput,
        MissingDependency,
        NoPersonFound,
        TryOnError,
        WeightsUnavailable,
    )
    from .models.garment_encoder import GarmentEncoder
    from .models.spatial_encoder import SpatialEncoder
    from .models.unet import TryOnUNet
    from .models.zero_cross_attention import ZeroCrossAttention
    from .pipelines.pipeline_output import TryOnPipelineOutput
    from .pipelines.pipeline_tryon import TryOnPipeline
    from .preprocessing.analyzers.base import BodyAnalysis, BodyAnalyzer
    from .preprocessing.frame import Frame
    from .preprocessing.garment import PreparedGarment
    from .preprocessing.inputs import TryOnInputs
    from .preprocessing.preprocessor import PersonPreprocessor


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
