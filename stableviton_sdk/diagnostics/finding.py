"""One thing that was looked at, and what it takes to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "note", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        section (`str`): What it belongs to, such as `"packages"`.
        name (`str`): What was looked at.
        status (`str`):
            `"ok"`; `"note"`: something optional isn't there; `"warning"`: works now, and is known to cause trouble;
            `"broken"`: something of this package can't work.
        value (`str`): What was seen, in one line.
        cure (`str`, *optional*): The command that mends it, or what to do.
    """

    section: str
    name: str
    status: Status
    value: str
    cure: str | None = None


def without_home(path: Path) -> str:
    """A path without its owner's name, so that a report can be shown to others."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)
