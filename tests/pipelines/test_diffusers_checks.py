"""diffusers' own pipeline checks, run on ours where a checkout of diffusers is at hand (they aren't in its wheel).

git clone https://github.com/huggingface/diffusers
DIFFUSERS_CHECKOUT=diffusers pytest tests/test_diffusers_checks.py
"""

import os
import sys

import pytest
from support.tiny import HEIGHT, WIDTH, call_arguments, tiny_components

CHECKOUT = os.environ.get("DIFFUSERS_CHECKOUT")
if not CHECKOUT:
    pytest.skip("set DIFFUSERS_CHECKOUT to a checkout of diffusers to run its checks", allow_module_level=True)
sys.path.insert(0, CHECKOUT)

from tests.pipelines.testing_utils.common import BasePipelineTesterConfig, PipelineTesterMixin  # noqa: E402
from tests.pipelines.testing_utils.memory import MemoryTesterMixin  # noqa: E402

from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline  # noqa: E402


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


class TestMemory(TryOnConfig, MemoryTesterMixin):
    """Offloading, layerwise casting, device maps."""
