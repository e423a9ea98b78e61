"""What networks made of a prepared image, kept with it for the next call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

MOST = 6  # of one prepared image: a person has three, a garment two for each model and size; 50 kB each at 512 x 384


class Encodings:
    """A few results by what they follow from; the ones longest unused go first. Copies and pickles start empty."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return Encodings, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Encodings:
        return Encodings()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Any | None:
        """What is kept under a key; None for nothing."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Hashable, encoding: Any) -> None:
        """Keep an encoding, which must not be changed afterwards."""
        with self._lock:
            self._kept[key] = encoding
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
