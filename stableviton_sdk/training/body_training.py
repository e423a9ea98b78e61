"""Training of the compact body network, from nothing to the folder that `PersonPreprocessor.from_pretrained` takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from .body_figures import FigureAugmentation, FigureOptions, RenderedFigures
from .body_network import BodyNetwork, body_loss, collate
from .supervised import FitConfig, fit


@dataclass(frozen=True)
class BodyConfig:
    """One training run of the body network.

    Args:
        output (`str`): Folder for rendered figures, checkpoints, metrics and the trained preprocessor.
        task (`str`): `"body"`.
        data (`FigureOptions`), fit (`FitConfig`): See there.
        widths (`list[int]`, *optional*): See `BodyNetwork`.
    """

    output: str
    task: Literal["body"] = "body"
    data: FigureOptions = field(default_factory=FigureOptions)
    fit: FitConfig = field(default_factory=FitConfig)
    widths: list[int] = field(default_factory=lambda: [16, 32, 48, 80, 104])


def train_network(config: BodyConfig, *, progress: bool = True) -> BodyNetwork:
    """Train, from the start or from the last checkpoint in the output folder."""
    output = Path(config.output)
    figures = RenderedFigures(output / "figures", config.data, progress)
    return fit(
        make_network(config),
        body_loss,
        figures,
        config.fit,
        output,
        collate=collate,
        augmentation=FigureAugmentation(figures),
        progress=progress,
    )


def make_network(config: BodyConfig) -> BodyNetwork:
    """The untrained network; the same seed gives the same weights, and the global generator isn't touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        return BodyNetwork(config.widths).to(memory_format=torch.channels_last)
