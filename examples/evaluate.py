"""Measure a model by a declared protocol, and read the report.

    python examples/evaluate.py --output runs/rendered --count 8

Rendered figures, whose truth is known unpaired as well, stand for a data set. `stableviton evaluate` does the same for
VITON-HD and others.
"""

import argparse
import json
from pathlib import Path

from stableviton_sdk.cli.entry import main as stableviton


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/rendered"))
    parser.add_argument("--count", type=int, default=8, help="pairs")
    parser.add_argument("--model", default="bundled", help="folder, Hub repository, or bundled")
    arguments = parser.parse_args()
    what = ["synthetic", "--setting", "unpaired", "--model", arguments.model, "--limit", str(arguments.count)]
    how = ["--metrics", "ssim,psnr,ssim_region", "--output", str(arguments.output)]
    status = stableviton(["evaluate", *what, *how])
    if status:
        raise SystemExit(status)
    report = json.loads((arguments.output / "report.json").read_text(encoding="utf-8"))
    for name, entry in report["metrics"].items():
        print(f"{name}: {entry['value']:.4f}")


if __name__ == "__main__":
    main()
