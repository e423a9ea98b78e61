"""How the losses of the attention are chosen, weighed and recorded."""

import pytest
import torch
from support.tiny_training import batch_of, config_of, objective_of, run, tiny_components

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.loop.run_log import read_metrics

CROSS_ENTROPY = {"correspondence": "cross-entropy", "correspondence_weight": 0.5}
NO_CROSS_ENTROPY = {**CROSS_ENTROPY, "correspondence_weight": 0.0}


@torch.no_grad()
def test_the_expected_coordinate_may_stand_beside_the_cross_entropy():
    pipeline = TryOnPipeline(**tiny_components())
    batch = batch_of(pipeline, wanted=("correspondence",))
    plain = objective_of(pipeline)(batch)
    assert set(plain) == {"loss", "denoising"}
    one = objective_of(pipeline, blocks=[1], **CROSS_ENTROPY)(batch)
    both = objective_of(pipeline, blocks=[1], coordinate_weight=3.0, **CROSS_ENTROPY)(batch)
    alone = objective_of(pipeline, blocks=[1], coordinate_weight=3.0, **NO_CROSS_ENTROPY)(batch)
    by_name = objective_of(pipeline, blocks=[1], correspondence="expected-coordinate", correspondence_weight=3.0)(
        batch
    )
    assert float(one["correspondence"]) == float(both["correspondence"]) != 0
    assert float(both["coordinate"]) == float(by_name["correspondence"]) != 0
    assert float(alone["loss"]) == float(by_name["loss"])
    expected = plain["loss"] + 0.5 * both["correspondence"] + 3 * both["coordinate"]
    assert float(both["loss"]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "options, needed",
    [
        ({}, []),
        ({"total_variation": 0.1}, ["worn_mask"]),
        (CROSS_ENTROPY, ["correspondence"]),
        (NO_CROSS_ENTROPY, []),
        ({"coordinate_weight": 1.0, **NO_CROSS_ENTROPY}, ["correspondence"]),
        ({"coordinate_weight": 1.0, "total_variation": 0.1, **CROSS_ENTROPY}, ["worn_mask", "correspondence"]),
    ],
)
def test_data_must_have_what_the_losses_need(options, needed):
    assert objective_of(TryOnPipeline(**tiny_components()), **options).needs == needed


def test_a_run_notes_both(tmp_path):
    loss = {**CROSS_ENTROPY, "coordinate_weight": 2.0, "blocks": [1]}
    run(config_of(tmp_path / "run", stage="base", steps=2, loss=loss))
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == 2
    for line in lines:
        parts = line["denoising"] + 0.5 * line["correspondence"] + 2 * line["coordinate"]
        assert line["loss"] == pytest.approx(parts, rel=1e-4)


def test_a_second_weight_for_the_same_loss_is_refused(tmp_path):
    for correspondence in ("none", "expected-coordinate"):
        with pytest.raises(InvalidInput, match="coordinate_weight goes beside correspondence: cross-entropy"):
            config_of(tmp_path, loss={"correspondence": correspondence, "coordinate_weight": 1.0})
    with pytest.raises(InvalidInput, match=r"loss\.coordinate_weight"):
        config_of(tmp_path, loss={"correspondence": "cross-entropy", "coordinate_weight": -1.0})
