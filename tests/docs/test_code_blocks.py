"""Code blocks of the README and of the documentation, executed as they stand.

Python blocks of a page share their names. Of shell blocks, `stableviton …` and `python examples/…` run in this
process. What can't run says so in the page, with the reason: `<!-- skip: next "needs a GPU" -->`. Where a page loads
the authors' weights, a Hub on loopback serves the bundled model in their place.
"""

import contextlib
import re
import runpy
import shlex
import shutil
import sys
import unittest
from pathlib import Path

import pytest
from PIL import Image
from support.stand_in_hub import served_hub
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from stableviton_sdk.cli.entry import main
from stableviton_sdk.hub.known_repos import KNOWN_REPOS
from stableviton_sdk.pipelines.loading import BUNDLED

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
AUTHORS = "rlawjdghek/StableVITON"
EXECUTED = ("python", "bash")
# blocks of these languages are nothing to run
SHOWN = ("", "text", "json", "yaml", "bibtex", "html", "toml", "csv", "http")


def run_shell(example) -> None:
    for line in re.sub(r"\\\n\s*", "", example.parsed).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "stableviton":
            assert main(words[1:]) == 0, line
        elif words[:1] == ["python"] and words[1].startswith("examples/"):
            arguments, sys.argv = sys.argv, words[1:]
            try:
                runpy.run_path(str(ROOT / words[1]), run_name="__main__")
            finally:
                sys.argv = arguments
        else:
            raise AssertionError(f"{line!r} is not executed: skip its block with a reason")


SYBIL = Sybil(parsers=[PythonCodeBlockParser(), CodeBlockParser("bash", run_shell), SkipParser()])


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with the images that pages name, and a Hub with the bundled model in the authors' place."""
    samples = BUNDLED / "samples"
    monkeypatch.chdir(tmp_path)
    for name, source in (
        ("person.jpg", "person_1"),
        ("other-person.jpg", "person_2"),
        ("garment.jpg", "garment_1"),
        ("other-garment.jpg", "garment_2"),
    ):
        image = Image.open(samples / f"{source}.png").convert("RGB")
        image.resize((3 * image.width, 3 * image.height), Image.Resampling.LANCZOS).save(name, quality=95)
    for folder, kind in (("persons", "person"), ("garments", "garment")):
        Path(folder).mkdir()
        for number in (1, 2):
            shutil.copy(samples / f"{kind}_{number}.png", f"{folder}/{number}.png")
    Path("pairs.csv").write_text("person,garment\nperson.jpg,garment.jpg\nother-person.jpg,other-garment.jpg\n")
    monkeypatch.delitem(KNOWN_REPOS, AUTHORS)
    with served_hub(tmp_path / "home") as hub:
        hub.commit_folder(AUTHORS, BUNDLED)
        yield tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run_as_they_stand(page, workplace):
    for example in SYBIL.parse(page):
        with contextlib.suppress(unittest.SkipTest):
            example.evaluate()


def test_every_block_is_executed_or_of_a_language_that_is_only_shown():
    for page in PAGES:
        for language in re.findall(r"^ *```([\w+-]*).*$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]:
            assert language in (*EXECUTED, *SHOWN), f"{page}: a block of {language}"


def test_every_skip_gives_its_reason():
    for page in PAGES:
        for directive in re.findall(r"<!--- *skip:[^>]*-->|<!-- *skip:[^>]*-->", page.read_text(encoding="utf-8")):
            assert re.search(r'next "[^"]{5,}"', directive), f"{page}: {directive}"
