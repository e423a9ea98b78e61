"""The documentation's generated pages, its navigation, and the public names' docstrings."""

import importlib
import inspect
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import stableviton_sdk

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = runpy.run_path(str(ROOT / ".ci" / "reference_pages.py"))


@pytest.mark.parametrize("name", sorted(REFERENCE["pages"]()))
def test_generated_pages_follow_from_the_code(name):
    generated = REFERENCE["pages"]()[name]
    assert (DOCS / name).read_text(encoding="utf-8") == generated, "run python .ci/reference_pages.py"


def pages_of(entries):
    for entry in entries:
        for value in entry.values():
            yield from pages_of(value) if isinstance(value, list) else [value]


def test_the_navigation_names_every_page_once():
    configuration = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    named = list(pages_of(configuration["project"]["nav"]))
    assert sorted(named) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_every_error_has_its_entry():
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    errors = importlib.import_module("stableviton_sdk.errors")
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert f"`{name}`" in text, name


@pytest.mark.slow
def test_the_site_builds_strictly_and_cold(tmp_path):
    pytest.importorskip("zensical", reason="the extra [docs] is not installed")
    shutil.copytree(DOCS, tmp_path / "docs")
    for name in ("stableviton_sdk", ".ci"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    page = (tmp_path / "site" / "reference" / "pipeline" / "index.html").read_text(encoding="utf-8")
    assert "garment_photo" in page
    assert "`AutoencoderKL`" not in page
    elsewhere = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?https?://""")
    for path in (tmp_path / "site").rglob("*.html"):
        assert not elsewhere.search(path.read_text(encoding="utf-8")), f"{path} loads something from elsewhere"


def test_the_diagrams_are_drawn_by_their_script():
    diagrams = runpy.run_path(str(ROOT / ".ci" / "diagrams.py"))
    for name in diagrams["DIAGRAMS"]:
        assert (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8") == diagrams["draw"](name)


def public_members():
    """Every public class, function and method, by its name."""
    for name in stableviton_sdk.__all__:
        value = getattr(stableviton_sdk, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        if not inspect.isclass(value):
            continue
        for member, raw in vars(value).items():
            function = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
            function = function.fget if isinstance(function, property) else function
            if not member.startswith("_") and inspect.isfunction(inspect.unwrap(function)):
                yield f"{name}.{member}", inspect.unwrap(function)


MEMBERS = dict(public_members())


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_name_says_what_it_takes_and_gives(name):
    member = MEMBERS[name]
    doc = inspect.getdoc(member) or ""
    assert doc, "no docstring"
    if inspect.isclass(member):
        return
    arguments = [
        parameter.name
        for parameter in inspect.signature(member).parameters.values()
        if parameter.name not in ("self", "cls") and parameter.kind is not parameter.VAR_POSITIONAL
    ]
    section = re.search(r"^Args:\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
    # what stands before an entry's colon: one argument or several, with their types
    entries = " ".join(re.findall(r"^    (\S.*?):(?:\s|$)", section[1], re.MULTILINE)) if section else ""
    missing = [argument for argument in arguments if not re.search(rf"\b{argument}\b", entries)]
    assert not missing, f"no entry for {', '.join(missing)}"
