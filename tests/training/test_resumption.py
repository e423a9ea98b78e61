"""A training that goes on: what differs from before is named, and checkpoints of the first layout are read."""

import json
import shutil

import pytest
import torch
from support.pairs import Pairs
from support.paths import FIXTURES
from support.tiny_training import assert_equal_weights, config_of, run

from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput
from stableviton_sdk.training.bundled.body_training import BodyConfig
from stableviton_sdk.training.bundled.fit import FitConfig
from stableviton_sdk.training.config import TrainingConfig
from stableviton_sdk.training.loop import checkpoints
from stableviton_sdk.training.loop.resumption import describe_training, warn_of_changes
from stableviton_sdk.training.tryon.trainer import train

FIRST_LAYOUT = FIXTURES / "first_layout"
# Options that may change without changing what is trained.
HARMLESS = {
    "output", "workers", "checkpoint_every", "keep_checkpoints", "checkpoint_file_mb", "log_every", "validation.every",
    "validation.count", "validation.inference_steps", "validation.data", "gradient_checkpointing", "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "run"
    run(config_of(output))
    return output


@pytest.fixture
def begun(finished, tmp_path):
    """A copy of the finished training's folder with its checkpoint after two steps."""
    shutil.copytree(finished / "checkpoints" / "step-00000002", tmp_path / "run" / "checkpoints" / "step-00000002")
    return tmp_path / "run"


def leaves(options, name=""):
    if isinstance(options, dict) and options:
        for key, value in options.items():
            yield from leaves(value, f"{name}.{key}" if name else key)
    else:
        yield name, options


def other(value):
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case list():
            return [*value, 1]
        case dict():
            return {"root": "elsewhere"}
    return 1


def changed(options, name):
    first, _, rest = name.partition(".")
    return {**options, first: changed(options[first], rest) if rest else other(options[first])}


def test_fewer_steps_than_are_done_are_refused_before_anything_is_loaded(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    monkeypatch.setattr("stableviton_sdk.training.tryon.trainer.start_pipeline", lambda _: pytest.fail("loaded"))
    with pytest.raises(InvalidInput, match=r"a training of 4 steps already, more than steps: 3: pass steps from 4"):
        train(config_of(tmp_path / "run", steps=3), data=Pairs(), progress=False)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before


@pytest.mark.parametrize("name", sorted(dict(leaves(TrainingConfig(output="x").as_mapping()))))
def test_every_changed_option_that_changes_the_result_is_named(name, tmp_path, caplog):
    config = TrainingConfig(output=str(tmp_path), schedule="cosine")
    about = describe_training(config, items=5, processes=1)
    checkpoints.save_checkpoint(tmp_path / "checkpoints", 1, {}, about, keep=1, max_file_bytes=1)
    warn_of_changes(tmp_path, config, config, about)
    assert caplog.text == ""
    warn_of_changes(tmp_path, config, config, {**about, "config": changed(about["config"], name)})
    assert (f"{name} was " in caplog.text or f"{name}." in caplog.text) == (name not in HARMLESS)


def test_more_steps_change_only_a_falling_rate(tmp_path, caplog):
    for schedule in ("constant", "cosine"):
        output = tmp_path / schedule
        config = TrainingConfig(output=str(output), schedule=schedule, steps=5)
        about = describe_training(config, items=5, processes=1)
        checkpoints.save_checkpoint(output / "checkpoints", 1, {}, about, keep=1, max_file_bytes=1)
        longer = config.replace(steps=7)
        warn_of_changes(output, longer, longer, describe_training(longer, items=5, processes=1))
    assert [record.getMessage().split("with: ")[1] for record in caplog.records] == ["steps was 5 and is 7."]


def test_a_training_that_goes_on_as_before_says_nothing_and_one_with_changes_names_them(begun, caplog):
    run(config_of(begun, workers=0, log_every=2, checkpoint_every=3))
    assert caplog.text == ""
    shutil.rmtree(begun / "checkpoints" / "step-00000004")
    options = {"learning_rate": 5e-4, "data": {"size": [24, 32], "options": {"root": "elsewhere"}}}
    run(config_of(begun, **options), Pairs(count=4))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "step-00000003" in message
    for expected in (
        "learning_rate was 0.001 and is 0.0005",
        "data.options.root was unset and is elsewhere",
        "the number of items was 5 and is 4",
    ):
        assert expected in message
    assert message.count(" was ") == 3


def test_all_options_of_a_small_networks_training_are_held_against_the_ones_before(tmp_path, caplog):
    config = BodyConfig(output=str(tmp_path), fit=FitConfig(steps=9))
    about = describe_training(config, items=5, processes=1)
    checkpoints.save_checkpoint(tmp_path / "checkpoints", 1, {}, about, keep=1, max_file_bytes=1)
    now = config.replace(data=config.data.replace(seed=7), fit=config.fit.replace(weight_decay=0.5, workers=2))
    warn_of_changes(tmp_path, now, now.fit, describe_training(now, items=5, processes=1))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "fit.weight_decay was 0.01 and is 0.5" in message
    assert "data.seed was 501 and is 7" in message
    assert message.count(" was ") == 2


def test_an_average_that_was_not_kept_cannot_be_gone_on_with(tmp_path, caplog):
    run(config_of(tmp_path / "run", ema_decay=None, steps=2))
    with pytest.raises(IncompatibleCheckpoint, match="no averaged weights to go on with: pass ema_decay: null"):
        run(config_of(tmp_path / "run"))
    assert "ema_decay was unset and is 0.9" in caplog.text


def test_a_training_begun_in_the_first_layout_goes_on_bit_for_bit(begun, finished, caplog):
    # the tensors' names and values are the same in both layouts
    shutil.copy(FIRST_LAYOUT / "try_on_state.json", begun / "checkpoints" / "step-00000002" / "state.json")
    _, folder = run(config_of(begun))
    assert_equal_weights(folder, finished / "pipeline")
    assert caplog.text == ""
    ours, theirs = (
        checkpoints.read_checkpoint_tensors(output / "checkpoints" / "step-00000004", 1)
        for output in (begun, finished)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert checkpoints.read_checkpoint_state(begun / "checkpoints" / "step-00000004")["averaged_steps"] == 4


def test_changed_options_of_the_first_layout_are_named_by_todays_names(begun, caplog):
    shutil.copy(FIRST_LAYOUT / "try_on_state.json", begun / "checkpoints" / "step-00000002" / "state.json")
    loss = {"correspondence": "cross-entropy", "blocks": [1], "unmasked_weight": 0.5}
    run(config_of(begun, timestep_power=0.5, loss=loss, data={"size": [24, 32], "options": {"root": "elsewhere"}}))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "timestep_power was 1.0 and is 0.5" in message
    assert "loss.unmasked_weight was 1.0 and is 0.5" in message
    assert "data.options.root was unset and is elsewhere" in message
    assert message.count(" was ") == 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_process_trains_in_one_precision_after_another_and_resumes_in_each(precision, tmp_path):
    run(config_of(tmp_path / "other", steps=1))
    _, whole = run(config_of(tmp_path / "whole", mixed_precision=precision))
    with pytest.raises(KeyboardInterrupt):
        run(config_of(tmp_path / "stopped", mixed_precision=precision), Pairs(fail_at=7))
    _, resumed = run(config_of(tmp_path / "stopped", mixed_precision=precision))
    assert_equal_weights(whole, resumed)
    scaler = json.loads((tmp_path / "stopped" / "checkpoints" / "step-00000004" / "state.json").read_text())["scaler"]
    assert (scaler is not None) == (precision == "fp16")
    if scaler:
        assert scaler["_growth_tracker"] == 4


def test_an_option_younger_than_the_steps_is_no_change_and_one_that_was_null_is(begun, caplog):
    path = begun / "checkpoints" / "step-00000002" / "state.json"
    state = json.loads(path.read_text())
    del state["config"]["loss"]["panels_weight"]
    state["config"]["max_grad_norm"] = None
    path.write_text(json.dumps(state))
    run(config_of(begun))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "max_grad_norm was unset and is 1.0" in message
    assert "panels_weight" not in message
