"""What a run tells along the way, in its own lines and in TensorBoard's files."""

import io
import json
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image
from support.pairs import HEIGHT, WIDTH, Pairs
from support.tiny import random_image
from support.tiny_training import assert_equal_weights, config_of, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stableviton_sdk.training.loop.run_log import MetricsLog, read_metrics


def events(folder):
    """All scalars by name and step, and all images likewise."""
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()
    tags = found.Tags()
    scalars = {name: {event.step: event.value for event in found.Scalars(name)} for name in tags["scalars"]}
    images = {
        name: {
            event.step: np.asarray(Image.open(io.BytesIO(event.encoded_image_string))) for event in found.Images(name)
        }
        for name in tags["images"]
    }
    return scalars, images


@pytest.fixture
def without_tensorboard(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)


def test_scalars_and_validation_images_of_a_training_arrive_in_tensorboard(tmp_path):
    run(config_of(tmp_path, validation={"every": 2, "count": 2, "inference_steps": 1}))
    scalars, images = events(tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert set(scalars) == set(lines[0]) - {"step"}
    assert {"loss", "denoising", "learning_rate", "gradient_norm"} <= set(scalars)
    for name, values in scalars.items():
        assert values == pytest.approx({line["step"]: line[name] for line in lines}, rel=1e-6)
    assert sorted(images["validation"]) == [2, 4]
    for step, sheet in images["validation"].items():
        assert np.array_equal(sheet, np.asarray(Image.open(tmp_path / "validation" / f"step-{step:08d}.png")))
        assert sheet.shape[0] > 2 * HEIGHT
        assert sheet.shape[1] > 4 * WIDTH


def test_a_training_that_breaks_off_ends_tensorboards_thread(tmp_path):
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt) as broken:  # held, and with it everything in its frames
        run(config_of(tmp_path), Pairs(fail_at=7))  # one for the check, two for each step: dies in the fourth
    assert set(threading.enumerate()) <= before
    assert broken.tb is not None
    assert sorted(events(tmp_path)[0]["loss"]) == [1, 2, 3]


def test_what_a_killed_run_told_after_its_checkpoint_is_replaced(tmp_path):
    killed = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        killed.write(step, {"loss": float(step)})
    killed.show(2, "validation", random_image())
    killed.show(3, "validation", random_image(seed=3))
    killed.flush()  # and never closed
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    time.sleep(1.1)  # TensorBoard reads files in the order of their names, which are of the second they began in
    resumed = MetricsLog(tmp_path, 2)
    resumed.write(3, {"loss": 30.0})
    resumed.show(3, "validation", random_image(seed=4))
    resumed.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": s, "loss": v} for s, v in ((1, 1), (2, 2), (3, 30))]
    scalars, images = events(tmp_path)
    assert scalars == {"loss": {1: 1.0, 2: 2.0, 3: 30.0}}
    assert np.array_equal(images["validation"][2], np.asarray(random_image()))
    assert np.array_equal(images["validation"][3], np.asarray(random_image(seed=4)))
    killed.close()


def test_without_tensorboard_everything_else_is_the_same(tmp_path, without_tensorboard):
    options = {"steps": 2, "validation": {"every": 2, "count": 1, "inference_steps": 1}}
    _, folder = run(config_of(tmp_path / "without", **options))
    assert not (tmp_path / "without" / "tensorboard").exists()
    assert (tmp_path / "without" / "validation" / "step-00000002.png").is_file()
    del sys.modules["tensorboard"]
    _, other = run(config_of(tmp_path / "with", **options))
    assert (tmp_path / "with" / "tensorboard").is_dir()
    assert_equal_weights(folder, other)
    ours, theirs = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("without", "with"))
    assert ours == theirs
    assert len(ours.splitlines()) == 2


def test_numbers_that_are_none_are_null_in_the_lines(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(1, {"loss": float("nan"), "rate": 0.5})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": None, "rate": 0.5}
