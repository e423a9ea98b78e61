"""Pairs to evaluate, from every kind of data set."""

import json

import numpy as np
import pytest
from PIL import Image
from support.data_sets import HEIGHT, NAMES, SIZE, WIDTH, put
from support.tiny import mask_image, random_image

from stableviton_sdk.cli.entry import main
from stableviton_sdk.data.pair_dataset import BadDataSet
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.data import RenderedData, load_data, recognise
from stableviton_sdk.images import load_image, load_mask
from stableviton_sdk.preprocessing.inputs import TryOnInputs


def array(image):
    return np.asarray(image)


@pytest.fixture
def listed(tmp_path):
    """Photos, garments and maps in one folder, to be listed."""
    root = tmp_path / "listed"
    for seed in range(3):
        put(root, f"p{seed}.png", random_image(seed=seed))
        put(root, f"g{seed}.png", random_image(40, 40, seed=10 + seed))
    put(root, "m.png", mask_image())
    put(root, "d.png", random_image(seed=20))
    put(root, "t.png", random_image(seed=30))
    return root


def write(path, *rows):
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


# viton-hd, dress-code, folder (the fixtures are those of the readers)


def test_viton_hd_pairs_are_the_test_splits(viton_hd):
    paired = load_data(viton_hd, size=SIZE)
    assert paired.kind == "viton-hd"
    assert paired.names == [f"{name}_{name}" for name in NAMES]
    case = paired[1]
    np.testing.assert_array_equal(case.truth, array(random_image(seed=1)))
    np.testing.assert_array_equal(case.garment, array(random_image(seed=11)))
    np.testing.assert_array_equal(case.agnostic, array(random_image(seed=31)))
    unpaired = load_data(viton_hd, size=SIZE, setting="unpaired")
    assert unpaired.names[0] == f"{NAMES[0]}_{NAMES[1]}"
    assert unpaired[0].truth is None
    np.testing.assert_array_equal(unpaired[0].garment, array(random_image(seed=11)))
    assert len(load_data(viton_hd, size=SIZE, limit=2)) == 2


def test_scoring_needs_the_photos_only(viton_hd):
    import shutil

    for folder in ("image-densepose", "agnostic-v3.2", "agnostic-mask", "cloth"):
        shutil.rmtree(viton_hd / "test" / folder)
    with pytest.raises(BadDataSet, match="agnostic-mask"):
        load_data(viton_hd, size=SIZE)
    case = load_data(viton_hd, size=SIZE, for_inference=False)[0]
    np.testing.assert_array_equal(case.truth, array(random_image(seed=0)))
    assert case.mask is None
    assert case.garment is None


def test_dress_code_is_upper_bodies(dress_code):
    data = load_data(dress_code, size=SIZE, setting="unpaired")
    assert (data.kind, data.names) == ("dress-code", ["000001_0_000002_1"])
    np.testing.assert_array_equal(data[0].garment, array(random_image(seed=11)))
    assert len(load_data(dress_code / "upper_body", size=SIZE)) == 2
    assert load_data(dress_code, size=SIZE, for_inference=False)[0].densepose is None


def test_a_plain_folder_is_paired_or_lists_other_garments(plain):
    assert load_data(plain, size=SIZE)[2].truth is not None
    with pytest.raises(InvalidInput, match="own garments"):
        load_data(plain, size=SIZE, setting="unpaired")
    write(plain / "pairs.txt", f"{NAMES[0]}.png {NAMES[1]}.png")
    with pytest.raises(InvalidInput, match="other garments"):
        load_data(plain, size=SIZE)
    assert load_data(plain, size=SIZE, setting="unpaired")[0].truth is None


# lists


def test_csv_and_jsonl_say_the_same(listed):
    table = write(
        listed / "pairs.csv",
        "person,garment,mask,densepose,truth",
        "p0.png,g1.png,m.png,d.png,t.png",
        "p1.png,g2.png,,,",
    )
    row = {"person": "p0.png", "garment": "g1.png", "mask": "m.png", "densepose": "d.png", "truth": "t.png"}
    lines = write(
        listed / "pairs.jsonl",
        json.dumps(row),
        "",
        json.dumps({"person": "p1.png", "garment": "g2.png", "mask": None}),
    )
    for path in (table, lines):
        data = load_data(path, size=SIZE, setting="unpaired")
        assert data.names == ["p0_g1", "p1_g2"]
        first, second = data[0], data[1]
        np.testing.assert_array_equal(first.truth, array(random_image(seed=30)))
        np.testing.assert_array_equal(first.mask, array(mask_image()) >= 128)
        np.testing.assert_array_equal(first.agnostic[first.mask], 128)
        np.testing.assert_array_equal(first.agnostic[~first.mask], first.person[~first.mask])
        assert first.garment.shape == (40, 40, 3)  # its own size: the pipeline puts it on the canvas
        assert second.mask is second.densepose is second.truth is None
        assert data.lacks_maps
    assert (
        data.describe()["pairs_sha256"] == load_data(table, size=SIZE, setting="unpaired").describe()["pairs_sha256"]
    )


def test_everything_wrong_with_a_list_is_named(listed):
    (listed / "broken.png").write_bytes(b"\x89PNG half")
    rows = ["p0.png,g0.png", "nobody.png,g1.png", "p1.png,", "broken.png,g2.png"]
    with pytest.raises(BadDataSet) as error:
        load_data(write(listed / "a.csv", "person,garment", *rows), size=SIZE)
    assert "line 4: there is no garment" in str(error.value)
    with pytest.raises(BadDataSet) as error:
        load_data(write(listed / "b.csv", "person,garment", rows[0], rows[1], rows[3]), size=SIZE)
    assert len(error.value.problems) == 2
    assert "nobody.png is missing" in str(error.value)
    assert "broken.png" in str(error.value)
    for content, words in (
        ('{"person": "p0.png", "garmet": "g0.png"}', "garmet"),
        ("not json", "JSON object"),
        ('{"person": 3, "garment": "g0.png"}', "must be text"),
        ("[1, 2]", "JSON object"),
        ("", "empty"),
    ):
        with pytest.raises(BadDataSet, match=words):
            load_data(write(listed / "c.jsonl", content), size=SIZE)


def test_photos_of_one_name_in_two_folders_are_two_persons(listed):
    for seed, folder in enumerate(("a", "b")):
        put(listed / folder, "1.png", random_image(seed=seed))
    rows = ["a/1.png,g0.png", "b/1.png,g0.png", "p0.png,g1.png"]
    data = load_data(write(listed / "a.csv", "person,garment", *rows), size=SIZE)
    assert data.names == ["a-1_g0", "b-1_g0", "p0_g1"]
    assert [data[index].person_name for index in range(3)] == ["a-1", "b-1", "p0"]


def test_maps_that_dont_show_the_whole_photo_are_all_named(listed):
    put(listed, "square.png", mask_image(64, 64))
    put(listed, "wide.png", random_image(64, 48))
    rows = ["p0.png,g0.png,square.png,d.png,", "p1.png,g1.png,m.png,wide.png,", "p2.png,g2.png,m.png,d.png,wide.png"]
    with pytest.raises(BadDataSet) as error:
        load_data(write(listed / "a.csv", "person,garment,mask,densepose,truth", *rows), size=SIZE)
    assert [problem.split(" for ")[0].split("/")[-1] for problem in error.value.problems] == [
        "square.png is 64 x 64",
        "wide.png is 64 x 48",
    ]


def test_flaws_of_the_data_are_all_named_on_the_command_line(plain, tmp_path, capsys):
    (plain / "person" / f"{NAMES[0]}.png").write_bytes(b"\x89PNG half")
    (plain / "mask" / f"{NAMES[1]}.png").unlink()
    random_image(64, 64).save(plain / "garment" / f"{NAMES[2]}.png")
    arguments = ["evaluate", plain, "--size", "48x64", "--results", plain / "person", "--output", tmp_path / "run"]
    assert main([*map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert "3 problems" in error
    assert all(name in error for name in NAMES)
    assert not (tmp_path / "run").exists()


def test_two_pairs_of_one_name_are_refused(listed):
    path = write(listed / "a.csv", "person,garment", "p0.png,g0.png", "p0.png,g0.png")
    with pytest.raises(InvalidInput, match="p0_g0"):
        load_data(path, size=SIZE)


# persons with another set's garments


@pytest.fixture
def persons(tmp_path):
    """Tall photos, as SHHQ's, and garments of another set."""
    root, garments = tmp_path / "shhq", tmp_path / "cloth"
    for seed in range(4):
        put(root / "image", f"s{seed}.png", random_image(64, 128, seed=seed))
        mask = Image.new("L", (64, 128), 0)
        mask.paste(255, (20, 30, 44, 70))
        put(root / "agnostic-mask", f"s{seed}_mask.png", mask)
        put(root / "image-densepose", f"s{seed}.png", random_image(64, 128, seed=20 + seed))
    for seed in range(3):
        put(garments, f"c{seed}.jpg", random_image(seed=10 + seed), format="PNG")
    return root, garments


def test_tall_photos_are_framed_around_their_masks(persons):
    root, garments = persons
    data = load_data(root, garments=garments, size=SIZE, setting="unpaired")
    assert data.kind == "persons"
    assert not data.lacks_maps
    case = data[0]
    # a crop of 64 x 85 around rows 30 to 70, brought to 64 x 48
    top = 50 - 85 // 2
    expected = array(
        random_image(64, 128, seed=0).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=(0, top, 64, top + 85))
    )
    assert np.abs(case.person.astype(int) - expected).mean() < 3
    assert case.person.shape == (HEIGHT, WIDTH, 3)
    assert case.mask.any()
    np.testing.assert_array_equal(case.agnostic[case.mask], 128)
    assert case.truth is None


def test_framed_photos_have_the_pipelines_frame_and_agnostic_image(persons):
    root, garments = persons
    photo, densepose = (load_image(root / folder / "s0.png") for folder in ("image", "image-densepose"))
    mask = load_mask(root / "agnostic-mask" / "s0_mask.png").resize((32, 64))  # half the photo's size
    mask.save(root / "agnostic-mask" / "s0_mask.png")
    pair = load_data(root, garments=garments, size=SIZE, setting="unpaired")[0]
    inputs = TryOnInputs.from_maps(photo, mask=mask, densepose=densepose, aspect=SIZE)
    np.testing.assert_array_equal(pair.person, array(inputs.frame.crop(photo, SIZE)))
    again = TryOnInputs.from_maps(pair.person, mask=pair.mask, densepose=pair.densepose)
    np.testing.assert_array_equal(pair.agnostic, array(again.agnostic_at(SIZE)))


def test_the_choice_of_garments_follows_from_seed_and_name_alone(persons):
    root, garments = persons
    pairs = dict(load_data(root, garments=garments, size=SIZE, setting="unpaired").pairs)
    (root / "image" / "s0.png").unlink()
    again = dict(load_data(root, garments=garments, size=SIZE, setting="unpaired").pairs)
    assert again == {name: garment for name, garment in pairs.items() if name != "s0"}
    others = [load_data(root, garments=garments, size=SIZE, setting="unpaired", seed=seed).pairs for seed in range(6)]
    assert len({tuple(other) for other in others}) > 1


def test_listed_pairs_of_persons_and_garments_are_followed_and_missing_ones_named(persons, tmp_path):
    root, garments = persons
    path = write(tmp_path / "pairs.txt", "s1.png c2.jpg", "s1.png c0.jpg", "s9.png c0.jpg")
    with pytest.raises(BadDataSet, match=r"s9\.png is missing"):
        load_data(root, garments=garments, pairs=path, size=SIZE, setting="unpaired")
    data = load_data(root, garments=garments, pairs=path, size=SIZE, setting="unpaired", limit=2)
    assert data.names == ["s1_c2", "s1_c0"]
    with pytest.raises(InvalidInput, match="unpaired"):
        load_data(root, garments=garments, size=SIZE)


# rendered figures


def test_rendered_figures_know_the_unpaired_truth():
    sample = render_pair(5, 1, "shifted", SIZE)
    for setting, garment, truth in (
        ("paired", sample.garment, sample.person),
        ("unpaired", sample.garment_other, sample.person_in_other),
    ):
        case = load_data("synthetic", size=SIZE, setting=setting, limit=2, seed=5, style="shifted")[1]
        np.testing.assert_array_equal(case.garment, garment)
        np.testing.assert_array_equal(case.truth, truth)
        np.testing.assert_array_equal(case.person, sample.person)
        np.testing.assert_array_equal(case.mask, sample.mask)
    assert RenderedData(3, SIZE).describe() != RenderedData(3, SIZE, seed=1).describe()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"setting": "both"}, "paired"),
        ({"limit": 0}, "at least 1"),
        ({"size": (100, 100)}, "3:4"),
        ({"kind": "videos"}, "viton-hd"),
        ({"pairs": "x.txt"}, "folder of persons"),
        ({"style": "cubist"}, "cubist"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InvalidInput, match=words):
        load_data("synthetic", **{"size": SIZE, **options})


def test_what_looks_like_nothing_known_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no known data set"):
        recognise(tmp_path)
    with pytest.raises(InvalidInput, match="check the path"):
        recognise(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="pass a path"):
        load_data(3)
