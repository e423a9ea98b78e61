"""How far a batch is: images an hour, time left, the current name; a line for people, or JSON lines for programs."""

from __future__ import annotations

import bisect
import json
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from ..errors import clipped

SPAN = 300.0  # seconds that the speed is of
PER_LINE, PER_EVENT = 0.2, 5.0  # seconds between two lines


class Speed:
    """Images an hour, of the last minutes."""

    def __init__(self):
        self._times: list[float] = []

    def add(self, at: float) -> None:
        """Count an image.

        Args:
            at (`float`): When it was made, in seconds; not always later than the one before.
        """
        bisect.insort(self._times, at)
        if self._times[0] < self._times[-1] - 2 * SPAN:  # now and then, as it moves the whole list
            del self._times[: bisect.bisect_left(self._times, self._times[-1] - SPAN)]

    def per_hour(self) -> float | None:
        """None before there are two."""
        if not self._times:
            return None
        first = bisect.bisect_left(self._times, self._times[-1] - SPAN)
        count, seconds = len(self._times) - first - 1, self._times[-1] - self._times[first]
        return count / seconds * 3600 if seconds > 0 else None


class Progress:
    """Writes how far a run is.

    Args:
        as_json (`bool`, *optional*, defaults to `False`): JSON lines to stdout instead of a line on a terminal.
        stream (`IO[str]`, *optional*): Where the line goes, if it is a terminal; stderr by default.
    """

    def __init__(self, as_json: bool = False, stream: IO[str] | None = None):
        self.as_json = as_json
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._written_at = float("-inf")
        self._width = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event of a run; see `run`."""
        now = time.monotonic()
        if self.as_json:
            if event["event"] != "image" or now - self._written_at >= PER_EVENT:
                self._written_at = now
                print(json.dumps(event), flush=True)
            return
        if not self._is_terminal:
            return
        if event["event"] == "image" and now - self._written_at < PER_LINE:
            return
        self._written_at = now
        line = describe(event)
        self._stream.write(f"\r{line}{' ' * max(0, self._width - len(line))}")
        self._width = len(line)
        if event["event"] == "end":
            self._stream.write("\n")
        self._stream.flush()


def describe(event: Mapping[str, Any]) -> str:
    """An event as a line for people."""
    parts = [f"{event['done']:,} of {event['total']:,} done"]
    if event["failed"]:
        parts.append(f"{event['failed']:,} failed")
    if event.get("per_hour"):
        parts.append(f"{event['per_hour']:,.0f} images an hour")
    if event.get("seconds_left") is not None and event["event"] != "end":
        parts.append(f"{format_seconds(event['seconds_left'])} left")
    if event.get("id"):
        parts.append(clipped(event["id"], most=40))
    return ", ".join(parts)


def format_seconds(seconds: float) -> str:
    """A time for people: `"0:07"`, `"1:02:03"`, `"3 days 4 h"`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
