"""Training of the small networks around the try-on network: one network, one loss, one data set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import nn

from ...errors import InvalidInput
from ..loop.config import Config, Count, CountOrZero, Field, LoopConfig, NotNegative, Number
from ..loop.resumption import check_steps
from ..loop.run_log import MetricsLog
from ..loop.training_loop import make_accelerator, run_training

Batch = dict[str, torch.Tensor]


class FitConfig(LoopConfig):
    """Options of the loop, with defaults for small networks; what has one dimension isn't decayed."""

    steps: Count = 2000
    batch_size: Count = 16
    learning_rate: NotNegative = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: CountOrZero = 50
    ema_decay: Annotated[Number, Field(ge=0, lt=1)] | None = 0.99
    workers: CountOrZero = 0
    checkpoint_every: Count = 200
    keep_checkpoints: Count = 2
    validate_every: CountOrZero = 0
    """Steps between two validations; 0 for none."""


class FitTask(Config):
    """Options of a small network's training, whatever the network."""

    output: str
    """Folder for checkpoints, metrics and what is made."""
    fit: FitConfig = Field(default_factory=FitConfig)
    """Options of the loop."""

    @classmethod
    def from_first_layout(cls, stored: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        return {**now, "fit": stored}


class Objective(nn.Module):
    """A network and its loss as one module, from a batch to the losses."""

    def __init__(self, network: nn.Module, loss: Callable[[nn.Module, Batch], Mapping[str, torch.Tensor]]):
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        return self.loss(self.network, batch)


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, Batch], Mapping[str, torch.Tensor]],
    data: Any,
    config: FitConfig,
    output: Path,
    *,
    settings: Config | None = None,
    collate: Callable[[list[dict[str, Any]]], Batch] = torch.utils.data.default_collate,
    augmentation: Callable[..., dict[str, Any]] | None = None,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    progress: bool = True,
) -> nn.Module:
    """Train a network, from the start or from the last checkpoint in the output folder.

    Order and augmentation follow from seed and step, so a run that was killed and resumed ends with the weights of one
    that wasn't. That holds for a random loss too, if it takes its noise from `sampler.noise_generator` with the items'
    `position`, which is in the batch unless `collate` leaves it out.

    Args:
        network (`nn.Module`): Trained in place.
        loss (`Callable`): Makes of the network and a batch a dictionary of scalars, of which `loss` is minimised.
        data: A map-style data set of item dictionaries.
        config (`FitConfig`): Options of the loop.
        output (`Path`): Folder of `checkpoints/` and `metrics.jsonl`.
        settings (`Config`, *optional*):
            All options of the training, of which those that have changed are reported when it goes on; `config` by
            default.
        collate (`Callable`, *optional*): Makes a batch, a dictionary of tensors, out of items.
        augmentation (`Callable`, *optional*): Makes of an item and a `numpy.random.Generator` the item to use.
        validate (`Callable`, *optional*):
            Makes scalars for the metrics of a copy of the network with its averaged weights, in evaluation.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar with the time left.

    Returns:
        `nn.Module`: the network, with its averaged weights, in evaluation.

    Raises:
        `InvalidInput`: if there is no data, or if the output folder holds a training of more steps already.
        `IncompatibleCheckpoint`: if the output folder is another network's.
        `TrainingDiverged`: naming the step, the items of the batch, and what to try.
    """
    check_steps(output, config)
    if not len(data):
        raise InvalidInput("the data set is empty: there is nothing to train on.")
    accelerator = make_accelerator(config)
    network.to(accelerator.device).train()

    def validate_copy(step: int, metrics: MetricsLog) -> None:
        metrics.write(step, validate(copy.deepcopy(network).eval()))

    run_training(
        Objective(network, loss),
        dict(network.named_parameters()),
        data,
        collate,
        config,
        output,
        accelerator=accelerator,
        tensors=network.state_dict(),
        groups=parameter_groups(network, config),
        settings=settings,
        augmentation=augmentation,
        validate=None if validate is None else validate_copy,
        validate_every=config.validate_every,
        progress=progress,
    )
    return network.eval()


def parameter_groups(network: nn.Module, config: LoopConfig) -> list[dict[str, Any]]:
    """AdamW's groups: norms and biases aren't pulled towards zero."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
