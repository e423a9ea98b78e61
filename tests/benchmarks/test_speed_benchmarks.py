"""The benchmarks of speed: how seconds are composed, and that their networks and charts are what they say."""

import pytest
import torch
from PIL import Image
from support.tiny import tiny_unet

from benchmarks.charts import bar_chart
from benchmarks.full_size import AUTHORS_CALLS, NETWORKS, random_network
from benchmarks.latency import AUTHORS, compose, count_operations
from benchmarks.memory import difference
from benchmarks.scaling import count_operations as operations_by_kind
from stableviton_sdk.pipelines.components import DEFAULT_PRESETS


def test_a_recipe_is_composed_of_its_steps_and_fixed_parts():
    fixed = {"encode": 2.0, "embed": 1.0, "decode": 3.0}
    middle = {f"{kind} {part}": seconds for kind in ("authors'", "bf16") for part, seconds in fixed.items()}
    middle |= {"authors' step": 10.0, "bf16 step": 4.0, "bf16 cached 2": 1.0}
    recipes = compose(middle, "bf16")
    assert recipes[f"{AUTHORS}, beside bf16"]["seconds"] == AUTHORS_CALLS * 10 + 10
    assert recipes["exact, bf16"]["seconds"] == AUTHORS_CALLS * 4 + 10
    assert recipes["balanced, bf16"]["seconds"] == DEFAULT_PRESETS["balanced"]["num_inference_steps"] * 4 + 10
    assert recipes["fast, bf16"]["seconds"] == 5 * 4 + 5 * 1 + 10
    assert recipes["fast, bf16"]["times_faster"] == pytest.approx(520 / 35)


def test_operations_are_those_of_the_whole_step_and_attention_grows_fastest():
    small, large = (operations_by_kind(*size) for size in ((128, 128), (256, 256)))
    assert sum(small.values()) == count_operations(128, 128)
    growth = {kind: large[kind] / small[kind] for kind in small}
    assert growth["convolutions"] == pytest.approx(4, rel=0.05)
    assert growth["attention"] == max(growth.values())
    assert growth["attention"] > 10


def test_random_networks_are_finite_and_differ_by_tensor():
    with torch.device("meta"):
        network = tiny_unet()
    network = random_network(network, torch.float32)
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    assert all(torch.isfinite(weight).all() for weight in weights)
    same = [weight.flatten()[:8] for weight in weights if weight.shape == weights[-1].shape]
    assert not any(torch.equal(same[0], other) for other in same[1:])
    assert set(NETWORKS) == {"unet", "spatial_encoder", "garment_encoder", "vae"}


def test_a_chart_has_a_bar_for_each_value(tmp_path):
    bar_chart(str(tmp_path / "chart.png"), "seconds", {"a": 2.0, "b": 1.0})
    image = Image.open(tmp_path / "chart.png").convert("RGB")
    counts = [sum(image.getpixel((x, y)) == (61, 110, 165) for x in range(image.width)) for y in range(image.height)]
    assert max(counts) == pytest.approx(2 * min(count for count in counts if count), rel=0.05)


def test_equal_images_differ_by_nothing():
    import numpy as np

    image = np.full((1, 4, 4, 3), 0.5)
    assert difference(image, image) == 99.0
    assert difference(image, image + 0.1) == pytest.approx(20.0)
