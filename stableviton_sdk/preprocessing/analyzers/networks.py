"""Networks of an analyzer, opened on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ...errors import InvalidInput

Network = TypeVar("Network")


class LazyNetworks:
    """Networks on one device, each opened when it is first needed and kept for all analyzers that share this object.

    Args:
        weights (`Callable[[str], Path | None]`):
            Returns the path of the weights of that name, downloaded if necessary; None for declined weights.
        device (`str`, *optional*, defaults to `"cpu"`): Device the networks run on, such as `"cuda:1"`.
    """

    def __init__(self, weights: Callable[[str], Path | None], device: str = "cpu"):
        self.weights = weights
        self.device = device
        self._networks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, name: str, open_network: Callable[[], Network]) -> Network:
        """The network of that name; opened once, whichever thread needs it first.

        Args:
            name (`str`): Name that the network is kept by.
            open_network (`Callable`): Opens the network; called if none of that name is open.
        """
        with self._lock:
            if name not in self._networks:
                self._networks[name] = open_network()
            return self._networks[name]

    def required_weights(self, name: str) -> Path:
        """Path of weights that an analyzer can't do without.

        Args:
            name (`str`): Name of the weights.

        Raises:
            `InvalidInput`: if they were declined.
        """
        path = self.weights(name)
        if path is None:
            raise InvalidInput(f"the weights {name!r} were declined, but are needed: pass their path in `weights`.")
        return path
