"""What opening a network does beside opening it."""

import os
import subprocess
import sys
from pathlib import Path

from stableviton_sdk.pipelines.loading import BUNDLED

NETWORK = BUNDLED / "preprocessor" / "body_network.onnx"
SCRIPT = """
import os, sys, time
from stableviton_sdk.preprocessing.analyzers.onnx_session import open_session
before = dict(os.environ)
try:
    open_session(sys.argv[1], "cpu", name="it", input_shape=(0,), output_count=0)
except Exception as error:
    print(type(error).__name__)
assert dict(os.environ) == before
time.sleep(1)
"""


def test_nothing_is_reported_about_it_and_no_mark_is_left_in_the_users_folders(tmp_path):
    folders = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in folders.values():
        os.mkdir(folder)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")}
    environment = {**kept, **folders, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(NETWORK)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "IncompatibleCheckpoint\n"  # it was opened, and is of another shape
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
