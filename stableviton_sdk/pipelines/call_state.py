"""diffusers' call-time properties, kept apart for each thread, so that two threads may share a pipeline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import TryOnError


class CallState(threading.local):
    """The properties of the calling thread's own last call; a copied or unpickled pipeline starts with none."""

    guidance_scale: float = 1.0
    num_timesteps: int = 0
    interrupt: bool = False
    current_timestep: Any = None

    def __reduce__(self):
        return CallState, ()

    def __deepcopy__(self, memo: dict) -> CallState:
        return CallState()


class CallPropertiesMixin:
    """What a running call may be asked, from its own thread."""

    _call_state: CallState  # made with the pipeline: two threads' first calls would each make one

    @property
    def guidance_scale(self) -> float:
        """Guidance scale of the running call."""
        return self._call_state.guidance_scale

    @property
    def _guidance_scale(self) -> float:
        return self._call_state.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        self._call_state.guidance_scale = value

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the running call computes the unconditional branch."""
        return self._call_state.guidance_scale != 1.0

    @property
    def num_timesteps(self) -> int:
        """Steps of the running call."""
        return self._call_state.num_timesteps

    @property
    def current_timestep(self) -> Any:
        """Timestep of the running call."""
        return self._call_state.current_timestep

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to stop after the step."""
        return self._call_state.interrupt

    @property
    def _interrupt(self) -> bool:
        return self._call_state.interrupt

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        self._call_state.interrupt = value


class OffloadGuard:
    """Lets one call at a time through where weights are moved during a call."""

    def __init__(self):
        self._lock = threading.Lock()

    def __reduce__(self):
        return OffloadGuard, ()

    def __deepcopy__(self, memo: dict) -> OffloadGuard:
        return OffloadGuard()

    @contextmanager
    def enter(self, moves_weights: bool) -> Iterator[None]:
        """
        Raises:
            `TryOnError`: if another thread's call is moving the weights right now.
        """
        if not moves_weights:
            yield
            return
        if not self._lock.acquire(blocking=False):
            raise TryOnError(
                "this pipeline offloads its weights during a call, so only one thread may call it at a time: "
                "wait for the other call, or give each thread a pipeline of its own."
            )
        try:
            yield
        finally:
            self._lock.release()
