"""Which model paints: the arguments that choose it, and its loading, which asks before anything is downloaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, WeightsUnavailable
from ..hub import pending as hub_downloads
from ..hub.known_repos import known_repo
from ..hub.pending import Download
from .common import DTYPES, Consent, add_consent, add_device, bars_on_terminals_only, filter_log

if TYPE_CHECKING:
    import torch

    from ..pipelines.pipeline_tryon import TryOnPipeline
    from ..preprocessing.preprocessor import PersonPreprocessor

DEFAULT_MODEL = "rlawjdghek/StableVITON"
BUNDLED_MODEL = "bundled"
CHECKPOINT_ENDINGS = (".ckpt", ".pt", ".pth", ".safetensors")


def add_model(parser: Any, *, help: str, default: str | None = None) -> None:
    """Which model, where it computes, in which number type, and consent to its download."""
    parser.add_argument("--model", default=default, metavar="PLACE", help=help)
    parser.add_argument("--checkpoint", metavar="NAME", help="which one, where a repository has several")
    add_device(parser)
    parser.add_argument("--dtype", choices=DTYPES, help="number type; default: fp16 on cuda, else fp32")
    add_consent(parser)


def load_pipeline(
    model: str,
    checkpoint: str | None,
    dtype: torch.dtype,
    consent: Consent,
    networks: Callable[[PersonPreprocessor], list[Download]] | None,
) -> TryOnPipeline:
    """A pipeline from a folder, a released file or the Hub; asks before anything is downloaded.

    Args:
        model (`str`): Path of a folder or checkpoint file, name of a repository, or `"bundled"`.
        checkpoint (`str`, *optional*): Which of an authors' repository's checkpoints.
        dtype (`torch.dtype`): Type of the weights.
        consent (`Consent`): Asks.
        networks (`Callable`, *optional*):
            What a preprocessor has to download besides; the pipeline gets one if it has none. None if none is needed.
    """
    from ..pipelines.pipeline_tryon import TryOnPipeline

    with bars_on_terminals_only():
        if model == BUNDLED_MODEL:
            if checkpoint is not None:
                raise InvalidInput("--checkpoint picks from a repository, and the bundled model is one: leave it out.")
            pipeline = TryOnPipeline.from_bundled(dtype=dtype)
        elif os.path.isdir(model):
            pipeline = TryOnPipeline.from_pretrained(model, checkpoint=checkpoint, dtype=dtype)
        elif os.path.isfile(model) or model.lower().endswith(CHECKPOINT_ENDINGS):
            if checkpoint is not None:
                raise InvalidInput(f"--checkpoint picks from a repository, and {model} is one file: leave it out.")
            pipeline = TryOnPipeline.from_single_file(model, dtype=dtype)
        else:
            pipeline = _load_from_hub(model, {"checkpoint": checkpoint, "dtype": dtype}, consent, networks)
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
    """A repository's pipeline; what isn't here yet is downloaded if the user agrees."""
    from ..pipelines.pipeline_tryon import TryOnPipeline

    unsaid: list[logging.LogRecord] = []
    try:
        with filter_log(unsaid.append):  # until it's clear that this attempt is the one that counts
            pipeline = TryOnPipeline.from_pretrained(model, **options, local_files_only=True)
    except WeightsUnavailable:
        downloads = hub_downloads.describe_pipeline(model, options["checkpoint"])
        if not downloads:  # it is all here, so something else is wrong
            raise
    else:
        for record in unsaid:
            logging.getLogger(record.name).handle(record)
        return pipeline
    together = list(downloads)
    if networks is not None and known_repo(model) is not None:
        # their preprocessor is the usual one: ask for its networks at once
        from ..preprocessing.preprocessor import PersonPreprocessor

        together += networks(PersonPreprocessor())
    consent.ask(together)
    with filter_log(lambda record: not any(entry.licence in record.getMessage() for entry in downloads)):
        return TryOnPipeline.from_pretrained(model, **options)
