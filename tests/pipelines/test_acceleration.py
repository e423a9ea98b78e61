"""`optimize`, `compile`, and what is refused."""

import numpy as np
import pytest
import torch
from support.tiny import call_arguments, tiny_pipeline

from stableviton_sdk.dtypes import fastest_dtype
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.models.lean import runs_lean
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_optimized_pipeline_gives_the_same_image(dtype):
    pipeline = tiny_pipeline().to(dtype=dtype)
    plain = np.asarray(pipeline(**call_arguments(output_type="np")).images)
    done = pipeline.optimize()
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert any("channels_last" in line for line in done)
    assert any("oneDNN" in line for line in done) == (dtype != torch.float16)
    assert any('dtype="auto"' in line for line in done) == (dtype != fastest_dtype("cpu"))
    optimized = np.asarray(pipeline(**call_arguments(output_type="np")).images)
    assert abs(optimized - plain).max() < (1e-4 if dtype == torch.float32 else 0.1)


def test_an_optimized_pipeline_saves_the_same_weights(tmp_path):
    pipeline = tiny_pipeline()
    before = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    pipeline.optimize()
    pipeline(**call_arguments())
    pipeline.save_pretrained(tmp_path)
    after = TryOnPipeline.from_pretrained(tmp_path).unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_offloading_pipelines_are_not_optimized():
    pipeline = tiny_pipeline()
    pipeline.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    with pytest.raises(InvalidInput, match="call optimize before"):
        pipeline.optimize()


def test_layerwise_casting_goes_with_lean_steps():
    pipeline = tiny_pipeline()
    plain = pipeline(**call_arguments()).images
    pipeline.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert runs_lean(pipeline.unet)
    assert (pipeline(**call_arguments()).images - plain).abs().max() < 0.3


def test_compiled_blocks_are_called(monkeypatch):
    pipeline = tiny_pipeline()
    plain = pipeline(**call_arguments()).images
    pipeline.compile(backend="eager")
    assert not runs_lean(pipeline.unet)
    assert torch.allclose(pipeline(**call_arguments()).images, plain, atol=1e-4)


@pytest.mark.parametrize("name", ["unet", "spatial_encoder"])
def test_options_of_diffusers_transformers_are_refused(name):
    from diffusers import FirstBlockCacheConfig

    network = getattr(tiny_pipeline(), name)
    with pytest.raises(InvalidInput, match=r"FirstBlockCacheConfig.*enable_step_cache"):
        network.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(InvalidInput, match=r"set_attention_backend.*flash.*would change nothing"):
        network.set_attention_backend("flash")
