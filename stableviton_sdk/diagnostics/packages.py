"""Versions against what this package was tested with, and the installations that are known not to work."""

from __future__ import annotations

import contextlib
import importlib
import platform
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from .._version import __version__
from ..errors import TryOnError, clipped
from .finding import Finding, without_home

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SECTION = "packages"
DISTRIBUTION = "stableviton-sdk"
# Each of them brings a module cv2; the one that was installed last has overwritten the others' files.
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
MEDIAPIPE_WITHOUT_SOLUTIONS = "0.10.30"
DEVELOPER_EXTRAS = ("test", "docs")


def check_packages() -> list[Finding]:
    """Findings about Python, this package, what it needs, its extras, and the traps among them."""
    findings = [
        Finding(SECTION, "python", "ok", f"{platform.python_version()}, {without_home(Path(sys.executable))}"),
        Finding(SECTION, "system", "ok", platform.platform()),
        Finding(SECTION, DISTRIBUTION, "ok", __version__),
    ]
    try:
        requirements = _requirements()
    except metadata.PackageNotFoundError:
        cure = "pip install ."
        findings.append(
            Finding(SECTION, "requirements", "warning", "unknown, since the package itself isn't installed", cure)
        )
        requirements = []
    findings += [_check_version(requirement) for requirement, extra in requirements if extra is None]
    findings += [*_check_imports(), *_check_opencv(), *_check_mediapipe()]
    return [*findings, *_check_extras(requirements)]


def _requirements() -> list[tuple[Requirement, str | None]]:
    """What this package needs, each with the extra that it belongs to."""
    from packaging.requirements import Requirement

    found = []
    for line in metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        marker = str(requirement.marker or "")
        extra = marker.rpartition("extra == ")[2].strip("\"'") if "extra == " in marker else None
        found.append((requirement, extra))
    return found


def _check_version(requirement: Requirement) -> Finding:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(SECTION, requirement.name, "broken", "not installed", _install(requirement))
    if not requirement.specifier.contains(version, prereleases=True):
        value = f"{version}, but this package needs {requirement.specifier}"
        return Finding(SECTION, requirement.name, "broken", value, _install(requirement))
    return Finding(SECTION, requirement.name, "ok", version)


def _install(*requirements: Requirement) -> str:
    words = [shlex.quote(f"{requirement.name}{requirement.specifier}") for requirement in requirements]
    return f"pip install --upgrade {' '.join(words)}"


def _check_imports() -> Iterator[Finding]:
    """Whether the packages that are built against each other can be imported together."""
    both = "pip install --force-reinstall torch torchvision"
    cures = {"torch": both, "torchvision": both}
    for name in ("torch", "torchvision", "cv2", "onnxruntime", "diffusers"):
        try:
            module = importlib.import_module(name)
            if name == "torchvision":
                importlib.import_module("torchvision.ops").nms  # noqa: B018 (its operators are what fails to load)
            elif name == "cv2":
                module.resize  # noqa: B018 (without files of its own the package is still importable)
        except Exception as error:  # each fails in a way of its own
            distribution = {"cv2": "opencv-python-headless"}.get(name, name)
            cure = cures.get(name, f"pip install --force-reinstall {distribution}")
            yield Finding(SECTION, f"import {name}", "broken", _reason(error), cure)
            if name in cures:
                return  # all that follows needs torch
    from ..preprocessing.analyzers.openpose import import_openpose

    try:
        import_openpose()
    except TryOnError as error:
        message, _, command = str(error).partition("run `")
        cure = command.partition("`")[0] or "pip install --force-reinstall controlnet_aux"
        yield Finding(SECTION, "import controlnet_aux", "broken", message.rstrip(": "), cure)


def _check_opencv() -> Iterator[Finding]:
    installed = {name: version for name in OPENCV if (version := _version(name))}
    if len(installed) > 1:
        value = ", ".join(f"{name} {version}" for name, version in installed.items())
        surplus = " ".join(installed)
        cure = f"pip uninstall -y {surplus} && pip install opencv-python-headless"
        yield Finding(
            SECTION, "OpenCV", "warning", f"installed {len(installed)} times, over each other: {value}", cure
        )


def _check_mediapipe() -> Iterator[Finding]:
    from packaging.version import Version

    version = _version("mediapipe")
    if version and Version(version) >= Version(MEDIAPIPE_WITHOUT_SOLUTIONS):
        value = f"{version} has no mediapipe.solutions, which controlnet_aux imports where mediapipe is installed"
        yield Finding(SECTION, "mediapipe", "warning", value, "pip uninstall -y mediapipe")


def _check_extras(requirements: list[tuple[Requirement, str | None]]) -> Iterator[Finding]:
    extras: dict[str, list[Requirement]] = {}
    for requirement, extra in requirements:
        if extra is not None and extra not in DEVELOPER_EXTRAS:
            extras.setdefault(extra, []).append(requirement)
    for extra, needed in sorted(extras.items()):
        absent = [one.name for one in needed if _version(one.name) is None]
        old = [
            f"{one.name} {version}"
            for one in needed
            if (version := _version(one.name)) and not one.specifier.contains(version, prereleases=True)
        ]
        cure = f"pip install '{DISTRIBUTION}[{extra}]'"
        if old:
            yield Finding(SECTION, f"extra [{extra}]", "warning", f"untested versions: {', '.join(old)}", cure)
        elif absent:
            yield Finding(SECTION, f"extra [{extra}]", "note", f"not installed: {', '.join(absent)}", cure)
        else:
            yield Finding(SECTION, f"extra [{extra}]", "ok", "installed")


def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _reason(error: Exception) -> str:
    return clipped(f"{type(error).__name__}: {error}", most=200)
