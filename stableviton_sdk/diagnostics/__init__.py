"""What an installation has, lacks, and stumbles over: packages, devices, memory, caches, weights."""

from __future__ import annotations

from .finding import Finding
from .machine import check_machine
from .packages import check_packages
from .weights import check_weights

__all__ = ["Finding", "diagnose"]


def diagnose() -> list[Finding]:
    """Findings about this installation, in the order in which they are worth reading.

    Imports what the package depends on, loads the bundled model, and makes one request to the Hub unless downloading
    is off. Nothing is downloaded or written.

    Returns:
        `list[Finding]`: those whose status is `"broken"` keep something from working.
    """
    packages = check_packages()
    can_import_torch = not any(entry.name == "import torch" and entry.status == "broken" for entry in packages)
    return [*packages, *check_machine(can_import_torch), *check_weights(can_import_torch)]
