"""Known Hub repositories in the authors' checkpoint layout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import InvalidInput

AUTHORS_LICENCE = (
    "CC BY-NC-SA 4.0: non-commercial use only, with attribution, share alike "
    "(https://creativecommons.org/licenses/by-nc-sa/4.0/)"
)


@dataclass(frozen=True)
class Checkpoint:
    """One file of a repository that isn't in our layout.

    Args:
        filename (`str`): Path in the repository.
        size (`tuple[int, int]`): Height and width in pixels that it was trained at.
        sha256 (`str`, *optional*): Its checksum, or the beginning of it.
    """

    filename: str
    size: tuple[int, int] = (512, 384)
    sha256: str | None = None


@dataclass(frozen=True)
class KnownRepo:
    """A repository in the authors' layout.

    Args:
        repo_id (`str`): Owner and name.
        licence (`str`): Shown when the weights are downloaded.
        checkpoints (`Mapping[str, Checkpoint]`): Checkpoints by name; the first is the default.
        repo_type (`str`, *optional*, defaults to `"model"`): `"model"` or `"space"`.
    """

    repo_id: str
    licence: str
    checkpoints: Mapping[str, Checkpoint]
    repo_type: str = "model"

    def pick(self, checkpoint: str | None) -> tuple[str, Checkpoint]:
        """The named checkpoint, or the default one."""
        name = checkpoint or next(iter(self.checkpoints))
        if name not in self.checkpoints:
            raise InvalidInput(
                f"{self.repo_id} has no checkpoint {name!r}: pass checkpoint= one of {', '.join(self.checkpoints)}."
            )
        return name, self.checkpoints[name]


# By the name that users pass to `from_pretrained`; spaces have the prefix that they have in the Hub's addresses.
KNOWN_REPOS: dict[str, KnownRepo] = {
    "rlawjdghek/StableVITON": KnownRepo(
        "rlawjdghek/StableVITON", AUTHORS_LICENCE, {"VITONHD": Checkpoint("ckpts/VITONHD.ckpt")}
    ),
    "spaces/rlawjdghek/StableVITON": KnownRepo(
        "rlawjdghek/StableVITON",
        AUTHORS_LICENCE,
        {
            "VITONHD": Checkpoint("checkpoints/VITONHD.ckpt", sha256="d4e44bc5"),
            "VITONHD_1024": Checkpoint("checkpoints/VITONHD_1024.ckpt", (1024, 768), sha256="b6f9c91d"),
        },
        repo_type="space",
    ),
    "takesuke/SIFT-VTON": KnownRepo(
        "takesuke/SIFT-VTON",
        "see the model page, https://huggingface.co/takesuke/SIFT-VTON (built on StableVITON: non-commercial)",
        {"SIFT-VTON": Checkpoint("model.ckpt")},
    ),
}


def known_repo(name: str | os.PathLike[str]) -> KnownRepo | None:
    """The repository in the authors' layout that goes by this name, or None."""
    return KNOWN_REPOS.get(os.fspath(name))


def known_checkpoint(repo_id: str, repo_type: str, filename: str) -> tuple[KnownRepo, Checkpoint] | None:
    """The repository in the authors' layout, and its checkpoint, that a file on the Hub is; or None."""
    for repo in KNOWN_REPOS.values():
        for checkpoint in repo.checkpoints.values():
            if (repo.repo_id, repo.repo_type, checkpoint.filename) == (repo_id, repo_type, filename):
                return repo, checkpoint
    return None
