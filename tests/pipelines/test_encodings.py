"""Encodings kept on prepared persons and garments: made once, and anew for whatever changes them."""

import copy
import pickle

import pytest
import torch
from PIL import ImageDraw
from support.tiny import call_arguments, densepose_image, mask_image, random_image, tiny_components, tiny_pipeline

from stableviton_sdk.pipelines.encoding import identify
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.encodings import MOST
from stableviton_sdk.preprocessing.inputs import TryOnInputs


@pytest.fixture
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def person():
    return TryOnInputs.from_maps(random_image(), mask=mask_image(), densepose=densepose_image())


def prepared_call(pipeline, person, garment, **changes):
    arguments = call_arguments(person=person, garment=garment, output_type="latent", **changes)
    del arguments["mask"], arguments["densepose"]
    return pipeline(**arguments).images


class Counter:
    """How many images each encoder was given."""

    def __init__(self, pipeline):
        self.counts = {"vae": 0, "garment_encoder": 0}
        encode = pipeline.vae.encode

        def counted(pixels, *args, **kwargs):
            self.counts["vae"] += len(pixels)
            return encode(pixels, *args, **kwargs)

        pipeline.vae.encode = counted
        pipeline.garment_encoder.register_forward_pre_hook(self._note)

    def _note(self, _, args):
        self.counts["garment_encoder"] += len(args[0])

    def take(self) -> tuple[int, int]:
        taken = self.counts["vae"], self.counts["garment_encoder"]
        self.counts = dict.fromkeys(self.counts, 0)
        return taken


def test_the_next_call_encodes_nothing_and_has_the_same_bits(pipeline, person):
    counter, garment = Counter(pipeline), pipeline.prepare_garment(random_image(seed=1))
    first = prepared_call(pipeline, person, garment)
    assert counter.take() == (3, 1)
    second = prepared_call(pipeline, person, garment)
    assert counter.take() == (0, 0)
    assert torch.equal(first, second)
    prepared_call(pipeline, person, pipeline.prepare_garment(random_image(seed=2)))
    assert counter.take() == (1, 1)  # of the new garment alone


@pytest.mark.parametrize("change", ["tracked", "untracked", "dtype", "other weights", "tiling"])
def test_other_weights_encode_anew(pipeline, person, change):
    garment = pipeline.prepare_garment(random_image(seed=1))
    prepared_call(pipeline, person, garment)
    if change == "tracked":
        with torch.no_grad():
            pipeline.vae.encoder.conv_in.weight.mul_(1.5)
    elif change == "untracked":
        pipeline.vae.encoder.conv_in.weight.data += 0.5
    elif change == "dtype":
        pipeline.to(torch.float16)
    elif change == "tiling":
        pipeline.vae.use_tiling = True
    else:
        components = tiny_components()
        with torch.no_grad():
            components["vae"].encoder.conv_in.weight.mul_(1.5)
        pipeline = TryOnPipeline(**components)
    counter = Counter(pipeline)
    changed = prepared_call(pipeline, person, garment)
    assert counter.take()[0] == 3
    fresh_person = TryOnInputs.from_maps(random_image(), mask=mask_image(), densepose=densepose_image())
    fresh = prepared_call(pipeline, fresh_person, pipeline.prepare_garment(random_image(seed=1)))
    assert torch.equal(changed, fresh)


def test_an_image_that_was_drawn_on_encodes_anew(pipeline, person):
    garment = pipeline.prepare_garment(random_image(seed=1))
    prepared_call(pipeline, person, garment)
    counter = Counter(pipeline)
    ImageDraw.Draw(garment.image).rectangle((0, 0, 20, 20), fill="red")
    prepared_call(pipeline, person, garment)
    assert counter.take() == (1, 1)


def test_another_size_encodes_anew(pipeline, person):
    garment = pipeline.prepare_garment(random_image(seed=1))
    prepared_call(pipeline, person, garment)
    counter = Counter(pipeline)
    prepared_call(pipeline, person, garment, width=96, height=128)
    assert counter.take() == (3, 1)


def test_weights_that_cant_be_told_apart_keep_nothing(pipeline, person):
    assert identify(torch.nn.Linear(2, 2, device="meta")) is None  # as sequential offloading leaves them
    garment = pipeline.prepare_garment(random_image(seed=1))
    pipeline.vae.add_module("lora_A", torch.nn.Linear(1, 1))  # whose strength is no tensor
    prepared_call(pipeline, person, garment)
    assert len(person.encodings) == 0
    assert len(garment.encodings) == 1  # by the garment encoder


def test_what_is_kept_is_bounded_and_on_the_cpu(pipeline, person):
    garment = pipeline.prepare_garment(random_image(seed=1))
    for factor in range(2, 8):
        prepared_call(pipeline, person, garment, width=24 * factor, height=32 * factor, num_inference_steps=1)
    assert len(garment.encodings) == len(person.encodings) == MOST


def test_copies_changes_pickles_and_files_go_without(pipeline, person, tmp_path):
    garment = pipeline.prepare_garment(random_image(seed=1))
    prepared_call(pipeline, person, garment)
    assert len(garment.encodings) == 2
    assert len(person.encodings) == 2
    for prepared in (garment, person):
        for other in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
            assert len(other.encodings) == 0
    assert len(person.replace(mask=mask_image()).encodings) == 0
    person.save(tmp_path / "person")
    assert len(TryOnInputs.load(tmp_path / "person").encodings) == 0


def test_a_batch_in_parts_is_the_batch_at_once(pipeline, person):
    garments = [random_image(seed=seed) for seed in (1, 2, 3)]
    noises = [[torch.Generator().manual_seed(seed) for seed in range(3)] for _ in range(2)]
    together = prepared_call(pipeline, person, garments, generator=noises[0], output_attention=True)
    counter = Counter(pipeline)
    parts = prepared_call(pipeline, person, garments, generator=noises[1], output_attention=True, batch_size=2)
    assert torch.allclose(together, parts, atol=1e-4)
    assert counter.take() == (3, 3)
