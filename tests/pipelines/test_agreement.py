"""One person and one garment give one result, whichever way they come in."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import FIGURE, main
from support.flat_figures import FigureAnalyzer, photo_of
from support.tiny import call_arguments, mask_image, random_image, tiny_pipeline

from stableviton_sdk import TryOnInputs, TryOnPipeline
from stableviton_sdk.data.folder import FolderDataset
from stableviton_sdk.preprocessing.inputs import derive_agnostic
from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def with_figures(pipeline):
    pipeline = TryOnPipeline(**{**pipeline.components, "preprocessor": PersonPreprocessor(FigureAnalyzer())})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded():
    return torch.Generator().manual_seed(1)


def test_a_photo_prepared_saved_or_raw_gives_the_same_bytes(with_figures, figure_networks, tiny_folder, tmp_path):
    photo, garment = photo_of(FIGURE, (60, 20, 180, 300)), random_image(90, 120, seed=1)
    raw = with_figures(photo, garment, num_inference_steps=1, generator=seeded())
    prepared = with_figures.prepare(photo)
    assert prepared.frame_agnostic is None
    prepared.save(tmp_path / "saved")
    loaded = TryOnInputs.load(tmp_path / "saved")
    prepared_garment = with_figures.prepare_garment(garment)
    expected = raw.images[0].tobytes()
    for person, cloth in (
        (prepared, garment),
        (loaded, garment),
        (photo, prepared_garment),
        (loaded, prepared_garment),
    ):
        image = with_figures(person, cloth, num_inference_steps=1, generator=seeded()).images[0]
        assert image.tobytes() == expected

    photo.save("photo.png")
    garment.save("garment.png")
    options = ["--model", str(tiny_folder), "--device", "cpu", "--steps", "1", "--seed", "1", "--dtype", "fp32"]
    assert main(["try-on", "photo.png", "garment.png", "--output", "one.png", *options]) == 0
    assert main(["prepare", "photo.png", "--output", "ready", "--device", "cpu"]) == 0
    assert main(["try-on", "--inputs", "ready", "garment.png", "--output", "two.png", *options]) == 0
    one, two = (np.asarray(Image.open(name)).astype(int) for name in ("one.png", "two.png"))
    assert (one == two).all()
    # weights that were loaded lie elsewhere in memory, which changes the last bits of sums
    assert np.abs(one - np.asarray(raw.images[0])).max() <= 1


def test_a_derived_agnostic_image_given_back_changes_nothing(with_figures):
    photo, garment = photo_of(FIGURE, (60, 20, 180, 300)), random_image(seed=1)
    prepared = with_figures.prepare(photo)
    size = with_figures.default_size
    own = prepared.replace(frame_agnostic=prepared.agnostic_at(size))
    first, second = (with_figures.prepare_conditioning([inputs], size) for inputs in (prepared, own))
    assert torch.equal(first, second)
    images = [with_figures(i, garment, num_inference_steps=1, generator=seeded()).images[0] for i in (prepared, own)]
    assert images[0].tobytes() == images[1].tobytes()


def test_the_derived_image_that_earlier_versions_saved_is_nobodys_own(with_figures, tmp_path):
    prepared = with_figures.prepare(photo_of(FIGURE, (60, 20, 180, 300)))
    derived = derive_agnostic(prepared.frame_person, prepared.frame_mask, prepared.frame_person.size)
    prepared.replace(frame_agnostic=derived).save(tmp_path / "old")
    assert (tmp_path / "old" / "agnostic.png").is_file()
    assert TryOnInputs.load(tmp_path / "old").frame_agnostic is None
    own = random_image(*prepared.frame_person.size, seed=4)
    prepared.replace(frame_agnostic=own).save(tmp_path / "own")
    assert TryOnInputs.load(tmp_path / "own").frame_agnostic.tobytes() == own.tobytes()


def test_the_data_readers_agnostic_image_is_the_pipelines(pipeline, tmp_path):
    size = pipeline.default_size
    large = (size[0] * 3, size[1] * 3)
    parts = {"person": random_image(*large), "garment": random_image(seed=1), "mask": mask_image(*large)}
    parts["densepose"] = random_image(*large, seed=2)
    for part, image in parts.items():
        (tmp_path / part).mkdir()
        image.save(tmp_path / part / "one.png")
    item = FolderDataset(tmp_path, size=size)[0]
    inputs = TryOnInputs.from_maps(parts["person"], mask=parts["mask"], densepose=parts["densepose"])
    assert np.array_equal(item["agnostic"], np.asarray(inputs.agnostic_at(size)))
    maps = {part: item[part] for part in ("mask", "densepose", "agnostic")}
    read = TryOnInputs.from_maps(item["person"], **maps)
    assert torch.equal(pipeline.prepare_conditioning([read], size), pipeline.prepare_conditioning([inputs], size))


def test_masks_of_the_photo_and_of_the_frame_are_told_apart(pipeline):
    photo = random_image(160, 80)
    whole = Image.new("L", photo.size)
    whole.paste(255, (60, 20, 90, 70))
    inputs = TryOnInputs.from_maps(
        photo, mask=whole, densepose=random_image(160, 80, seed=2), aspect=pipeline.default_size
    )
    assert inputs.frame.size != photo.size
    again = inputs.replace(mask=whole)
    assert again.frame_mask.tobytes() == inputs.frame_mask.tobytes()
    of_frame = Image.new("L", inputs.frame.size)
    of_frame.paste(255, (0, 0, 10, 10))
    assert inputs.replace(frame_mask=of_frame).frame_mask.getbbox() == (0, 0, 10, 10)
    colours = random_image(160, 80, seed=5)
    for name in ("densepose", "agnostic"):
        framed = getattr(inputs.replace(**{name: colours}), f"frame_{name}")
        assert framed.tobytes() == inputs.frame.crop(colours).tobytes()


def test_each_image_is_decoded_once(with_figures, tmp_path, monkeypatch):
    photo_of(FIGURE, (60, 20, 180, 300)).save(tmp_path / "photo.png")
    random_image(seed=1).save(tmp_path / "garment.png")
    opened, real = [], Image.open

    def counting(file, *arguments, **options):
        opened.append(str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", counting)
    with_figures(tmp_path / "photo.png", tmp_path / "garment.png", num_inference_steps=1)
    assert sorted(opened) == [str(tmp_path / "garment.png"), str(tmp_path / "photo.png")]


def test_an_image_that_is_decoded_is_not_copied_again(with_figures):
    photo = photo_of(FIGURE, (60, 20, 180, 300))
    output = with_figures(photo, random_image(seed=1), num_inference_steps=1)
    assert output.inputs[0].photo is photo


def test_a_prepared_garment_is_not_prepared_again(with_figures, monkeypatch):
    from stableviton_sdk.pipelines import pipeline_tryon

    garment = with_figures.prepare_garment(random_image(90, 120, seed=1))
    monkeypatch.setattr(pipeline_tryon, "prepare_garment", lambda *_, **__: pytest.fail("prepared again"))
    attention = with_figures(**call_arguments(garment=[garment, garment], output_attention=True)).attention
    assert attention.garments[0] is garment
    x, y, _ = attention.source_of(20, 30)
    assert 0 <= x < garment.original.width
    assert 0 <= y < garment.original.height
