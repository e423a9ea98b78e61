"""Device and number type of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..pipelines.places import BUNDLED_MODEL

if TYPE_CHECKING:
    import torch


def choose_device(name: str | None) -> torch.device:
    """The device of a name, or the best there is.

    Args:
        name (`str`, *optional*): torch's name of the device: `cpu`, `cuda`, `cuda:1`, `mps` …

    Raises:
        `InvalidInput`: if torch knows no such device, or can't compute on it.
    """
    import torch

    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # also refuses the device that holds no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidInput(
            f"--device {name} can't be used on this machine: pass cpu, or leave it out for the best there is."
        ) from error
    return device


def choose_dtype(name: str | None, device: torch.device, model: str | None = None) -> torch.dtype:
    """The number type of a name; by default the fastest that suits the device.

    Args:
        name (`str`, *optional*): `fp32` and its like, or `auto`.
        device (`torch.device`): Where to compute.
        model (`str`, *optional*): Its place; the bundled one is so small that float32 costs it nothing.
    """
    from ..dtypes import resolve_dtype

    return resolve_dtype(name or ("fp32" if model == BUNDLED_MODEL else "auto"), device)
