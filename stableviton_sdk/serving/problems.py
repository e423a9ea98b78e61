"""What a request is answered that can't be served: a status, a stable code, and one sentence."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from ..errors import CallCancelled, InvalidInput, MissingDependency, NoPersonFound, clipped
from .job import EngineStopped, JobTimedOut, QueueFull, UnknownJob

logger = logging.getLogger(__name__)

# Every code there is, and its status. Codes are stable: clients may rely on them.
STATUSES = {
    "bad_request": 400,
    "bad_host": 400,
    "unauthorized": 401,
    "foreign_origin": 403,
    "not_found": 404,
    "unknown_job": 404,
    "method_not_allowed": 405,
    "slow_upload": 408,
    "not_done": 409,
    "too_large": 413,
    "too_many_pixels": 413,
    "unsupported_media_type": 415,
    "unsupported_image": 415,
    "wrong_host": 421,
    "missing_field": 422,
    "unknown_field": 422,
    "repeated_field": 422,
    "invalid_field": 422,
    "invalid_image": 422,
    "invalid_input": 422,
    "no_person": 422,
    "queue_full": 429,
    "too_many_requests": 429,
    "internal": 500,
    "stopping": 503,
    "out_of_memory": 503,
    "time_limit": 504,
    "cancelled": 409,
}
UNEXPECTED = "something went wrong here that isn't your request's fault: try again, and tell who runs this server."


class Problem(Exception):
    """
    Args:
        code (`str`): One of `STATUSES`.
        message (`str`): One sentence: what was wrong, and what to do.
        headers (`Mapping[str, str]`, *optional*): Of the answer.
    """

    def __init__(self, code: str, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.code = code
        self.status: int = STATUSES[code]
        self.message: str = clipped(message, most=1000)
        self.headers: dict[str, str] = dict(headers or {})

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}


def problem_of(error: Exception) -> Problem | None:
    """What an exception means for the client; None if it is a defect of the server."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueFull):
        return Problem("queue_full", str(error), {"Retry-After": str(error.retry_after)})
    codes = (
        (UnknownJob, "unknown_job"),
        (EngineStopped, "stopping"),
        (JobTimedOut, "time_limit"),
        (CallCancelled, "cancelled"),
        (NoPersonFound, "no_person"),
        (InvalidInput, "invalid_input"),
        (MissingDependency, "unsupported_image"),
    )
    for kind, code in codes:
        if isinstance(error, kind):
            return Problem(code, str(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return Problem("out_of_memory", "there is not enough memory: send smaller images, or try again later.")
    return None  # other errors of this package are of the server's own weights or files


def unexpected(error: Exception) -> Problem:
    """A defect, which is logged; the client learns no more than that."""
    logger.error("a request could not be served, for a reason that isn't its sender's", exc_info=error)
    return Problem("internal", UNEXPECTED)


def too_many_requests(seconds: float) -> Problem:
    """A client that asks too often."""
    wait = max(1, math.ceil(seconds))
    return Problem(
        "too_many_requests", f"too many requests from your address: try again in {wait} s.", {"Retry-After": str(wait)}
    )
