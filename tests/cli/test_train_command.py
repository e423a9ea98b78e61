"""`stableviton train` from its YAML to a pipeline that paints, on rendered figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support.tiny import CONTEXT, tiny_components

import stableviton_sdk
from stableviton_sdk.cli.entry import main
from stableviton_sdk.cli.train import CONFIGS
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.analyzers.compact import UPPER_CLOTHES_BIAS
from stableviton_sdk.preprocessing.labels import CIHP
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor
from stableviton_sdk.training.bundled import body_data as body_figures
from stableviton_sdk.training.bundled import body_training
from stableviton_sdk.training.bundled.body_data import FigureAugmentation, FigureOptions, RenderedFigures
from stableviton_sdk.training.config import load_config
from stableviton_sdk.training.loop.checkpoints import list_checkpoints, read_checkpoint_tensors
from stableviton_sdk.training.tasks import find_config, read_task

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
        "data": {"kind": "synthetic", "size": SIZE[::-1], "options": {"length": 4, "seed": 1}},
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


@pytest.mark.slow
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
    sample = render_pair(9, 0, size=tuple(SIZE[::-1]))
    image = pipeline(
        sample.person, sample.garment, mask=sample.mask, densepose=sample.densepose, num_inference_steps=1
    ).images[0]
    assert np.array_equal(np.asarray(image)[~sample.mask], sample.person[~sample.mask])

    # the same command again finds nothing left to do, and says the same
    capsys.readouterr()
    assert main(["train", str(config), "--quiet"]) == 0
    assert capsys.readouterr() == (f"{folder}\n", "")

    # other options are named, and fewer steps refused
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, "learning_rate": 0.5, "steps": 3}))
    assert main(["train", str(config), "--quiet"]) == 0
    assert "learning_rate was 0.0001 and is 0.5" in capsys.readouterr().err
    config.write_text(yaml.safe_dump({**content, "steps": 1}))
    assert main(["train", str(config), "--quiet"]) == 1
    assert "holds a training of 3 steps already, more than steps: 1" in capsys.readouterr().err


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
    assert config.data.size == (384, 512)
    assert config.stage == ("atv" if path.stem.endswith("atv") else "base")


@pytest.fixture
def body_config(tmp_path):
    content = {
        "task": "body",
        "output": str(tmp_path / "body"),
        "data": {"seed": 3, "studio": 1, "shifted": 1, "photo": 1, "empty": 2},
        "widths": [4, 4, 4, 8, 8],
        "fit": {"steps": 2, "batch_size": 2, "checkpoint_every": 1, "cpu": True},
    }
    path = tmp_path / "body.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_several_runs_of_different_tasks_follow_one_another(config, body_config, tmp_path, capsys):
    assert main(["train", str(body_config), str(config), "--quiet"]) == 0
    folders = [tmp_path / "body" / "preprocessor", tmp_path / "run" / "pipeline"]
    assert capsys.readouterr().out.split() == [str(folder) for folder in folders]
    assert (tmp_path / "body" / "metrics.jsonl").is_file()

    # what the exported graph says is what the averaged weights say
    path = list_checkpoints(tmp_path / "body" / "checkpoints")[-1]
    tensors = read_checkpoint_tensors(path, 1)
    network = body_training.BodyNetwork([4, 4, 4, 8, 8]).eval()
    network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("average/")})
    view = (
        PersonPreprocessor.from_pretrained(folders[0])
        .analyzer()
        ._run(Image.fromarray(render_pair(9, 0).person), (0, 0, 192, 256))
    )
    with torch.no_grad():
        parsing, densepose, _ = network(torch.tensor(render_pair(9, 0).person).permute(2, 0, 1)[None].float())
    parsing, densepose = parsing[0].log_softmax(dim=0), densepose[0].log_softmax(dim=0)
    parsing[CIHP.UPPER_CLOTHES] += UPPER_CLOTHES_BIAS
    np.testing.assert_allclose(view.parsing, parsing, atol=1e-4)
    np.testing.assert_allclose(view.densepose, densepose, atol=1e-4)


def test_rendered_figures_are_kept_and_an_interrupted_rendering_goes_on(tmp_path, monkeypatch):
    options = FigureOptions(seed=3, studio=1, shifted=1, photo=1, empty=2)
    whole = RenderedFigures(tmp_path / "whole", options, progress=False)
    assert len(whole) == 8
    sample = render_pair(3, 0)
    assert np.array_equal(whole[1]["image"], sample.person_in_other)
    assert np.array_equal(whole[1]["parsing"], sample.other_rendering.parsing)
    assert np.array_equal(whole[2]["densepose"], render_pair(3, 0, "shifted").densepose_labels)
    assert np.array_equal(whole[5]["image"], render_pair(3, 0, "photo").person_in_other)
    assert not whole[7]["parsing"].any()
    assert not whole[7]["keypoints"].any()

    drawn = []

    def draw(*arguments):
        drawn.append(arguments)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return render_pair(*arguments)

    monkeypatch.setattr(body_figures, "FLUSH_EVERY", 1)
    monkeypatch.setattr(body_figures, "render_pair", draw)
    with pytest.raises(KeyboardInterrupt):
        RenderedFigures(tmp_path / "part", options, progress=False)
    again = RenderedFigures(tmp_path / "part", options, progress=False)
    assert len(drawn) == 4  # the first figure wasn't drawn again
    for index in range(8):
        assert all(np.array_equal(value, again[index][name]) for name, value in whole[index].items())
    RenderedFigures(tmp_path / "part", options, progress=False)
    assert len(drawn) == 4
    with pytest.raises(InvalidInput, match="other rendered figures"):
        RenderedFigures(tmp_path / "part", options.replace(seed=4), progress=False)


def test_what_moves_with_a_varied_figure_moves_alike(tmp_path):
    figures = RenderedFigures(tmp_path, FigureOptions(seed=5, studio=1, shifted=0, photo=0, empty=1), progress=False)
    item = figures[0]
    twice = body_figures.mirrored(body_figures.mirrored(item))
    assert all(np.allclose(value, twice[name], atol=1e-4) for name, value in item.items())
    vary = FigureAugmentation(figures, as_is=0.0, colour=0.0, soft=0.0)
    for seed in range(12):
        varied = vary(item, np.random.default_rng(seed))
        for joint, side in ((2, CIHP.RIGHT_ARM), (5, CIHP.LEFT_ARM)):  # whichever way it was mirrored
            x, y, confidence = varied["keypoints"][joint + 2]
            if confidence and 3 <= x < 189 and 3 <= y < 253:
                near = varied["parsing"][round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
                assert np.isin(near, (side, CIHP.UPPER_CLOTHES)).any()
        head = varied["densepose"] >= 23
        if head.any():
            assert np.isin(varied["parsing"][head], (CIHP.FACE, CIHP.HAIR, CIHP.GLASSES)).mean() > 0.7


@pytest.mark.parametrize(
    "change, message",
    [
        ({"task": "bodyy"}, "did you mean 'body'"),
        ({"steps": 3}, "there is no option steps"),
        ({"fit": {"stepz": 3}}, "no option fit.stepz: did you mean 'steps'"),
        ({"data": {"studio": 0, "shifted": 0, "photo": 0}}, "needs a figure"),
        ({"widths": [4, "wide"]}, "widths[1] is 'wide'"),
        ({"widths": [4, 4]}, "widths is [4, 4]: pass 5 values"),
        ({"blocks": [1, 1, 1]}, "blocks is [1, 1, 1]: pass 4 values"),
        ({"blocks": [1, 1, 0, 1]}, "blocks[2] is 0"),
    ],
)
def test_wrong_configurations_of_the_body_network_are_refused_before_anything_runs(
    body_config, config, tmp_path, capsys, change, message
):
    body_config.write_text(yaml.safe_dump(yaml.safe_load(body_config.read_text()) | change))
    assert main(["train", str(config), str(body_config)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "body").exists()


def test_options_that_do_not_fit_the_task_are_refused(config, body_config, tmp_path, capsys):
    assert main(["train", str(body_config), "--data-root", str(tmp_path)]) == 1
    assert "renders its own" in capsys.readouterr().err
    assert main(["train", str(body_config), str(config), "--output", str(tmp_path)]) == 1
    assert "--output is for one configuration" in capsys.readouterr().err


def test_bare_names_are_looked_up_among_the_packages_own(tmp_path):
    own = find_config("bundled-body.yaml")
    assert own == find_config("bundled-body") == CONFIGS / "bundled-body.yaml"
    assert read_task("bundled-body").name == "body"
    mine = tmp_path / "bundled-body.yaml"  # the working directory
    mine.write_text("task: body\noutput: mine\n")
    assert read_task("bundled-body.yaml").config.output == "mine"
    with pytest.raises(InvalidInput, match="there is no configuration"):
        find_config(tmp_path / "elsewhere" / "bundled-body.yaml")


def test_large_weights_are_stored_in_half_precision_and_computed_with_in_single(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = body_training.BodyNetwork([8, 16, 16, 24, 32], [1, 1, 1, 2])
    body_training.export_onnx(network, tmp_path / "network.onnx")
    numbers = sum(parameter.numel() for parameter in network.parameters())
    assert (tmp_path / "network.onnx").stat().st_size < 2.6 * numbers + 30_000
    onnx = body_training.require_onnx()
    kinds = {weight.data_type for weight in onnx.load(tmp_path / "network.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


@pytest.mark.parametrize("tolerance", ["EXPORT_TOLERANCE", "HALVED_TOLERANCE"])
def test_a_graph_that_computes_something_else_is_not_written(tmp_path, monkeypatch, tolerance):
    monkeypatch.setattr(body_training, tolerance, -1.0)
    with pytest.raises(IncompatibleCheckpoint, match="the exported network's parsing differ"):
        body_training.export_onnx(body_training.BodyNetwork([4, 4, 4, 8, 8]), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_pydantic_is_named_with_the_extra():
    without = "import sys; sys.modules['pydantic'] = None; from stableviton_sdk.cli.entry import main; "
    environment = {**os.environ, "PYTHONPATH": str(Path(stableviton_sdk.__file__).parents[1])}
    command = [sys.executable, "-c", without + "main(['train', 'bundled'])"]
    told = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert told.stderr.strip().splitlines() == [
        "stableviton: training needs the package pydantic: pip install 'stableviton-sdk[train]'."
    ]


def test_a_missing_onnx_is_told_before_the_training(body_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["train", str(body_config)]) == 1
    assert "stableviton-sdk[train]" in capsys.readouterr().err
    assert not (tmp_path / "body").exists()


def test_a_rendered_item_is_what_the_trainer_takes():
    from stableviton_sdk.data.synthetic import SyntheticDataset
    from stableviton_sdk.training.tryon.batches import check_item

    check_item(SyntheticDataset(1, size=tuple(SIZE[::-1]))[0], tuple(SIZE), ("worn_mask", "correspondence"))
    assert Image.fromarray(SyntheticDataset(1)[0]["person"]).size == (192, 256)
