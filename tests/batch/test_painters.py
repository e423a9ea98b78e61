"""The painter that is a pipeline: what it encodes, how often, and what its images depend on."""

import numpy as np
import pytest
from PIL import Image
from support.bundled import UNSEEN

from stableviton_sdk.batch.painters import Painter, PipelinePainter
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.images import load_image


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Files of three persons and three garments."""
    folder = tmp_path_factory.mktemp("rendered")
    for index in range(3):
        sample = render_pair(UNSEEN, index)
        Image.fromarray(sample.person).save(folder / f"p{index}.png")
        Image.fromarray(sample.garment_other).save(folder / f"g{index}.png")
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


class Encodings:
    """Counts the images that a pipeline's encoders are given."""

    def __init__(self, pipeline):
        self.images = self.garments = 0
        encode = pipeline.vae.encode

        def counted(pixels, *args, **kwargs):
            self.images += len(pixels)
            return encode(pixels, *args, **kwargs)

        pipeline.vae.encode = counted
        pipeline.garment_encoder.register_forward_pre_hook(self._count)

    def _count(self, _, args):
        self.garments += len(args[0])


def prepare(painter, sources, persons, garments):
    people = {name: painter.prepare_person(sources[name], {}, "upper") for name in persons}
    clothes = {name: painter.prepare_garment(sources[name], "flat-lay", "upper") for name in garments}
    return people, clothes


@pytest.mark.parametrize("init_from", ["agnostic", "person"])
def test_each_person_and_garment_is_encoded_once_and_by_itself_whatever_it_is_painted_with(sources, init_from):
    painter = PipelinePainter(model="bundled", init_from=init_from)
    assert isinstance(painter, Painter)
    counted = Encodings(painter.pipeline)
    people, clothes = prepare(painter, sources, ("p0", "p1", "p2"), ("g0", "g1", "g2"))
    assert counted.garments == 3
    encoded = counted.images
    images = painter.paint([people["p0"], people["p1"]], [clothes["g0"], clothes["g1"]], [3, 4])
    painter.paint([people["p2"], people["p0"]], [clothes["g1"], clothes["g2"]], [5, 6])
    assert (counted.images, counted.garments) == (encoded, 3)
    # another process meets them in another order
    other = PipelinePainter(model="bundled", init_from=init_from)
    people, clothes = prepare(other, sources, ("p1", "p0"), ("g1", "g0"))
    again = other.paint([people["p0"], people["p1"]], [clothes["g0"], clothes["g1"]], [3, 4])
    for first, second in zip(images, again, strict=True):
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_its_description_holds_all_that_images_follow_from_and_no_path(sources):
    first, second = (PipelinePainter(model="bundled", detail=detail).describe() for detail in (0.5, 0.25))
    assert len(first["model"]["weights_sha256"]) == 64
    assert first["model"]["scheduler"]["class"]
    assert first["model"] == second["model"]
    assert first["painting"] != second["painting"]
    assert first["painting"]["num_inference_steps"] == 1
    assert not any("/" in str(value) for value in first["painting"].values())


def test_what_an_image_says_of_itself_names_model_and_seed(sources):
    settings = PipelinePainter(model="bundled").settings_of(7)
    assert (settings["model"], settings["seed"]) == ("bundled", 7)
    assert load_image(sources["p0"]).size == (settings["width"], settings["height"])
