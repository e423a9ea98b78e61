"""Where a pipeline is, in one word: a folder, a released file, a Hub repository, or the package itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput

if TYPE_CHECKING:
    from .pipeline_tryon import TryOnPipeline

DEFAULT_MODEL = "rlawjdghek/StableVITON"
BUNDLED_MODEL = "bundled"
CHECKPOINT_ENDINGS = (".ckpt", ".pt", ".pth", ".safetensors")


def is_on_hub(model: str) -> bool:
    """Whether a place is a Hub repository's name, rather than something on this machine."""
    here = model == BUNDLED_MODEL or os.path.isdir(model) or os.path.isfile(model)
    return not here and not model.lower().endswith(CHECKPOINT_ENDINGS)


def load_place(model: str, checkpoint: str | None = None, **options: Any) -> TryOnPipeline:
    """The pipeline of a place.

    Args:
        model (`str`): Path of a folder or checkpoint file, name of a Hub repository, or `"bundled"`.
        checkpoint (`str`, *optional*): Name of a checkpoint, where an authors' repository has several.
        options: `dtype`, and for a repository `local_files_only` and the others of `TryOnPipeline.from_pretrained`.

    Raises:
        `InvalidInput`, `WeightsUnavailable`, `IncompatibleCheckpoint`: one sentence on what failed.
    """
    from .pipeline_tryon import TryOnPipeline

    is_bundled = model == BUNDLED_MODEL
    if not is_bundled and (os.path.isdir(model) or is_on_hub(model)):
        return TryOnPipeline.from_pretrained(model, checkpoint=checkpoint, **options)
    what = "the bundled model is one" if is_bundled else f"{model} is one file"
    if checkpoint is not None:
        raise InvalidInput(f"checkpoint picks from a repository, and {what}: leave it out.")
    options.pop("local_files_only", None)
    if is_bundled:
        return TryOnPipeline.from_bundled(**options)
    return TryOnPipeline.from_single_file(model, **options)
