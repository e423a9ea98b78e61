"""`stableviton convert`: a released checkpoint to a folder that loads quickly."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import DTYPE_NAMES
from ..errors import InvalidInput, shortened

if TYPE_CHECKING:
    from ..conversion import ConversionReport
EXAMPLES = ("stableviton convert VITONHD.ckpt converted/ --dtype fp16",)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "convert",
        help="convert a released checkpoint to a folder that TryOnPipeline.from_pretrained loads",
        description="Convert the authors' .ckpt, or a safetensors file of the same keys, to this package's folder. "
        "Nothing that the checkpoint holds is executed. The folder appears when it is complete.",
        **options,
    )
    parser.add_argument("source", metavar="SOURCE", help="the checkpoint file")
    parser.add_argument("target", metavar="TARGET", help="the folder to write: new, or empty")
    parser.add_argument("--dtype", choices=DTYPE_NAMES, help="how to store the weights; default: as is")
    parser.add_argument(
        "--architecture",
        metavar="JSON",
        help="what no tensor's shape tells, where it differs from the released checkpoints, as JSON or a file of it: "
        '\'{"garment_encoder": {"num_attention_heads": 4}}\'',
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    architecture = parse_architecture(arguments.architecture)
    from ..conversion import convert_checkpoint

    report = convert_checkpoint(
        arguments.source,
        arguments.target,
        dtype=arguments.dtype,
        architecture=architecture,
        progress=sys.stderr.isatty(),
    )
    print(summarise(report, arguments.source))


def parse_architecture(text: str | None) -> dict[str, dict[str, Any]] | None:
    """Options by component, from JSON or from the file of it that `text` names.

    Raises:
        `InvalidInput`: if it is neither, or no mapping of mappings.
    """
    if text is None:
        return None
    where = "--architecture"
    if not text.lstrip().startswith("{"):
        where = f"--architecture: {text}"
        if not os.path.isfile(text):
            raise InvalidInput(f"{where} is neither a file nor JSON: JSON begins with a brace.")
        try:
            text = Path(text).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{where} is no JSON file: it holds something else than text.") from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{where} is no valid JSON ({error}): check its quotes, commas and braces.") from error
    if not isinstance(content, dict) or not all(isinstance(options, dict) for options in content.values()):
        raise InvalidInput(
            f"{where} must name options by component, as in "
            '{"garment_encoder": {"num_attention_heads": 4}}: check its nesting.'
        )
    return content


def summarise(report: ConversionReport, source: str) -> str:
    """What a conversion did, for people.

    Args:
        report (`ConversionReport`): Report of the conversion.
        source (`str`): The checkpoint.
    """
    lines = [f"{source} -> {report.target}"]
    counts = {**report.parameters, "together": sum(report.parameters.values())}
    lines += [f"  {name:<16} {count:>14,} parameters" for name, count in counts.items()]
    if report.unused:
        # the released file leaves whole blocks unused: name those, not their every tensor
        groups = Counter(".".join(name.split(".")[:2]) for name in report.unused)
        names = [f"{name} ({count})" if count > 1 else name for name, count in groups.items()]
        lines.append(f"unused, they reach no result: {len(report.unused)} tensors: {shortened(names, most=40)}")
    if report.foreign_line():
        lines.append(str(report.foreign_line()))
    return "\n".join(lines)
