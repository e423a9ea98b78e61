"""A Hub on loopback with two files, and what stays of them."""

from pathlib import Path

import pytest

from support.stand_in_hub import served_hub

NAME, LARGE_FILE, SMALL_FILE = "them/weights", "ckpts/model.ckpt", "config.json"
LARGE = bytes(range(256)) * 4096
SMALL = b'{"a": 1}'


@pytest.fixture
def hub(tmp_path):
    with served_hub(tmp_path / "home") as served:
        served.commit(NAME, {LARGE_FILE: LARGE, SMALL_FILE: SMALL})
        yield served


@pytest.fixture
def no_waiting(monkeypatch):
    """The client waits between its attempts."""
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)


def cached_content(home: Path) -> list[Path]:
    """All that a loader could take for weights, finished or not."""
    places = [*home.glob("hub/*/blobs/*"), *home.glob("hub/*/snapshots/**/*")]
    return [path for path in places if path.is_symlink() or path.is_file()]
