"""A data set encoded once: the same batches, wherever it stopped, and no mix-ups."""

import functools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.pairs import HEIGHT, WIDTH, Pairs
from support.tiny_training import tiny_components

from stableviton_sdk.data.synthetic import SyntheticDataset
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.config import LossConfig, TrainingConfig
from stableviton_sdk.training.tryon.batches import collate, collate_encoded
from stableviton_sdk.training.tryon.latent_cache import fill_latent_cache
from stableviton_sdk.training.tryon.losses import correspondence_targets
from stableviton_sdk.training.tryon.objective import encode
from stableviton_sdk.training.tryon.trainer import open_latent_cache, train

SHAPE = (HEIGHT, WIDTH)
NEEDS = ("worn_mask", "correspondence")


class Interrupted(Exception):
    pass


def fill(folder, data, pipeline, **changes):
    options = {"shape": SHAPE, "garment_side": 16, "needs": NEEDS, "source": {"kind": "test"}, "progress": False}
    return fill_latent_cache(folder, data, pipeline.vae, **{**options, **changes})


def pipeline():
    return TryOnPipeline(**tiny_components())


def numbered(items, indices):
    return [dict(items[index], position=index) for index in indices]


def test_batches_from_the_cache_are_those_that_encoding_makes(tmp_path):
    own, data = pipeline(), Pairs(5)
    cached = collate_encoded(numbered(fill(tmp_path, data, own), [3, 1]), SHAPE)
    fresh = encode(own.vae, collate(numbered(data, [3, 1]), NEEDS))
    for name in ("latents", "garment_latents", "conditioning"):
        torch.testing.assert_close(cached[name], fresh[name], rtol=1e-3, atol=1e-3)
    assert cached["garment_shape"].tolist() == fresh["garment_shape"].tolist() == list(SHAPE)
    assert cached["positions"].tolist() == [3, 1]
    # what the garment encoder sees: its own squashing finds the image squashed already
    seen = [own.garment_encoder.pixel_values(batch["garment"]) for batch in (cached, fresh)]
    torch.testing.assert_close(*seen, rtol=0, atol=0.02)
    grid = fresh["latents"].shape[-2:]
    targets = [correspondence_targets(batch["correspondence"], SHAPE, grid) for batch in (cached, fresh)]
    torch.testing.assert_close(*targets, rtol=0, atol=1e-3, equal_nan=True)
    assert targets[0].isfinite().any()


def test_filling_goes_on_where_it_was_interrupted(tmp_path):
    own = pipeline()
    whole = fill(tmp_path / "whole", Pairs(40), own)

    class Broken(Pairs):
        def __getitem__(self, index):
            if index == 20:
                raise Interrupted
            return super().__getitem__(index)

    with pytest.raises(Interrupted):
        fill(tmp_path / "broken", Broken(40), own)
    resumed = Pairs(40)
    cache = fill(tmp_path / "broken", resumed, own)
    assert resumed.read == 40 - 16  # one batch was done
    for index in range(40):
        for name, value in whole[index].items():
            np.testing.assert_array_equal(cache[index][name], value)
    finished = Pairs(40)
    fill(tmp_path / "broken", finished, own)
    assert finished.read == 0


def test_a_cache_of_other_data_or_weights_is_refused(tmp_path):
    own = pipeline()
    fill(tmp_path, Pairs(2), own)
    with pytest.raises(InvalidInput, match=r"a latent cache whose source\.kind is test, not other"):
        fill(tmp_path, Pairs(2), own, source={"kind": "other"})
    with torch.no_grad():
        own.vae.quant_conv.weight.mul_(1.01)
    with pytest.raises(InvalidInput, match="a latent cache whose autoencoder is"):
        fill(tmp_path, Pairs(2), own)


def test_training_reads_images_once_and_resumes_exactly(tmp_path):
    def config(name, steps):
        options = TrainingConfig(
            output=str(tmp_path / name),
            steps=steps,
            batch_size=2,
            learning_rate=1e-2,
            loss=LossConfig(correspondence="cross-entropy", correspondence_weight=0.1, blocks=[0]),
            augmentation=None,
            timestep_power=0.5,
            workers=0,
            checkpoint_every=3,
            cpu=True,
        )
        data = options.data.replace(size=(WIDTH, HEIGHT), latent_cache=str(tmp_path / "latents"))
        return options.replace(data=data)

    data = Pairs(4)
    run = functools.partial(train, validation_data=data, progress=False)
    whole = run(config("whole", 6), data=data, pipeline=pipeline())
    assert data.read <= 4 + 2  # each once; the first is looked at before, and shapes the files
    run(config("parts", 3), data=data, pipeline=pipeline())
    parts = run(config("parts", 6), data=data, pipeline=pipeline())
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*.safetensors"))]
    assert names
    for name in names:
        first, second = load_file(whole / name), load_file(parts / name)
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_cache_and_augmentation_exclude_each_other(tmp_path):
    from stableviton_sdk.training.config import DataConfig

    with pytest.raises(InvalidInput, match="latent_cache keeps items as they are"):
        TrainingConfig(output="x", data=DataConfig(latent_cache=str(tmp_path)))


def test_rendered_samples_give_two_training_items_each():
    both, worn = SyntheticDataset(2, 3, garments="both"), SyntheticDataset(2, 3)
    assert len(both) == 4
    sample = worn[1]
    for name in ("person", "garment", "agnostic", "densepose", "mask", "worn_mask"):
        np.testing.assert_array_equal(both[2][name], sample[name])
    other = both[3]
    np.testing.assert_array_equal(other["person"], sample["person_in_other"])
    np.testing.assert_array_equal(other["garment"], sample["garment_other"])
    np.testing.assert_array_equal(other["correspondence"], sample["correspondence_other"])
    np.testing.assert_array_equal(other["agnostic"], sample["agnostic"])
    with pytest.raises(InvalidInput, match="garments is 'all'"):
        SyntheticDataset(2, garments="all")
    with pytest.raises(IndexError):
        both[4]


def test_the_trainer_opens_the_cache_by_its_configuration(tmp_path):
    own = pipeline()
    config = TrainingConfig(output="x", augmentation=None, workers=0)
    data = config.data.replace(size=(WIDTH, HEIGHT), latent_cache=str(tmp_path / "cache"))
    cache = open_latent_cache(config.replace(data=data), Pairs(3), own, list(NEEDS), progress=False)
    assert len(cache) == 3
    assert cache[0]["garment"].shape == (16, 16, 3)
