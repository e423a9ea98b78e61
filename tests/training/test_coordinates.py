"""The garment coordinates learn from the renderer's panels; a trained pipeline gets them with all else as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stableviton_sdk
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.data.synthetic import SyntheticDataset, render_pair
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.training.bundled.coordinates import CoordinatesConfig, train_coordinates
from stableviton_sdk.training.config import parse_config
from stableviton_sdk.training.loop.run_log import read_metrics
from stableviton_sdk.training.tryon.trainer import make_objective, train
from tests.support.tiny_training import config_of, tiny_components

BUNDLED = Path(stableviton_sdk.__file__).parent / "bundled"


def config(tmp_path, **changes):
    data = {
        "kind": "synthetic",
        "size": [192, 256],
        "options": {"length": 4, "seed": 5, "garments": "both", "moved": 0.5},
        "latent_cache": str(tmp_path / "latents"),
    }
    fit = {"steps": 80, "batch_size": 4, "learning_rate": 5e-3, "warmup_steps": 1, "checkpoint_every": 10, "cpu": True}
    given = {"output": str(tmp_path / "run"), "try_on": str(BUNDLED), "channels": [16, 16], "workers": 0}
    given["weights"] = [0, 0, 0.3, 0.3]
    return parse_config({**given, "data": data, "fit": fit, **changes}, CoordinatesConfig)


def zero_cross_attentions(pipeline):
    return [part for block in pipeline.unet.up_blocks for part in getattr(block, "zero_cross_attentions", ())]


def test_coordinates_are_learnt_and_added_to_a_pipeline(tmp_path):
    folder = train_coordinates(config(tmp_path), progress=False)
    losses = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert losses[-1] < 0.7 * losses[0]
    before, after = TryOnPipeline.from_bundled(), TryOnPipeline.from_pretrained(folder, dtype=torch.float32)
    for name in ("unet", "spatial_encoder"):
        kept = getattr(before, name).state_dict()
        state = getattr(after, name).state_dict()
        for key, value in kept.items():
            if "coordinate" in key:  # the bundled model has some of its own, which are replaced
                continue
            torch.testing.assert_close(state[key], value, check_dtype=False)
        assert any("coordinate" in key for key in state)
    given = [block.coordinate_weight[0].item() for block in zero_cross_attentions(after)]
    assert given == pytest.approx([0, 0, 0.3, 0.3])
    assert after.config.default_detail == before.config.default_detail
    sample = render_pair(8, 0)
    after.set_progress_bar_config(disable=True)
    out = after(
        Image.fromarray(sample.person),
        Image.fromarray(sample.garment_other),
        mask=Image.fromarray(sample.mask),
        densepose=Image.fromarray(sample.densepose),
        output_attention=True,
    )
    assert np.isfinite(out.attention.coordinates(2)).all()


def test_weights_of_another_number_of_blocks_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="each of 4 decoder blocks"):
        train_coordinates(config(tmp_path, weights=[0.0, 1.0]), progress=False)


def test_data_without_panels_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="garments: both"):
        config(tmp_path, data={"kind": "synthetic", "size": [192, 256], "latent_cache": str(tmp_path / "latents")})


def test_a_moved_garment_takes_its_correspondence_along():
    options = {"length": 3, "seed": 6, "style": ["studio", "photo"], "garments": "both"}
    still, moved = SyntheticDataset(**options), SyntheticDataset(**options, moved=1.0)
    for index in range(len(still)):
        first, second = still[index], moved[index]
        known = np.isfinite(first["correspondence"]).all(-1)
        assert np.array_equal(known, np.isfinite(second["correspondence"]).all(-1))
        assert not np.array_equal(first["garment"], second["garment"])
        seen = []
        for item in (first, second):
            x, y = np.rint(item["correspondence"][known]).astype(int).T
            inside = (x >= 0) & (x < 192) & (y >= 0) & (y < 256)
            assert inside.mean() > 0.999
            seen.append(item["garment"][y.clip(0, 255), x.clip(0, 191)].astype(float))
        assert np.median(np.abs(seen[0] - seen[1])) <= 8  # of 255: the same cloth, a little smaller
        assert np.array_equal(first["person"], second["person"])


def test_only_both_garments_can_be_moved():
    with pytest.raises(InvalidInput, match=r"moved is 0\.5"):
        SyntheticDataset(3, moved=0.5)


def test_a_training_of_the_whole_network_supervises_them_too(tmp_path):
    data = {
        "kind": "synthetic",
        "size": [192, 256],
        "options": {"length": 2, "seed": 5, "garments": "both"},
        "latent_cache": str(tmp_path / "latents"),
    }
    given = {
        "output": str(tmp_path / "run"),
        "data": data,
        "loss": {"correspondence": "none", "panels_weight": 0.5, "blocks": [2]},
        "augmentation": None,
        "steps": 1,
        "workers": 0,
        "batch_size": 2,
        "cpu": True,
    }
    pipeline = TryOnPipeline.from_bundled(dtype=torch.float32)
    before = pipeline.spatial_encoder.coordinates.body.head.weight.detach().clone()
    train(parse_config({**given, "trainable": "full"}), pipeline=pipeline, progress=False)
    (line,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert line["loss"] == pytest.approx(line["denoising"] + 0.5 * line["panels"], rel=1e-4)
    assert not torch.equal(pipeline.spatial_encoder.coordinates.body.head.weight, before)


def test_networks_without_coordinates_have_none_to_supervise(tmp_path):
    pipeline = TryOnPipeline(**tiny_components())
    with pytest.raises(InvalidInput, match="panels_weight"):
        make_objective(config_of(tmp_path, loss={"panels_weight": 0.5, "blocks": [1]}), pipeline)
