"""What diffusers' own checks ask of every pipeline, where no checkout of them is at hand."""

import pytest
import torch
from support.tiny import HEIGHT, WIDTH, call_arguments, close, mask_image, random_image, tiny_components, tiny_pipeline

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

NETWORKS = ("vae", "garment_encoder", "spatial_encoder", "unet")


@pytest.fixture(scope="module")
def pipeline() -> TryOnPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def expected(pipeline) -> torch.Tensor:
    return pipeline(**call_arguments()).images


def batch(count: int) -> dict:
    """Arguments of a call with different persons, garments and generators."""
    return call_arguments(
        person=[random_image(seed=10 + index) for index in range(count)],
        garment=[random_image(seed=20 + index) for index in range(count)],
        mask=[mask_image()] * count,
        densepose=[random_image(seed=30 + index) for index in range(count)],
        generator=[torch.Generator().manual_seed(index) for index in range(count)],
    )


def test_components_are_those_of_the_constructor(pipeline):
    assert pipeline.components.keys() == tiny_components().keys()


def test_an_output_class_and_a_tuple_hold_the_same(pipeline, expected):
    images = pipeline(**call_arguments(return_dict=False))[0]
    assert torch.equal(images, expected)
    assert torch.equal(pipeline(**call_arguments())[0], expected)


def test_an_image_is_the_same_alone_and_in_a_batch(pipeline):
    together = pipeline(**batch(3)).images
    assert together.shape == (3, 3, HEIGHT, WIDTH)
    for index in range(3):
        alone = {
            name: value[index : index + 1] if isinstance(value, list) else value for name, value in batch(3).items()
        }
        assert close(pipeline(**alone).images, together[index : index + 1], 1e-4)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("images_each", [1, 2])
def test_every_pair_gives_as_many_images_as_told(pipeline, count, images_each):
    arguments = {**batch(count), "num_images_per_prompt": images_each, "generator": torch.Generator().manual_seed(0)}
    assert pipeline(**arguments).images.shape[0] == count * images_each


def test_guidance_leaves_the_shape(pipeline, expected):
    guided = pipeline(**call_arguments(guidance_scale=7.5)).images
    assert guided.shape == expected.shape
    assert not close(guided, expected, 1e-4)


# Callbacks


@pytest.mark.parametrize("names", [["latents"], TryOnPipeline._callback_tensor_inputs])
def test_a_callback_gets_the_tensors_that_it_names_and_no_other(pipeline, expected, names):
    seen = []

    def look(pipe, step, timestep, tensors):
        assert set(tensors) == set(names)
        seen.append(step)
        return tensors

    images = pipeline(**call_arguments(callback_on_step_end=look, callback_on_step_end_tensor_inputs=names)).images
    assert torch.equal(images, expected)
    assert seen == list(range(pipeline.num_timesteps))


def test_what_a_callback_returns_replaces_the_latents(pipeline):
    def clear(pipe, step, timestep, tensors):
        if step == pipe.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    latents = pipeline(**call_arguments(callback_on_step_end=clear, output_type="latent")).images
    assert latents.abs().sum() == 0


def test_a_callback_may_raise_the_guidance_at_every_step(pipeline):
    def raise_guidance(pipe, step, timestep, tensors):
        pipe._guidance_scale += 1.0
        return tensors

    names = TryOnPipeline._callback_tensor_inputs
    pipeline(
        **call_arguments(
            guidance_scale=2.0, callback_on_step_end=raise_guidance, callback_on_step_end_tensor_inputs=names
        )
    )
    assert pipeline.guidance_scale == 2.0 + pipeline.num_timesteps


# Types, devices and memory


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_all_networks_take_a_type(dtype):
    assert [getattr(tiny_pipeline().to(dtype=dtype), name).dtype for name in NETWORKS] == [dtype] * 4


def test_a_component_that_is_optional_may_be_left_out_and_comes_back_so(tmp_path, expected):
    with_it = TryOnPipeline(**{**tiny_components(), "preprocessor": PersonPreprocessor()})
    with_it.save_pretrained(tmp_path / "with")
    assert TryOnPipeline.from_pretrained(tmp_path / "with").preprocessor is not None
    assert TryOnPipeline.from_pretrained(tmp_path / "with", preprocessor=None).preprocessor is None
    tiny_pipeline().save_pretrained(tmp_path / "without", safe_serialization=False)
    loaded = TryOnPipeline.from_pretrained(tmp_path / "without")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.preprocessor is None
    assert close(loaded(**call_arguments()).images, expected)


@pytest.mark.parametrize("offload_type, options", [("block_level", {"num_blocks_per_group": 1}), ("leaf_level", {})])
@pytest.mark.parametrize("whole", [True, False])
def test_group_offload_gives_the_same_image(expected, offload_type, options, whole):
    pipeline = tiny_pipeline()
    for part in [pipeline] if whole else [pipeline.unet, pipeline.spatial_encoder]:
        part.enable_group_offload(torch.device("cpu"), offload_type=offload_type, **options)
    assert close(pipeline(**call_arguments()).images, expected, 1e-4)


def test_group_offload_leaves_a_network_out_where_told():
    pipeline = tiny_pipeline()
    pipeline.enable_group_offload(torch.device("cpu"), offload_type="leaf_level", exclude_modules=["garment_encoder"])
    hooked = {
        name for name in NETWORKS if any(hasattr(m, "_diffusers_hook") for m in getattr(pipeline, name).modules())
    }
    assert hooked == set(NETWORKS) - {"garment_encoder"}


def test_model_offload_gives_the_same_image_again_and_again(expected):
    pipeline = tiny_pipeline()
    for _ in range(2):
        pipeline.enable_model_cpu_offload(device="cpu")
        assert close(pipeline(**call_arguments()).images, expected, 1e-4)
        assert {name for name in NETWORKS if hasattr(getattr(pipeline, name), "_hf_hook")} == set(NETWORKS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="sequential offload fails on a CPU, in accelerate itself")
def test_sequential_offload_gives_the_same_image(expected):
    pipeline = tiny_pipeline()
    pipeline.enable_sequential_cpu_offload()
    assert close(pipeline(**call_arguments()).images.cpu(), expected, 1e-3)


def test_layerwise_casting_computes_in_a_type_of_its_own(expected):
    pipeline = tiny_pipeline().to(torch.bfloat16)
    pipeline.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    images = pipeline(**call_arguments()).images
    assert images.isfinite().all()
    assert close(images, expected, 0.2)


def test_a_device_map_gives_the_same_image(tiny_folder, expected):
    pipeline = TryOnPipeline.from_pretrained(tiny_folder, device_map="cpu")
    pipeline.set_progress_bar_config(disable=True)
    assert close(pipeline(**call_arguments()).images, expected, 1e-4)
