"""`stableviton doctor`: what this installation has, lacks and stumbles over, with the command that mends it."""

from __future__ import annotations

import argparse
from typing import Any

MARKS = {"ok": "ok", "note": "--", "warning": "!!", "broken": "XX"}
BROKEN = 1
EXAMPLES = (
    "stableviton doctor",
    "stableviton doctor --json",
)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="look over packages, devices, memory, caches and weights, and say how to mend what is broken",
        description="Look over packages, devices, memory, caches and weights. Nothing is downloaded or written. The "
        "output can be pasted into a report as it is. Exit status 1 if something is broken.",
        **options,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import dataclasses
    import json

    from .._version import __version__
    from ..diagnostics import diagnose

    findings = diagnose()
    broken = [finding for finding in findings if finding.status == "broken"]
    if arguments.json:
        content = {
            "version": __version__,
            "broken": len(broken),
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        print(json.dumps(content, indent=2))
        return BROKEN if broken else 0
    width = max(len(finding.name) for finding in findings)
    print("```")
    for section in dict.fromkeys(finding.section for finding in findings):
        print(f"{section}")
        for finding in findings:
            if finding.section == section:
                print(f"  {MARKS[finding.status]} {finding.name:<{width}}  {finding.value}")
                if finding.cure:
                    print(f"     {'':<{width}}  -> {finding.cure}")
    print("```")
    warnings = sum(finding.status == "warning" for finding in findings)
    print(f"{len(broken)} broken, {warnings} known to cause trouble" if broken or warnings else "nothing is broken")
    return BROKEN if broken else 0
