"""The running calls of a pipeline: what may be read of them, how they are stopped, and which may run at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import TryOnError


@dataclass(eq=False)
class Call:
    """One call: the values of diffusers' call-time properties.

    Args:
        guidance_scale (`float`): Guidance scale; a callback may change it.
        num_timesteps (`int`): How many times the scheduler steps.
        current_timestep (`torch.Tensor`, *optional*): Timestep of the step under way.
        interrupt (`bool`): Whether to stop after the step under way.
    """

    guidance_scale: float = 1.0
    num_timesteps: int = 0
    current_timestep: Any = None
    interrupt: bool = False


class Calls:
    """The calls of one pipeline, which several threads may share; a copied or unpickled pipeline starts with none."""

    def __init__(self):
        self._lock = threading.Lock()
        self._exclusive = threading.Lock()
        self._own = threading.local()
        self._running: list[Call] = []
        self._latest = Call()

    def __reduce__(self) -> tuple[Any, ...]:
        return Calls, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Calls:
        return Calls()

    @contextmanager
    def begin(self, modules: Iterable[torch.nn.Module]) -> Iterator[Call]:
        """Run a call.

        Args:
            modules (`Iterable[torch.nn.Module]`): The pipeline's networks.

        Raises:
            `TryOnError`: if the networks move their weights during a call, and another call is using them.
        """
        exclusive = any(moves_weights(module) for module in modules)
        if exclusive and not self._exclusive.acquire(blocking=False):
            raise TryOnError(
                "this pipeline offloads its weights during a call, so only one thread may call it at a time: "
                "wait for the other call, or give each thread a pipeline of its own."
            )
        call, outer = Call(), getattr(self._own, "call", None)
        with self._lock:
            self._running.append(call)
            self._latest = call
        self._own.call = call
        try:
            yield call
        finally:
            self._own.call = outer
            call.current_timestep = None  # also where an error ended the call
            with self._lock:
                self._running.remove(call)
            if exclusive:
                self._exclusive.release()

    @property
    def current(self) -> Call:
        """This thread's running call; from any other thread the one that began last."""
        return getattr(self._own, "call", None) or self._latest

    def interrupt(self, value: bool) -> None:
        """Set whether to stop: this thread's running call, or from any other thread all that are running."""
        own = getattr(self._own, "call", None)
        with self._lock:
            for call in self._running if own is None else [own]:
                call.interrupt = value


def moves_weights(module: torch.nn.Module) -> bool:
    """Whether a network's weights are moved or cast in place while it runs.

    True after `enable_model_cpu_offload`, `enable_sequential_cpu_offload`, `enable_group_offload` and
    `enable_layerwise_casting`, whose hooks stand on the modules themselves.
    """
    return any(
        _offloads(getattr(part, "_hf_hook", None))
        or bool(getattr(getattr(part, "_diffusers_hook", None), "hooks", None))
        for part in module.modules()
    )


def _offloads(hook: Any) -> bool:
    """Whether an accelerate hook moves weights; those of a plain device map only move activations."""
    from accelerate.hooks import CpuOffload, SequentialHook

    if isinstance(hook, SequentialHook):
        return any(map(_offloads, hook.hooks))
    return isinstance(hook, CpuOffload) or bool(getattr(hook, "offload", False))
