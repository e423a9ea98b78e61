"""Presets: what a quality means, what wins over it, and that weights carry it along."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler, UniPCMultistepScheduler
from support.tiny import call_arguments, tiny_components, tiny_pipeline

from stableviton_sdk.choices import QUALITIES
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def timesteps_of(pipeline, **arguments) -> list[int]:
    """Those that a call goes through."""
    seen = []

    def note(_, __, timestep, ___):
        seen.append(int(timestep))
        return {}

    arguments = {"num_inference_steps": None, **arguments}
    pipeline(**call_arguments(**arguments, output_type="latent", callback_on_step_end=note))
    return seen


def test_fewer_steps_for_lower_qualities(pipeline):
    steps = [pipeline.quality_preset(quality).num_inference_steps for quality in QUALITIES]
    assert steps == sorted(set(steps), reverse=True)
    assert steps[0] == 50


def test_fast_goes_through_the_stored_timesteps(pipeline):
    stored = pipeline.config.quality_presets["fast"]["timesteps"]
    assert timesteps_of(pipeline, quality="fast") == stored
    assert len(stored) == pipeline.quality_preset("fast").num_inference_steps


def test_exact_is_the_default(pipeline):
    arguments = call_arguments(num_inference_steps=3)
    plain = pipeline(**arguments | {"generator": torch.Generator().manual_seed(0)}).images
    exact = pipeline(**arguments | {"generator": torch.Generator().manual_seed(0)}, quality="exact").images
    assert torch.equal(plain, exact)


def test_a_quality_leaves_the_pipelines_scheduler_alone(pipeline):
    before = pipeline.scheduler
    pipeline(**call_arguments(quality="turbo", num_inference_steps=None))
    assert pipeline.scheduler is before
    assert type(before) is PNDMScheduler
    assert before.num_inference_steps is None


def test_explicit_steps_win_over_the_presets(pipeline):
    seen = timesteps_of(pipeline, quality="fast", num_inference_steps=3)
    assert len(seen) == 3
    assert seen[0] == 999


def test_a_scheduler_of_ones_own_wins_over_the_presets():
    pipeline = tiny_pipeline()
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    fast = timesteps_of(pipeline, quality="fast")
    assert fast == timesteps_of(pipeline, num_inference_steps=10)
    assert pipeline.quality_preset("fast").scheduler is None


def test_presets_travel_with_the_weights(tmp_path):
    presets = {"exact": {"scheduler": "PNDMScheduler"}, "fast": {"num_inference_steps": 2}}
    pipeline = TryOnPipeline(**tiny_components(), quality_presets=presets)
    pipeline.save_pretrained(tmp_path)
    for other in (TryOnPipeline.from_pretrained(tmp_path), TryOnPipeline(**pipeline.components)):
        assert other.quality_preset("fast").num_inference_steps == 2
        assert other.quality_preset("turbo") == other.quality_preset("exact")


def test_presets_name_schedulers_made_for_few_steps(pipeline):
    named = {quality: pipeline.quality_preset(quality).scheduler for quality in ("balanced", "fast")}
    assert named == {"balanced": UniPCMultistepScheduler.__name__, "fast": DPMSolverMultistepScheduler.__name__}


def test_the_bundled_model_paints_in_one_step_whatever_the_quality(pipe):
    assert {pipe.quality_preset(quality).num_inference_steps for quality in QUALITIES} == {1}


def test_weights_of_few_steps_never_take_more(tmp_path):
    pipeline = TryOnPipeline(**tiny_components(), default_num_inference_steps=4)
    assert {pipeline.quality_preset(quality).num_inference_steps for quality in QUALITIES} == {4}


@pytest.mark.parametrize(
    "presets",
    [
        {"fast": {"num_inference_steps": 2, "scheduler": "AutoencoderKL"}},
        {"fast": {"num_inference_steps": 2, "scheduler": "no such"}},
        {"fast": {"num_inference_steps": 2, "sampler": "x"}},
        {"fast": {"num_inference_steps": 2, "scheduler": "FlowMatchEulerDiscreteScheduler"}},
    ],
)
def test_stored_presets_that_cant_be_used_are_refused(presets):
    pipeline = TryOnPipeline(**tiny_components(), quality_presets=presets)
    with pytest.raises(InvalidInput, match=r"quality_presets|can't use it"):
        pipeline(**call_arguments(quality="fast", num_inference_steps=None))


def test_an_unknown_quality_is_refused(pipeline):
    with pytest.raises(InvalidInput, match="quality is 'best': pass one of 'exact'"):
        pipeline(**call_arguments(quality="best"))
