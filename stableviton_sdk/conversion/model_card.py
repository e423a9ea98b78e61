"""The model card that goes with converted and saved weights, and carries their licence on."""

from __future__ import annotations

import re
from pathlib import Path

from ..hub.known_repos import KNOWN_REPOS

UNKNOWN_LICENCE = "unknown: the licence of the checkpoint that this was converted from applies"


def model_card(source: str | None, licence: str | None) -> str:
    """Text of the README.md that goes with weights; `source` is the name of the file they come from."""
    terms = licence or UNKNOWN_LICENCE
    # the Hub's own words for licences, which it shows and filters by
    known = {"CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0", "Apache-2.0": "apache-2.0"}
    tag = next((tag for name, tag in known.items() if terms.startswith(name)), "other")
    base = next((repo.repo_id for repo in KNOWN_REPOS.values() if repo.licence == licence), None)
    return (
        # without a library of its own the Hub offers diffusers' snippet, which doesn't know this pipeline
        f"---\nlicense: {tag}\nlibrary_name: stableviton_sdk\npipeline_tag: image-to-image\n"
        + (f"base_model: {base}\n" if base else "")
        + "tags: [diffusers, virtual-try-on, stableviton]\ninference: false\n---\n"
        "\n# StableVITON weights for stableviton_sdk\n"
        + (f"\nConverted from `{source}`.\n" if source else "")
        + f"\nLicence of the weights: {terms}.\n\n"
        "```python\nfrom stableviton_sdk import TryOnPipeline\n\n"
        'pipe = TryOnPipeline.from_pretrained("this folder or repository")\n'
        'image = pipe("person.jpg", "garment.jpg").images[0]\n```\n\n'
        "The same by diffusers, which then imports the repository's `pipeline.py`:\n\n"
        "```python\nfrom diffusers import DiffusionPipeline\n\n"
        'pipe = DiffusionPipeline.from_pretrained("this folder or repository", trust_remote_code=True)\n```\n'
    )


def licence_of_card(path: Path) -> str | None:
    """The licence that a README.md names if it is a `model_card` that nobody has changed since; None otherwise."""
    text = path.read_text(encoding="utf-8", errors="replace")
    source = re.search(r"^Converted from `(.*)`\.$", text, re.MULTILINE)
    licence = re.search(r"^Licence of the weights: (.*)\.$", text, re.MULTILINE)
    unchanged = licence is not None and text == model_card(source and source[1], licence[1])
    return licence[1] if unchanged else None
