"""The step cache of a call: what it changes, what stays exact, and that calls don't share it."""

import threading

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler
from support.tiny import call_arguments, random_image, tiny_pipeline

from stableviton_sdk.errors import InvalidInput


def arguments(**changes):
    return call_arguments(**{"num_inference_steps": 6, "output_type": "latent", **changes})


@pytest.fixture
def pipeline():
    return tiny_pipeline()


def count_calls(network) -> list[int]:
    calls = []
    network.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_an_interval_of_one_changes_no_bit(pipeline, guidance_scale):
    plain = pipeline(**arguments(guidance_scale=guidance_scale)).images
    pipeline.enable_step_cache(interval=1)
    assert torch.equal(pipeline(**arguments(guidance_scale=guidance_scale)).images, plain)


def test_the_spatial_encoder_runs_once_an_interval(pipeline):
    calls, steps = count_calls(pipeline.spatial_encoder), count_calls(pipeline.unet)
    plain = pipeline(**arguments()).images
    every_step = len(calls)
    pipeline.enable_step_cache(interval=3)
    cached = pipeline(**arguments()).images
    assert len(steps) == 2 * every_step
    assert len(calls) - every_step == -(-every_step // 3)
    difference = (cached - plain).norm() / plain.norm()
    assert 0 < difference < 0.5
    pipeline.disable_step_cache()
    assert torch.equal(pipeline(**arguments()).images, plain)


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler]
)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_every_scheduler_and_guidance_go_with_it(pipeline, scheduler, guidance_scale):
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    plain = pipeline(**arguments(guidance_scale=guidance_scale)).images
    pipeline.enable_step_cache(interval=2, depth=5)
    cached = pipeline(**arguments(guidance_scale=guidance_scale)).images
    assert (cached - plain).norm() / plain.norm() < 0.5


def test_a_callback_may_switch_guidance_off_between_full_steps(pipeline):
    pipeline.enable_step_cache(interval=4)

    def switch(pipe, step, *_):
        if step == 1:
            pipe._guidance_scale = 1.0
        return {}

    images = pipeline(**arguments(guidance_scale=3.0, callback_on_step_end=switch)).images
    assert torch.isfinite(images).all()


def test_recorded_steps_are_computed_in_full(pipeline):
    calls = count_calls(pipeline.spatial_encoder)
    pipeline.enable_step_cache(interval=100)
    pipeline(**arguments())
    assert len(calls) == 1
    recorded = pipeline(**arguments(output_attention=(3, 4))).attention
    assert len(calls) == 1 + 3
    assert recorded.blocks == list(range(pipeline.unet.num_zero_cross_attentions))
    pipeline(**arguments(detail=1.0, output_type="pil"))
    assert len(calls) == 4 + 2  # the first step, and the last one for the detail


def test_batches_and_parts_of_them_cache_for_themselves(pipeline):
    pipeline.enable_step_cache(interval=2)
    garments = [random_image(seed=seed) for seed in (1, 5, 9)]
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    together = pipeline(**arguments(garment=garments, generator=generators)).images
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    parts = pipeline(**arguments(garment=garments, generator=generators, batch_size=2)).images
    alone = pipeline(**arguments(garment=garments[2], generator=torch.Generator().manual_seed(2))).images
    assert torch.allclose(together, parts, atol=1e-4)
    assert torch.allclose(together[2:], alone, atol=1e-4)


def test_threads_dont_share_what_a_call_keeps(pipeline):
    pipeline.enable_step_cache(interval=3)
    garments = [random_image(seed=seed) for seed in (1, 5)]
    expected = [pipeline(**arguments(garment=garment)).images for garment in garments]
    results, failures = {}, []

    def work(place):
        try:
            for _ in range(3):
                results[place] = pipeline(**arguments(garment=garments[place])).images
                assert torch.equal(results[place], expected[place])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(results) == 2


@pytest.mark.parametrize(
    "options, words",
    [({"interval": 0}, "interval is 0"), ({"interval": True}, "interval is True"), ({"depth": 99}, "depth is 99")],
)
def test_numbers_that_make_no_cache_are_refused(pipeline, options, words):
    with pytest.raises(InvalidInput, match=words):
        pipeline.enable_step_cache(**options)


def test_networks_with_hooks_on_inner_blocks_are_refused(pipeline):
    pipeline.unet.up_blocks[0].register_forward_hook(lambda *_: None)
    with pytest.raises(InvalidInput, match="group offloading by blocks off"):
        pipeline.enable_step_cache()


def test_a_preset_brings_its_cache_for_its_own_steps_alone(pipeline):
    calls = count_calls(pipeline.spatial_encoder)
    pipeline(**arguments(quality="fast", num_inference_steps=None))
    assert len(calls) == 5
    pipeline(**arguments(quality="fast", num_inference_steps=4))
    assert len(calls) == 5 + 4
    pipeline.enable_step_cache(interval=1)
    pipeline(**arguments(quality="fast", num_inference_steps=None))
    assert len(calls) == 5 + 4 + 10
