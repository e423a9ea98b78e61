"""The pipeline that a command works with, loaded after consent to what has to be downloaded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import WeightsUnavailable
from ..hub import pending
from ..hub.known_repos import known_repo
from ..hub.pending import Download
from ..pipelines.places import is_on_hub, load_place
from .consent import Consent
from .messages import filter_log, progress_bars_only_on_tty

if TYPE_CHECKING:
    import torch

    from ..pipelines.pipeline_tryon import TryOnPipeline
    from ..preprocessing.preprocessor import PersonPreprocessor


def load_pipeline(
    model: str,
    checkpoint: str | None,
    dtype: torch.dtype,
    consent: Consent,
    networks: Callable[[PersonPreprocessor], list[Download]] | None,
) -> TryOnPipeline:
    """A pipeline from a folder, a released file or the Hub, after consent to what has to be downloaded.

    Args:
        model (`str`): Path of a folder or checkpoint file, name of a Hub repository, or `"bundled"`.
        checkpoint (`str`, *optional*): Name of a checkpoint, where an authors' repository has several.
        dtype (`torch.dtype`): Type of the weights.
        consent (`Consent`): The user's consent to downloads.
        networks (`Callable`, *optional*):
            Function from a preprocessor to what it has to download; the pipeline gets a preprocessor if it has none.
            None if nothing has to be derived from a photo.

    Raises:
        `InvalidInput`, `WeightsUnavailable`, `IncompatibleCheckpoint`: one sentence on what failed.
    """
    with progress_bars_only_on_tty():
        if is_on_hub(model):
            pipeline = _load_from_hub(model, {"checkpoint": checkpoint, "dtype": dtype}, consent, networks)
        else:
            pipeline = load_place(model, checkpoint, dtype=dtype)
    if networks is not None:
        if pipeline.preprocessor is None:
            from ..preprocessing.preprocessor import PersonPreprocessor

            pipeline.register_modules(preprocessor=PersonPreprocessor())
        consent.ask(networks(pipeline.preprocessor))
    return pipeline


def _load_from_hub(
    model: str,
    options: dict[str, Any],
    consent: Consent,
    networks: Callable[[PersonPreprocessor], list[Download]] | None,
) -> TryOnPipeline:
    """A Hub repository's pipeline; what isn't in the cache is downloaded after consent."""
    from ..pipelines.pipeline_tryon import TryOnPipeline

    held_back: list[logging.LogRecord] = []
    try:
        with filter_log(held_back.append):  # until it's clear that this attempt is the one that counts
            pipeline = TryOnPipeline.from_pretrained(model, **options, local_files_only=True)
    except WeightsUnavailable:
        downloads = pending.describe_pipeline(model, options["checkpoint"])
        if not downloads:  # nothing is missing, so something else is wrong
            raise
    else:
        for record in held_back:
            logging.getLogger(record.name).handle(record)
        return pipeline
    together = list(downloads)
    if networks is not None and known_repo(model) is not None:
        # their preprocessor is the usual one: ask for everything at once
        from ..preprocessing.preprocessor import PersonPreprocessor

        together += networks(PersonPreprocessor())
    consent.ask(together)
    with filter_log(lambda record: not any(entry.licence in record.getMessage() for entry in downloads)):
        return TryOnPipeline.from_pretrained(model, **options)
