"""What a call leaves behind, shares between threads, and does under options that save memory."""

import copy
import functools
import pickle
import threading

import pytest
import torch
from support.tiny import HEIGHT, WIDTH, call_arguments, close, random_image, tiny_pipeline

from stableviton_sdk.errors import CallCancelled, InvalidInput, TryOnError
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def test_a_call_leaves_nothing_on_the_pipeline():
    pipeline = tiny_pipeline()
    before = set(vars(pipeline))
    state = {key: id(value) for key, value in vars(pipeline.scheduler).items()}
    pipeline(**call_arguments(guidance_scale=2.0, output_attention=True))
    assert set(vars(pipeline)) == before
    assert {key: id(value) for key, value in vars(pipeline.scheduler).items()} == state


def test_a_call_that_ends_with_an_error_leaves_no_timestep(pipeline):
    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(**call_arguments(callback_on_step_end=fail))
    assert pipeline.current_timestep is None
    assert pipeline(**call_arguments()).images.isfinite().all()


def test_two_threads_may_share_a_pipeline(pipeline):
    expected = {scale: pipeline(**call_arguments(guidance_scale=scale)).images for scale in (1.0, 4.0)}
    results, failures = {}, []

    def check(scale, pipe, *_):
        assert pipe.guidance_scale == scale
        return {}

    def work(scale):
        try:
            for _ in range(3):
                results[scale] = pipeline(
                    **call_arguments(guidance_scale=scale, callback_on_step_end=functools.partial(check, scale))
                ).images
                assert close(results[scale], expected[scale])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(scale,)) for scale in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(results) == set(expected)


def refuses_a_second_thread(pipeline) -> bool:
    """Whether a call is refused while another one is at work."""
    entered, leave = threading.Event(), threading.Event()

    def wait(*_):
        entered.set()
        leave.wait(60)
        return {}

    first = threading.Thread(target=lambda: pipeline(**call_arguments(callback_on_step_end=wait)))
    first.start()
    try:
        assert entered.wait(60)
        try:
            pipeline(**call_arguments(num_inference_steps=1))
        except TryOnError as error:
            return "one thread" in str(error)
        return False
    finally:
        leave.set()
        first.join()


OFFLOADS = {
    "model": lambda pipeline: pipeline.enable_model_cpu_offload(device="cpu"),
    "group": lambda pipeline: pipeline.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
    "layerwise": lambda pipeline: pipeline.unet.enable_layerwise_casting(torch.float16, torch.float32),
}


@pytest.mark.parametrize("kind", [*OFFLOADS, pytest.param("sequential", marks=pytest.mark.gpu)])
def test_a_pipeline_that_moves_its_weights_refuses_a_second_thread(kind):
    pipeline = tiny_pipeline()
    assert not refuses_a_second_thread(pipeline)
    if kind == "sequential":
        if not torch.cuda.is_available():
            pytest.skip("sequential offload fails on a CPU, in accelerate itself")
        pipeline.enable_sequential_cpu_offload()
    else:
        OFFLOADS[kind](pipeline)
    assert refuses_a_second_thread(pipeline)
    assert pipeline(**call_arguments(num_inference_steps=1)).images.shape == (1, 3, HEIGHT, WIDTH)


def test_model_offload_works_again_after_an_interrupt():
    expected = tiny_pipeline()(**call_arguments()).images
    pipeline = tiny_pipeline()
    OFFLOADS["model"](pipeline)

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(**call_arguments(callback_on_step_end=fail))
    assert close(pipeline(**call_arguments()).images, expected)


def test_a_pipeline_can_be_copied_and_pickled_after_a_call(pipeline):
    expected = pipeline(**call_arguments()).images
    for other in (copy.deepcopy(pipeline), pickle.loads(pickle.dumps(pipeline))):
        assert close(other(**call_arguments()).images, expected)


def test_an_interrupted_call_stops_after_the_step(pipeline):
    steps = []

    def stop(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = step == 1
        return {}

    pipeline(**call_arguments(num_inference_steps=5, callback_on_step_end=stop))
    assert steps == [0, 1]
    assert pipeline(**call_arguments()).images.shape == (1, 3, HEIGHT, WIDTH)


def run_in_thread(pipeline, until_step, **changes):
    """A call in another thread that has reached a step and waits: the thread, what lets it go on, and its outcome."""
    reached, go_on, outcome = threading.Event(), threading.Event(), {"steps": []}

    def hold(pipe, step, timestep, tensors):
        outcome["steps"].append(step)
        if step == until_step:
            reached.set()
            go_on.wait(60)
        return {}

    def work():
        try:
            outcome["images"] = pipeline(
                **call_arguments(num_inference_steps=5, callback_on_step_end=hold, **changes)
            ).images
        except TryOnError as error:
            outcome["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    assert reached.wait(60)
    return thread, go_on, outcome


def test_other_threads_read_the_latest_call_and_stop_all_that_run(pipeline):
    pipeline(**call_arguments(num_inference_steps=1))
    calls = [run_in_thread(pipeline, 1, guidance_scale=scale) for scale in (1.0, 2.0)]
    assert pipeline.num_timesteps == 6  # PLMS takes its second step twice
    assert 0 < int(pipeline.current_timestep) < 1000
    assert pipeline.guidance_scale == 2.0
    pipeline._interrupt = True
    assert pipeline.interrupt
    for thread, go_on, outcome in calls:
        go_on.set()
        thread.join()
        assert outcome["steps"] == [0, 1]
        assert outcome["images"].shape == (1, 3, HEIGHT, WIDTH)
    assert pipeline.current_timestep is None
    assert pipeline(**call_arguments()).images.shape == (1, 3, HEIGHT, WIDTH)


def test_a_cancel_event_stops_its_own_call_alone(pipeline):
    expected = pipeline(**call_arguments(num_inference_steps=5)).images
    cancel = threading.Event()
    cancelled = run_in_thread(pipeline, 1, cancel_event=cancel)
    other = run_in_thread(pipeline, 1, cancel_event=threading.Event())
    cancel.set()
    for thread, go_on, _ in (cancelled, other):
        go_on.set()
        thread.join()
    assert cancelled[2]["steps"] == [0, 1]
    assert isinstance(cancelled[2]["error"], CallCancelled)
    assert close(other[2]["images"], expected)


def test_an_event_that_is_set_already_cancels_before_any_step(pipeline):
    cancel, steps = threading.Event(), []
    cancel.set()
    with pytest.raises(CallCancelled, match="cancelled"):
        pipeline(**call_arguments(cancel_event=cancel, callback_on_step_end=lambda *_: steps.append(1) or {}))
    assert steps == []
    with pytest.raises(InvalidInput, match="cancel_event"):
        pipeline(**call_arguments(cancel_event=True))


@pytest.mark.parametrize(
    "option", ["attention_slicing", "vae_tiling", "vae_slicing", "group_offload", "channels_last"]
)
def test_memory_options_give_the_same_image(option):
    expected = tiny_pipeline()(**call_arguments(garment=[random_image(seed=1), random_image(seed=3)])).images
    pipeline = tiny_pipeline()
    if option == "attention_slicing":
        pipeline.enable_attention_slicing("max")
    elif option == "vae_tiling":
        pipeline.vae.enable_tiling()
    elif option == "vae_slicing":
        pipeline.vae.enable_slicing()
    elif option == "group_offload":
        pipeline.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    else:
        pipeline.unet.to(memory_format=torch.channels_last)
    images = pipeline(**call_arguments(garment=[random_image(seed=1), random_image(seed=3)])).images
    assert close(images, expected, 2e-3)


@pytest.mark.slow
def test_repeated_blocks_compile_and_give_the_same_image():
    expected = tiny_pipeline()(**call_arguments(num_inference_steps=1)).images
    pipeline = tiny_pipeline()
    pipeline.unet.compile_repeated_blocks(backend="eager", fullgraph=True)
    assert close(pipeline(**call_arguments(num_inference_steps=1)).images, expected)


def test_saved_and_loaded_it_gives_the_same_image(pipeline, tmp_path):
    licensed = TryOnPipeline(**pipeline.components, weights_licence="for tests only")
    licensed.save_pretrained(tmp_path / "saved", max_shard_size="500kB")
    assert len(list((tmp_path / "saved" / "unet").glob("*-of-*.safetensors"))) > 1
    assert "for tests only" in (tmp_path / "saved" / "README.md").read_text()
    loaded = TryOnPipeline.from_pretrained(tmp_path / "saved", low_cpu_mem_usage=False)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.weights_licence == "for tests only"
    assert close(loaded(**call_arguments()).images, pipeline(**call_arguments()).images)
    assert TryOnPipeline.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16).unet.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "component, output_type", [("unet", "latent"), ("unet", "pil"), ("vae", "pil"), ("vae", "pt")]
)
def test_an_image_of_no_numbers_is_an_error_not_black(component, output_type):
    pipeline = tiny_pipeline()
    with torch.no_grad():
        next(iter(getattr(pipeline, component).parameters())).fill_(float("nan"))
    with pytest.raises(TryOnError, match=r"computed NaN or infinite values in torch\.float32, so there is no image"):
        pipeline(**call_arguments(output_type=output_type))
