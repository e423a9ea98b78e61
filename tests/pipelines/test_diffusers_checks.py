"""diffusers' own pipeline checks, run on ours where a checkout of diffusers is at hand (they aren't in its wheel).

git clone https://github.com/huggingface/diffusers
DIFFUSERS_CHECKOUT=diffusers pytest tests/pipelines/test_diffusers_checks.py
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from support.tiny import HEIGHT, WIDTH, call_arguments, tiny_components

CHECKOUT = os.environ.get("DIFFUSERS_CHECKOUT")
if not CHECKOUT:
    pytest.skip("set DIFFUSERS_CHECKOUT to a checkout of diffusers to run its checks", allow_module_level=True)
# under a name of its own, since "tests" is also ours
init = Path(CHECKOUT, "tests", "__init__.py")
spec = importlib.util.spec_from_file_location("diffusers_tests", init, submodule_search_locations=[str(init.parent)])
sys.modules["diffusers_tests"] = importlib.util.module_from_spec(spec)

from diffusers_tests.pipelines.testing_utils.common import BasePipelineTesterConfig, PipelineTesterMixin  # noqa: E402
from diffusers_tests.pipelines.testing_utils.lora import LoraTesterMixin  # noqa: E402
from diffusers_tests.pipelines.testing_utils.memory import (  # noqa: E402
    GroupOffloadTesterMixin,
    LayerwiseCastingTesterMixin,
    PipelineOffloadTesterMixin,
)

from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline  # noqa: E402

pytestmark = pytest.mark.external


class TryOnConfig(BasePipelineTesterConfig):
    pipeline_class = TryOnPipeline
    required_input_params_in_call_signature = frozenset(["person", "garment", "mask", "densepose", "guidance_scale"])
    batch_input_params = frozenset(["person", "garment", "mask", "densepose"])
    callback_cfg_params = frozenset(["garment_embeds", "garment_latents", "conditioning"])
    output_shape = (3, HEIGHT, WIDTH)

    def get_dummy_components(self):
        return tiny_components()

    def get_dummy_inputs(self):
        return call_arguments(generator=self.get_generator(0))


class TestPipeline(TryOnConfig, PipelineTesterMixin):
    """Saving, loading, batches, dtypes, callbacks, variants."""


class TestMemory(TryOnConfig, PipelineOffloadTesterMixin, GroupOffloadTesterMixin, LayerwiseCastingTesterMixin):
    """Offloading, layerwise casting, device maps.

    diffusers runs these on accelerators only. Those that are overridden here run on a CPU too: the override leaves
    the original's mark behind.
    """

    def test_model_cpu_offload_forward_pass(self, base_pipe_output):
        super().test_model_cpu_offload_forward_pass(base_pipe_output)

    def test_group_offloading_inference(self):
        super().test_group_offloading_inference()

    def test_pipeline_level_group_offloading_sanity_checks(self):
        super().test_pipeline_level_group_offloading_sanity_checks()

    def test_pipeline_level_group_offloading_inference(self, base_pipe_output):
        super().test_pipeline_level_group_offloading_inference(base_pipe_output)


class TestLora(TryOnConfig, LoraTesterMixin):
    """Adapters: attaching, weighing, merging, saving and loading."""

    denoiser_target_modules = {name: ["to_q", "to_k", "to_v", "to_out.0"] for name in ("unet", "spatial_encoder")}

    # our call has no cross_attention_kwargs to scale adapters with: set_adapters does
    test_simple_inference_with_text_denoiser_lora_and_scale = None
    test_lora_scale_kwargs_match_fusion = None
    test_set_adapters_match_attention_kwargs = None
    # a file without adapters is refused, not passed over
    test_logs_info_when_no_lora_keys_found = None
