"""What a call leaves behind, shares between threads, and does under options that save memory."""

import copy
import pickle
import threading

import pytest
import torch
from support.tiny import HEIGHT, WIDTH, call_arguments, close, random_image, tiny_pipeline

from stableviton_sdk.errors import TryOnError
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


def test_two_threads_may_share_a_pipeline(pipeline):
    expected = {scale: pipeline(**call_arguments(guidance_scale=scale)).images for scale in (1.0, 4.0)}
    results, failures = {}, []

    def work(scale):
        try:
            for _ in range(3):
                results[scale] = pipeline(**call_arguments(guidance_scale=scale)).images
                assert pipeline.guidance_scale == scale
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


def test_a_pipeline_that_moves_its_weights_refuses_a_second_thread():
    pipeline = tiny_pipeline()
    pipeline._all_hooks = [object()]  # as after enable_model_cpu_offload, which needs an accelerator
    pipeline.maybe_free_model_hooks = lambda: None
    entered, leave = threading.Event(), threading.Event()

    def wait(*_):
        entered.set()
        leave.wait(60)
        return {}

    first = threading.Thread(target=lambda: pipeline(**call_arguments(callback_on_step_end=wait)))
    first.start()
    try:
        assert entered.wait(60)
        with pytest.raises(TryOnError, match="one thread"):
            pipeline(**call_arguments())
    finally:
        leave.set()
        first.join()
    assert pipeline(**call_arguments()).images.shape == (1, 3, HEIGHT, WIDTH)


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
