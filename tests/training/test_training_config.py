"""What a training run is told: read from YAML, and refused as a whole where it doesn't fit."""

import json

import pytest

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.training.config import TrainingConfig, load_config, parse_config
from stableviton_sdk.training.tryon.trainer import open_data


def test_configurations_are_read_from_yaml(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "output: runs/a\nlearning_rate: 5e-5\nmixed_precision: no\naugmentation: {flip: 0}\nloss: {blocks: [4]}\n"
        "data: {kind: folder, size: [384, 512], options: {root: somewhere}}\nvalidation: {data: {kind: dress-code}}\n"
    )
    config = load_config(path)
    assert config.learning_rate == 5e-5
    assert config.mixed_precision == "no"
    assert config.augmentation.flip == 0
    assert config.loss.blocks == [4]
    assert config.validation.data.kind == "dress-code"
    assert parse_config(json.loads(json.dumps(config.as_mapping()))) == config
    assert parse_config({"output": "a", "augmentation": None}).augmentation is None
    assert parse_config({"output": "a"}) == TrainingConfig(output="a")


def test_one_report_names_everything_wrong_with_a_configuration():
    with pytest.raises(InvalidInput) as caught:
        parse_config(
            {
                "lerning_rate": 1e-4,
                "stage": "second",
                "steps": "many",
                "cpu": 1,
                "loss": {"totalvariation": 1, "blocks": 4},
                "augmentation": {"flip": 3},
                "data": [],
            }
        )
    for expected in (
        "no option lerning_rate: did you mean 'learning_rate'?",
        "stage is 'second': pass 'base' or 'atv'",
        "steps is 'many': pass a whole number",
        "cpu is 1: pass true or false",
        "no option loss.totalvariation: did you mean 'total_variation'?",
        "loss.blocks is 4: pass a list",
        "augmentation.flip is 3: pass a number up to 1",
        "data is []: pass a mapping",
        "the option output is missing",
    ):
        assert expected in str(caught.value), expected
    with pytest.raises(InvalidInput) as caught:
        parse_config({"output": "a", "batch_size": 5, "gradient_accumulation": 2, "ema_decay": 2, "steps": 0})
    assert str(caught.value).count("\n  - ") == 3
    with pytest.raises(InvalidInput, match="learning_rate is inf"):
        parse_config({"output": "a", "learning_rate": float("inf")})


def test_unreadable_configurations_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="can't be read"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("output: [")
    with pytest.raises(InvalidInput, match="no valid YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "text.yaml").write_text("just words")
    with pytest.raises(InvalidInput, match="the configuration is 'just words'"):
        load_config(tmp_path / "text.yaml")


def test_wrong_reader_options_are_named(tmp_path):
    config = parse_config({"output": "a", "data": {"kind": "folder", "options": {"rot": str(tmp_path)}}})
    with pytest.raises(InvalidInput, match=r"data\.options don't fit 'folder'"):
        open_data(config.data)
