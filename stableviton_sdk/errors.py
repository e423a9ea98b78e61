"""Everything the SDK raises on purpose. Each message is one sentence that says what was wrong and what to do."""


class TryOnError(Exception):
    """Base of all errors that the SDK raises on purpose."""


class InvalidInput(TryOnError, ValueError):
    """An argument or a file can't be used as it is: wrong type, size, range, or unreadable."""


class NoPersonFound(InvalidInput):
    """The photo shows nobody whom the preprocessing could find, or too little of them."""


class IncompatibleCheckpoint(TryOnError, ValueError):
    """A checkpoint's tensors don't fit the architecture: unknown, missing or wrongly shaped keys."""


class WeightsUnavailable(TryOnError, OSError):
    """Weights could not be had: no network, not enough disk, a damaged download, or no such file."""


class MissingDependency(TryOnError, ImportError):
    """An optional package is not installed, or is installed in a version that can't work."""
