"""A small training loop for the small networks around the try-on network: one network, one loss, one data set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from tqdm import tqdm

from ...errors import IncompatibleCheckpoint, InvalidInput
from ...files import remove_leftovers
from ..config import refuse, too_small
from ..loop import checkpoints
from ..loop.dataloader import TrainingDiverged, explain_divergence, learning_rate, open_loader
from ..loop.run_log import MetricsLog
from ..loop.sampler import Batches, ShuffledItems

Batch = dict[str, torch.Tensor]
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast.

    Args:
        steps (`int`, *optional*, defaults to 2000), batch_size (`int`, *optional*, defaults to 16).
        learning_rate (`float`, *optional*, defaults to 1e-3), weight_decay (`float`, *optional*, defaults to 0.01):
            AdamW's; what has one dimension isn't decayed.
        schedule (`str`, *optional*, defaults to `"cosine"`): `"constant"` or `"cosine"`, to zero.
        warmup_steps (`int`, *optional*, defaults to 50): Linear.
        max_grad_norm (`float`, *optional*, defaults to 1.0): Gradients are clipped to this norm.
        ema_decay (`float`, *optional*, defaults to 0.99): Of the averaged weights; the average warms up by itself.
        mixed_precision (`str`, *optional*, defaults to `"no"`): Or `"bf16"`.
        seed (`int`, *optional*, defaults to 0): Of order and augmentation.
        workers (`int`, *optional*, defaults to 0): Processes that read data.
        checkpoint_every (`int`, *optional*, defaults to 200), keep_checkpoints (`int`, *optional*, defaults to 2).
        checkpoint_file_mb (`int`, *optional*, defaults to 4000): Largest file of a checkpoint.
        log_every (`int`, *optional*, defaults to 10): Steps between two lines of metrics.
        validate_every (`int`, *optional*, defaults to 0): Steps between two validations; 0 for none.
        cpu (`bool`, *optional*, defaults to `False`): Train on the CPU even where there is something better.
    """

    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: int = 50
    max_grad_norm: float = 1.0
    ema_decay: float = 0.99
    mixed_precision: Literal["no", "bf16"] = "no"
    seed: int = 0
    workers: int = 0
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    checkpoint_file_mb: int = 4000
    log_every: int = 10
    validate_every: int = 0
    cpu: bool = False

    def __post_init__(self):
        problems = too_small(self, LEAST)
        if not 0 <= self.ema_decay < 1:
            problems.append(f"ema_decay is {self.ema_decay!r}: pass a number from 0 to less than 1.")
        refuse(problems)


LEAST = {
    "steps": 1, "batch_size": 1, "learning_rate": 0, "weight_decay": 0, "warmup_steps": 0, "max_grad_norm": 0,
    "seed": 0, "workers": 0, "checkpoint_every": 1, "keep_checkpoints": 1, "checkpoint_file_mb": 1, "log_every": 1,
    "validate_every": 0,
}  # fmt: skip


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, Batch], Mapping[str, torch.Tensor]],
    data: Any,
    config: FitConfig,
    output: Path,
    *,
    collate: Callable[[list[dict[str, Any]]], Batch] = torch.utils.data.default_collate,
    augmentation: Callable[..., dict[str, Any]] | None = None,
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    progress: bool = True,
) -> nn.Module:
    """Train a network, from the start or from the last checkpoint in the output folder.

    Order and augmentation follow from seed and step, so a run that was killed and resumed ends with the weights of one
    that wasn't. A loss that leaves something to chance stays so too if it draws from `order.noise_generator` with the
    items' `position`, which is in the batch unless `collate` leaves it out.

    Args:
        network (`nn.Module`): Trained in place.
        loss (`Callable`): Of the network and a batch; a dictionary of scalars, of which `loss` is minimised.
        data: A map-style data set of item dictionaries.
        config (`FitConfig`): See there.
        output (`Path`): Folder of `checkpoints/` and `metrics.jsonl`.
        collate (`Callable`, *optional*): Makes a batch, a dictionary of tensors, out of items.
        augmentation (`Callable`, *optional*): Of an item and a `numpy.random.Generator`; the item to use instead.
        validate (`Callable`, *optional*): Of a copy with the averaged weights, in evaluation; scalars to note.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar with the time left.

    Returns:
        `nn.Module`: the network, with its averaged weights, in evaluation.

    Raises:
        `InvalidInput`: if there is no data.
        `IncompatibleCheckpoint`: if the output folder is another network's.
        `TrainingDiverged`: naming the step, the items of the batch, and what to try.
    """
    if not len(data):
        raise InvalidInput("the data set is empty: there is nothing to train on.")
    device = torch.device("cuda" if torch.cuda.is_available() and not config.cpu else "cpu")
    network.to(device).train()
    optimizer = make_optimizer(network, config)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    first = resume(output, network, optimizer, average)
    remove_leftovers(output / "checkpoints")

    items = ShuffledItems(data, config.seed, augmentation)
    batches = Batches(first, config.steps, 1, config.batch_size)
    loader = open_loader(items, batches, collate, workers=config.workers, pin_memory=device.type == "cuda")
    metrics = MetricsLog(output, first)
    bar = tqdm(total=config.steps, initial=first, unit="step", disable=not progress)
    for step, batch in enumerate(loader, first):
        rate = learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision == "bf16"):
            losses = loss(network, batch)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        if not (torch.isfinite(losses["loss"]) and torch.isfinite(norm)):
            positions = range(step * config.batch_size, (step + 1) * config.batch_size)
            names = items.named(list(positions))
            raise TrainingDiverged(explain_divergence(config, step, rate, names, losses, output))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        follow(average, network, min(config.ema_decay, done / (done + 10)))
        bar.update()

        values: dict[str, float] = {}
        if done % config.log_every == 0 or done == config.steps:
            values = {name: float(value.detach()) for name, value in losses.items()}
            bar.set_postfix(loss=f"{values['loss']:.4f}")
            values |= {"learning_rate": rate, "gradient_norm": float(norm)}
        if validate is not None and config.validate_every and done % config.validate_every == 0:
            values |= validate(averaged(network, average))
        if values:
            metrics.write(done, values)
        if done % config.checkpoint_every == 0 or done == config.steps:
            save(output, done, config, network, optimizer, average)
    bar.close()
    metrics.close()
    network.load_state_dict(average)
    return network.eval()


def make_optimizer(network: nn.Module, config: FitConfig) -> torch.optim.AdamW:
    """AdamW; norms and biases aren't pulled towards zero."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


@torch.no_grad()
def follow(average: Batch, network: nn.Module, decay: float) -> None:
    """Move the average a step towards the network's weights and running statistics, in place; counters are copied."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def averaged(network: nn.Module, average: Batch) -> nn.Module:
    """A copy with the averaged weights, in evaluation."""
    other = copy.deepcopy(network)
    other.load_state_dict(average)
    return other.eval()


def save(
    output: Path, step: int, config: FitConfig, network: nn.Module, optimizer: torch.optim.Optimizer, average: Batch
) -> Path:
    """Write a checkpoint of all that `resume` needs."""
    tensors = {f"weights/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for name, parameter in network.named_parameters():
        tensors |= {f"{moment}/{name}": value for moment, value in optimizer.state.get(parameter, {}).items()}
    return checkpoints.save_checkpoint(
        output / "checkpoints",
        step,
        tensors,
        {"config": asdict(config)},
        keep=config.keep_checkpoints,
        max_file_bytes=config.checkpoint_file_mb * 1e6,
    )


def resume(output: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: Batch) -> int:
    """Load the last checkpoint, if there is one, in place.

    Returns:
        `int`: steps taken.

    Raises:
        `IncompatibleCheckpoint`: if it belongs to another network.
    """
    found = checkpoints.list_checkpoints(output / "checkpoints")
    if not found:
        return 0
    state = checkpoints.read_checkpoint_state(found[-1])
    tensors = checkpoints.read_checkpoint_tensors(found[-1], state["files"])
    shapes = {name[8:]: value.shape for name, value in tensors.items() if name.startswith("weights/")}
    if shapes != {name: value.shape for name, value in network.state_dict().items()}:
        raise IncompatibleCheckpoint(
            f"{found[-1]} is of a training of another network: pass another output folder, or that configuration."
        )
    network.load_state_dict({name: tensors[f"weights/{name}"] for name in shapes})
    for name, value in average.items():
        value.copy_(tensors[f"average/{name}"])
    for name, parameter in network.named_parameters():
        if f"exp_avg/{name}" in tensors:
            moments = {moment: tensors[f"{moment}/{name}"] for moment in MOMENTS}
            optimizer.state[parameter] = {
                moment: value if moment == "step" else value.to(parameter).contiguous(memory_format=layout(parameter))
                for moment, value in moments.items()
            }
    return state["step"]


def layout(tensor: torch.Tensor) -> torch.memory_format:
    """How a tensor lies in memory."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last and not tensor.is_contiguous() else torch.contiguous_format
