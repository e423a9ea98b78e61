"""`stableviton train` from its YAML to a pipeline that paints, on rendered figures."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import CONTEXT, tiny_components

from stableviton_sdk.cli import main
from stableviton_sdk.commands.train import CONFIGS
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.config import load_config

SIZE = [64, 48]


def architecture():
    """The tiny pipeline's, as a configuration file says it."""
    components = tiny_components()
    chosen = {
        "unet": (
            "sample_size",
            "down_block_types",
            "up_block_types",
            "block_out_channels",
            "cross_attention_dim",
            "num_attention_heads",
            "norm_num_groups",
        ),
        "vae": ("down_block_types", "up_block_types", "block_out_channels", "norm_num_groups", "sample_size"),
        "garment_encoder": (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "image_size",
            "patch_size",
            "mapper_layers",
        ),
    }
    return {
        name: {option: list(v) if isinstance(v := components[name].config[option], tuple) else v for option in options}
        for name, options in chosen.items()
    }


@pytest.fixture
def config(tmp_path):
    content = {
        "output": str(tmp_path / "run"),
        "stage": "atv",
        "start": {
            "source": "scratch",
            "architecture": architecture(),
            "scheduler": {"prediction_type": "v_prediction"},
        },
        "data": {"kind": "synthetic", "size": SIZE, "options": {"length": 4, "seed": 1}},
        "loss": {"correspondence": "cross-entropy", "blocks": [1], "total_variation": 0.001},
        "trainable": "full",
        "steps": 2,
        "batch_size": 2,
        "workers": 0,
        "checkpoint_every": 1,
        "log_every": 1,
        "cpu": True,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_run_on_rendered_figures_ends_in_a_pipeline_that_paints(config, tmp_path, capsys):
    assert main(["train", str(config), "--quiet"]) == 0
    folder = tmp_path / "run" / "pipeline"
    assert capsys.readouterr().out.strip() == str(folder)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["loss"]) and line["correspondence"] > 0 for line in lines)

    pipeline = TryOnPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.config.cross_attention_dim == CONTEXT
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    sample = render_pair(9, 0, size=tuple(SIZE))
    image = pipeline(
        sample.person, sample.garment, mask=sample.mask, densepose=sample.densepose, num_inference_steps=1
    ).images[0]
    assert np.array_equal(np.asarray(image)[~sample.mask], sample.person[~sample.mask])

    # the same command again finds nothing left to do, and says the same
    assert main(["train", str(config), "--quiet"]) == 0


def test_the_output_can_be_given_and_wrong_configurations_are_refused(config, tmp_path, capsys):
    content = yaml.safe_load(config.read_text())
    content["stepz"] = 7
    (tmp_path / "typo.yaml").write_text(yaml.safe_dump(content))
    assert main(["train", str(tmp_path / "typo.yaml")]) == 1
    assert "did you mean 'steps'?" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "missing.yaml")]) == 1
    assert "viton-hd-base" in capsys.readouterr().err
    assert main(["train", "viton-hd-base", "--data-root", str(tmp_path / "nowhere"), "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nowhere" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("viton-hd-*.yaml")), ids=lambda path: path.stem)
def test_the_packages_own_configurations_are_the_authors(path):
    config = load_config(path)
    assert (config.learning_rate, config.batch_size, config.unconditional_probability) == (1e-4, 32, 0.2)
    assert config.trainable == "authors"
    assert config.data.size == [512, 384]
    assert config.stage == ("atv" if path.stem.endswith("atv") else "base")


def test_a_rendered_item_is_what_the_trainer_takes():
    from stableviton_sdk.data.synthetic import SyntheticDataset
    from stableviton_sdk.training.objective import check_item

    check_item(SyntheticDataset(1, size=tuple(SIZE))[0], tuple(SIZE), ("worn_mask", "correspondence"))
    assert Image.fromarray(SyntheticDataset(1)[0]["person"]).size == (192, 256)
