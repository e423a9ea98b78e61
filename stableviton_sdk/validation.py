"""Checks of single arguments that many functions share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any, TypeGuard

import numpy as np

from .errors import InvalidInput


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuse a value that isn't one of the choices.

    Args:
        name (`str`): The argument's name, for the message.
        value (`Any`): What was passed.
        choices (`Collection`): What may be passed.

    Raises:
        `InvalidInput`: naming the choices.
    """
    if value not in tuple(choices):
        raise InvalidInput(f"{name} is {value!r}: pass one of {', '.join(map(repr, choices))}.")


def is_whole_number(value: Any) -> TypeGuard[int]:
    """Whether a value is an integer of Python's or numpy's; `True` and `False` are none."""
    return isinstance(value, (numbers.Integral, np.integer)) and not isinstance(value, bool)


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> TypeGuard[float]:
    """Whether a value is a finite real number in [low, high]; `True` and `False` are none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    number = float(value)
    return math.isfinite(number) and low <= number <= high
