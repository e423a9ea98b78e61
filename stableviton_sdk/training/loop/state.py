"""All that a training changes from step to step, and its way to a checkpoint and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from ...errors import IncompatibleCheckpoint
from . import checkpoints

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's


class TrainingState:
    """Weights, AdamW's moments, the weights' moving average, and the scale of the loss.

    Args:
        tensors (`Mapping[str, torch.Tensor]`):
            Tensors of the networks that a checkpoint keeps, by name: parameters, and running statistics if there are
            any. They share memory with the networks, which must stay on their device.
        parameters (`Mapping[str, nn.Parameter]`): The parameters among them, under the same names.
        optimizer (`torch.optim.Optimizer`): AdamW of the parameters.
        ema_decay (`float`, *optional*): Largest decay of the moving average; None for no average.
        scaler (`torch.amp.GradScaler`): Scaler of the loss.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        ema_decay: float | None,
        scaler: torch.amp.GradScaler,
    ):
        # EMAModel averages tensors that require a gradient, and copies the others; only counters are to be copied
        self.tensors: dict[str, torch.Tensor] = {
            name: value.detach().requires_grad_(value.is_floating_point()) for name, value in tensors.items()
        }
        self.parameters = parameters
        self.optimizer = optimizer
        self.scaler = scaler
        self.ema: EMAModel | None = None if ema_decay is None else EMAModel(self.tensors.values(), decay=ema_decay)

    def update_ema(self) -> None:
        """Move the average a step towards the weights."""
        if self.ema is not None:
            self.ema.step(self.tensors.values())

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Within it, the networks have their averaged weights."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.tensors.values())
        self.ema.copy_to(self.tensors.values())
        try:
            yield
        finally:
            self.ema.restore(self.tensors.values())

    def keep_ema_weights(self) -> None:
        """Give the networks their averaged weights for good."""
        if self.ema is not None:
            self.ema.copy_to(self.tensors.values())

    def save(self, folder: Path, step: int, about: Mapping[str, Any], *, keep: int, max_file_bytes: float) -> Path:
        """Write a checkpoint; see `save_checkpoint`.

        Args:
            folder (`Path`): Folder of all checkpoints.
            step (`int`): Optimizer steps taken.
            about (`Mapping[str, Any]`): Everything that the training follows from; see `describe_training`.
            keep (`int`): Number of checkpoints that stay.
            max_file_bytes (`float`): Largest size of a file in bytes.
        """
        tensors = {f"weights/{name}": value for name, value in self.tensors.items()}
        if self.ema is not None:
            tensors |= {
                f"average/{name}": value for name, value in zip(self.tensors, self.ema.shadow_params, strict=True)
            }
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"{moment}/{name}": value for moment, value in moments.items()}
        state = {
            "averaged_steps": None if self.ema is None else self.ema.optimization_step,
            "scaler": self.scaler.state_dict() or None,
            **about,
        }
        return checkpoints.save_checkpoint(folder, step, tensors, state, keep=keep, max_file_bytes=max_file_bytes)

    @torch.no_grad()
    def resume(self, folder: Path) -> int:
        """Load the last checkpoint, if there is one, in place.

        Returns:
            `int`: optimizer steps taken.

        Raises:
            `IncompatibleCheckpoint`: if it belongs to another training.
        """
        found = checkpoints.list_checkpoints(folder)
        if not found:
            return 0
        state = checkpoints.read_checkpoint_state(found[-1])
        saved = checkpoints.read_checkpoint_tensors(found[-1], state["files"])
        shapes = {name[8:]: value.shape for name, value in saved.items() if name.startswith("weights/")}
        if shapes != {name: value.shape for name, value in self.tensors.items()}:
            raise IncompatibleCheckpoint(
                f"{found[-1]} is of a training of another network or of other parts of it: pass another output "
                "folder, or the configuration of that training."
            )
        averaged = {name: saved[f"average/{name}"] for name in self.tensors if f"average/{name}" in saved}
        if self.ema is not None and not averaged:
            raise IncompatibleCheckpoint(
                f"{found[-1]} has no averaged weights to go on with: pass ema_decay: null, or another output folder."
            )
        for index, (name, value) in enumerate(self.tensors.items()):
            value.copy_(saved[f"weights/{name}"])
            if self.ema is not None:
                self.ema.shadow_params[index].copy_(averaged[name])
        for name, parameter in self.parameters.items():
            if f"exp_avg/{name}" in saved:
                moments = {moment: saved[f"{moment}/{name}"] for moment in MOMENTS}
                self.optimizer.state[parameter] = {
                    moment: value
                    if moment == "step"
                    else value.to(parameter).contiguous(memory_format=_layout(parameter))
                    for moment, value in moments.items()
                }
        if self.ema is not None:
            # the first checkpoints of small networks, where no step was ever skipped, don't hold their number
            self.ema.optimization_step = state.get("averaged_steps", state["step"])
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        return state["step"]


def _layout(tensor: torch.Tensor) -> torch.memory_format:
    """How a tensor lies in memory."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last and not tensor.is_contiguous() else torch.contiguous_format
