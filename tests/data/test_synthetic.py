"""Rendered data: determinism, no leak, true correspondence, labels, the preview."""

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stableviton_sdk.data.synthetic import (
    Stage,
    SyntheticDataset,
    assemble,
    garment_from_coordinates,
    one_thread,
    render,
    render_pair,
    sample_body,
    sample_garment,
)
from stableviton_sdk.data.synthetic.cut import NECKLINES, SLEEVES
from stableviton_sdk.data.synthetic.geometry import Arm, Torso
from stableviton_sdk.data.synthetic.preview import COLUMNS, contact_sheet, correspondence_colours, main, parse_colours
from stableviton_sdk.data.synthetic.texture import GRAPHICS, PATTERNS
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.preprocessing.labels import CIHP
from stableviton_sdk.preprocessing.masks.agnostic import agnostic_mask

ROOT = Path(__file__).parents[2]
SEED = 2026
STYLES = ("studio", "shifted")
DIGEST = """
import hashlib
from stableviton_sdk.data.synthetic import render_pair
digest = hashlib.sha256()
for style, index in (("shifted", 4), ("studio", 9), ("studio", 2)):
    for name, value in sorted(render_pair(2026, index, style).as_dict().items()):
        digest.update(name.encode() + (value.tobytes() if hasattr(value, "tobytes") else str(value).encode()))
"""


@pytest.fixture(scope="module")
def pairs():
    """140 studio samples and 100 shifted ones."""
    return [
        render_pair(SEED, index, style)
        for style, count in zip(STYLES, (140, 100), strict=True)
        for index in range(count)
    ]


def draw(index, style="studio", size=(192, 256), **fixed):
    body = sample_body(np.random.default_rng([SEED, index, 1]), style)
    return body, sample_garment(np.random.default_rng([SEED, index, 2]), style, size, **fixed)


def run(code):
    """What a fresh Python prints, with this checkout's package."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


# --- the same everywhere ---------------------------------------------------------------------------------------------


def test_a_sample_is_identical_in_another_process_and_whatever_was_rendered_before():
    code = DIGEST + "print(digest.hexdigest())"
    other = run(code)
    render_pair(1, 0)
    np.random.seed(5)
    here = {}
    exec(DIGEST, here)
    assert here["digest"].hexdigest() == other


def test_rendering_leaves_numpys_global_generator_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    render_pair(SEED, 0)
    assert np.array_equal(np.random.get_state()[1], before)


def test_seed_index_and_style_each_change_the_sample():
    reference = render_pair(SEED, 0)
    for other in (render_pair(SEED + 1, 0), render_pair(SEED, 1), render_pair(SEED, 0, "shifted")):
        assert (reference.person != other.person).mean() > 0.2
        assert (reference.garment != other.garment).mean() > 0.1


def test_rendering_imports_no_torch():
    code = "import sys; from stableviton_sdk.data import synthetic as data; data.render_pair(0, 0)"
    code += "; print('torch' in sys.modules)"
    assert run(code) == "False"


# --- nothing of a garment leaks --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_garment_pixel_shows_outside_of_the_mask(pairs):
    for sample in pairs:
        assert not (sample.worn_mask & ~sample.mask).any()
        assert not (sample.worn_mask_other & ~sample.mask).any()


def test_both_images_of_a_person_are_equal_outside_of_the_mask_and_differ_inside(pairs):
    for sample in pairs:
        differs = (sample.person != sample.person_in_other).any(axis=-1)
        assert not (differs & ~sample.mask).any()
        assert differs.sum() > 300


def test_the_mask_does_not_tell_which_garment_is_worn(pairs):
    for sample in pairs[::4]:
        assert np.array_equal(sample.mask, agnostic_mask(sample.other_rendering.parsing, sample.keypoints))


def test_another_garment_changes_not_one_byte_of_the_agnostic_image():
    for index, (sleeve, style) in enumerate([(sleeve, style) for sleeve in SLEEVES for style in STYLES] * 2):
        sample = render_pair(SEED, index, style)
        garment = sample_garment(np.random.default_rng([SEED, index, 7]), style, sleeve=sleeve)
        swapped = assemble(sample.body, garment, sample.other)
        assert np.array_equal(sample.agnostic, swapped.agnostic)
        assert (sample.agnostic[sample.mask] == 128).all()


def test_the_mask_is_no_larger_than_the_rule_needs(pairs):
    ratios = {"long": [], "none": []}
    for sample in pairs:
        for garment, rendering in ((sample.worn, sample.worn_rendering), (sample.other, sample.other_rendering)):
            if garment.cut.sleeve in ratios:
                ratios[garment.cut.sleeve].append(sample.mask.sum() / rendering.worn_mask.sum())
    assert len(ratios["long"]) > 100
    assert max(ratios["long"]) <= 2.5
    assert len(ratios["none"]) > 50
    assert max(ratios["none"]) <= 4.0


@pytest.mark.parametrize("size", [(96, 128), (384, 512)])
def test_nothing_leaks_at_other_sizes_either(size):
    for index in range(12 if size[1] < 256 else 4):
        sample = render_pair(SEED, index, STYLES[index % 2], size)
        assert sample.person.shape == sample.garment.shape == (*size[::-1], 3)
        touched = sample.worn_mask | sample.worn_mask_other | (sample.person != sample.person_in_other).any(axis=-1)
        assert not (touched & ~sample.mask).any()


# --- correspondence --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(192, 256), (96, 128)])
def test_a_garment_painted_with_its_coordinates_comes_back_within_half_a_pixel(style, size):
    shares = []
    for index in range(16):
        body, garment = draw(index, style, size)
        rendering = render(body, garment_from_coordinates(garment), shading=False)
        whole = rendering.coverage >= 1 - 1e-6  # at a seam or an edge, a pixel shows a mixture
        shares.append(whole.sum() / rendering.worn_mask.sum())
        error = rendering.person[..., :2] - rendering.correspondence
        assert np.hypot(*error[whole].T).max() <= 0.5
        assert np.array_equal(np.isfinite(rendering.correspondence).all(axis=-1), rendering.worn_mask)
    assert min(shares) > (0.6 if size[1] == 256 else 0.4)


def test_the_worn_fabric_is_the_flat_image_at_the_corresponding_positions():
    for index in range(8):
        body, garment = draw(index, sleeve=list(SLEEVES)[index % 4])
        rendering = render(body, garment, shading=False)
        x, y = np.moveaxis(np.nan_to_num(rendering.correspondence), -1, 0)
        expected = cv2.remap(garment.image, x, y, cv2.INTER_LINEAR)
        inner = cv2.erode((rendering.coverage >= 1 - 1e-6).astype(np.uint8), np.ones((3, 3))) > 0
        error = np.abs(rendering.person.astype(float) - expected)[inner]
        assert error.mean() < 5  # the person is drawn at twice the resolution and averaged: fine prints blur a little
        assert np.median(error) <= 1


def test_correspondence_points_onto_the_flat_garment(pairs):
    for sample in pairs[::6]:
        solid = sample.worn_rendering.coverage > 0.6
        x, y = np.rint(sample.correspondence[solid]).astype(int).T
        near = cv2.dilate(sample.worn.mask.astype(np.uint8), np.ones((5, 5)))
        assert near[y, x].all()


def test_shading_darkens_the_fabric_without_moving_it():
    body, garment = draw(3, sleeve="long", pattern="solid", graphic="none")
    shaded, plain = render(body, garment), render(body, garment, shading=False)
    assert np.array_equal(shaded.correspondence, plain.correspondence, equal_nan=True)
    whole = plain.coverage >= 1 - 1e-6
    assert 0.7 < shaded.person[whole].mean() / plain.person[whole].mean() < 0.98
    assert np.array_equal(shaded.person[~plain.worn_mask], plain.person[~plain.worn_mask])


@pytest.mark.parametrize("bend", [-110, -40, 0, 25, 115])
def test_an_arms_map_and_its_inverse_agree(bend):
    direction = np.radians(20 + bend)
    wrist = (
        80 + 50 * np.sin(np.radians(20)) + 42 * np.sin(direction),
        60 + 50 * np.cos(np.radians(20)) + 42 * np.cos(direction),
    )
    arm = Arm((80.0, 60.0), (80 + 50 * np.sin(np.radians(20)), 60 + 50 * np.cos(np.radians(20))), wrist, 50.0)
    s, t = np.meshgrid(np.linspace(-0.1, 1.05, 30), np.linspace(-0.2, 0.2, 9))
    points = arm.to_canvas(np.stack([s.ravel(), t.ravel()], axis=1))
    x, y = points.astype(np.float32).T
    back = arm.to_fabric(x[None], y[None])
    assert np.abs(back[0][0] - s.ravel()).max() < 1e-4
    assert np.abs(back[1][0] - t.ravel()).max() < 1e-4


def test_the_torsos_map_and_its_inverse_agree():
    torso = Torso((95.0, 80.0), 55.0, 78.0, 0.06, -0.07, 0.52, 0.45, 0.55)
    u, v = np.meshgrid(np.linspace(-1.15, 1.15, 21), np.linspace(-0.25, 1.03, 25))
    points = torso.to_canvas(np.stack([u.ravel(), v.ravel()], axis=1))
    back = torso.to_fabric(points[:, 0], points[:, 1])
    assert np.abs(back[0] - u.ravel()).max() < 1e-4
    assert np.abs(back[1] - v.ravel()).max() < 1e-9


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_at_least_six_of_ten_garments_are_textured_in_flag_and_in_pixels(pairs):
    garments = [garment for sample in pairs for garment in (sample.worn, sample.other)]
    visible = []
    for garment in garments:
        inside = garment.image[cv2.erode(garment.mask.astype(np.uint8), np.ones((9, 9))) > 0].astype(int)
        far = np.abs(inside - np.median(inside, axis=0)).max(axis=1) > 30
        visible.append(far.mean() > 0.02)
    flags = np.array([garment.design.textured for garment in garments])
    visible = np.array(visible)
    assert flags.mean() >= 0.6
    assert visible.mean() >= 0.6
    assert (flags & visible).mean() >= 0.6


def test_every_cut_and_every_fabric_occurs_or_can_be_asked_for(pairs):
    garments = [garment for sample in pairs for garment in (sample.worn, sample.other)]
    assert {garment.cut.sleeve for garment in garments} == set(SLEEVES)
    assert {garment.cut.neckline for garment in garments} == set(NECKLINES)
    assert {garment.design.pattern for garment in garments} >= set(PATTERNS) - {"checkerboard"}
    for name, choices in (("pattern", PATTERNS), ("graphic", GRAPHICS), ("neckline", NECKLINES)):
        for choice in choices:
            garment = sample_garment(np.random.default_rng(0), **{name: choice})
            part = garment.cut if name == "neckline" else garment.design
            assert (part.graphic.kind if name == "graphic" else getattr(part, name)) == choice
            assert len(np.unique(garment.image.reshape(-1, 3), axis=0)) > 8


def test_flat_garments_lie_on_the_grey_canvas_inside_its_margins(pairs):
    for sample in pairs[::5]:
        image, mask = sample.garment, sample.worn.mask
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 246).all()
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert min(rows[0], columns[0], 255 - rows[-1], 191 - columns[-1]) >= 2
        assert 0.08 < mask.mean() < 0.7


def test_sleeves_end_where_their_cut_says():
    body = next(body for body in (draw(i)[0] for i in range(50)) if all(abs(arm.turn) < 0.4 for arm in body.arms))
    covered = []
    for sleeve in ("none", "short", "elbow", "long"):
        garment = sample_garment(np.random.default_rng(4), sleeve=sleeve, fit="regular")
        parse = render(body, garment).parsing
        covered.append(np.isin(parse, (CIHP.LEFT_ARM, CIHP.RIGHT_ARM)).sum())
    assert covered[0] > covered[1] > covered[2] > covered[3] > 0


def test_joints_lie_on_the_body_parts_that_densepose_names(pairs):
    own = {1: (2,), 3: (16, 18, 20, 22), 6: (15, 17, 19, 21), 4: (3, 20, 22), 7: (4, 19, 21), 0: (23, 24)}
    limbs = (3, 4, *range(15, 23))  # one arm may hide the other, or the neck
    hidden = 0
    for sample in pairs:
        assert (sample.keypoints[[1, 2, 3, 4, 5, 6, 7, 8, 9, 12], 2] > 0).all()
        for joint, parts in own.items():
            x, y = np.rint(sample.keypoints[joint, :2]).astype(int)
            found = sample.densepose_labels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            assert np.isin(found, parts + limbs).any(), joint
            hidden += not np.isin(found, parts).any()
        seen = sample.keypoints[:, 2] > 0
        assert (sample.keypoints[seen, :2] >= -0.5).all()
        assert (sample.keypoints[seen, :2] < (192, 256)).all()
        assert (sample.keypoints[~seen] == 0).all()
    assert hidden < 0.02 * len(pairs) * len(own)


def test_right_and_left_are_the_persons_own(pairs):
    for sample in pairs[::8]:
        assert sample.keypoints[2, 0] < sample.keypoints[5, 0]
        columns = np.arange(192)[None]
        where = [
            (columns * (sample.densepose_labels == label)).sum() / (sample.densepose_labels == label).sum()
            for label in (9, 10)
        ]
        assert where[0] < where[1]


def test_the_densepose_image_has_the_preprocessings_palette(pairs):
    from stableviton_sdk.preprocessing.densepose import labels_from_image

    sample = pairs[0]
    assert np.array_equal(labels_from_image(sample.densepose), sample.densepose_labels)
    found = set(np.unique(np.concatenate([other.densepose_labels.ravel() for other in pairs])).tolist())
    assert found <= set(range(25))
    assert found >= {0, 2, 3, 4, 9, 10, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}


def test_densepose_sees_through_clothes(pairs):
    stage = Stage(pairs[0].body)
    assert np.array_equal(stage.densepose(), pairs[0].densepose_labels)
    body_parts = np.isin(pairs[0].densepose_labels, (2, *range(15, 23)))
    assert (body_parts & pairs[0].worn_mask).sum() > 0.7 * pairs[0].worn_mask.sum()


def test_the_parse_labels_upper_clothes_where_the_garment_shows(pairs):
    for sample in pairs[::5]:
        upper = sample.parsing == CIHP.UPPER_CLOTHES
        assert not (upper & ~sample.worn_mask).any()
        assert not ((sample.worn_rendering.coverage > 0.99) & ~upper).any()
        labels = set(np.unique(sample.parsing).tolist())
        assert labels <= {0, 2, 4, 5, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19}
        assert labels >= {CIHP.UPPER_CLOTHES, CIHP.FACE}
        face, lower = (np.argwhere(np.isin(sample.parsing, kinds))[:, 0].mean() for kinds in (13, (9, 12)))
        assert face < np.argwhere(upper)[:, 0].mean() < lower


def test_the_shifted_style_is_another_domain(pairs):
    heads, colours = [], []
    for group in (pairs[:100], pairs[140:]):
        heads.append(np.mean([sample.body.head.half_height / sample.body.unit for sample in group]))
        colours.append(np.mean([np.ptp(sample.person[:20].astype(int), axis=-1).mean() for sample in group]))
    assert heads[1] > 1.15 * heads[0]
    assert colours[1] > 1.5 * colours[0]


def test_the_person_can_put_on_any_further_garment(pairs):
    sample = pairs[1]
    assert np.array_equal(sample.person_in(sample.other), sample.person_in_other)
    third = sample_garment(np.random.default_rng(99), sleeve="long")
    image = sample.person_in(third)
    assert np.array_equal(image[~sample.mask], sample.person[~sample.mask])
    assert not np.array_equal(image, sample.person)


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loader_with_two_workers_gives_what_direct_rendering_gives():
    from torch.utils.data import DataLoader

    data = SyntheticDataset(5, seed=SEED, size=(96, 128))
    # spawned: OpenCV's and OpenMP's thread pools don't survive a fork
    loader = DataLoader(data, batch_size=2, num_workers=2, worker_init_fn=one_thread, multiprocessing_context="spawn")
    batches = list(loader)
    assert [len(batch["person"]) for batch in batches] == [2, 2, 1]
    for index in range(5):
        direct = render_pair(SEED, index, size=(96, 128))
        for name, value in direct.as_dict().items():
            loaded = np.asarray(batches[index // 2][name][index % 2])
            assert np.array_equal(loaded, value, equal_nan=name.startswith("correspondence")), name


def test_the_data_set_indexes_like_a_sequence_and_transforms():
    data = SyntheticDataset(3, seed=SEED, style="shifted", size=(96, 128), transform=lambda sample: sample.person)
    assert len(data) == 3
    assert np.array_equal(data[-1], render_pair(SEED, 2, "shifted", (96, 128)).person)
    assert len(list(data)) == 3
    with pytest.raises(IndexError, match="3 samples"):
        data[3]


def test_hashes_of_items_do_not_depend_on_the_order_of_access():
    data = SyntheticDataset(4, seed=1, size=(96, 128), transform=lambda s: hashlib.md5(s.person.tobytes()).hexdigest())
    forwards = [data[i] for i in range(4)]
    assert [data[i] for i in reversed(range(4))] == forwards[::-1]
    assert len(set(forwards)) == 4


# --- refused at the door ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1, 0), "seed is -1"),
        ((0, 1.5), "index is 1.5"),
        ((0, True), "index is True"),
        ((0, 0, "cartoon"), "no style 'cartoon'"),
        ((0, 0, None), "no style None"),
        ((0, 0, "studio", (256, 256)), "3:4"),
        ((0, 0, "studio", (32, 24)), "3:4"),
        ((0, 0, "studio", (8192, 6144)), "3:4"),
        ((0, 0, "studio", 256), "width, height"),
        ((0, 0, "studio", (256.5, 192.3)), "3:4"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        render_pair(*arguments)


def test_unknown_parts_of_a_garment_are_refused_with_the_known_ones():
    for name in ("neckline", "sleeve", "fit", "pattern", "graphic"):
        with pytest.raises(InvalidInput, match=f"no {name} 'nonsense': use one of"):
            sample_garment(np.random.default_rng(0), **{name: "nonsense"})


def test_a_seed_in_place_of_a_generator_is_refused():
    for draw_something in (sample_body, sample_garment):
        with pytest.raises(InvalidInput, match="rng is a int: pass a numpy generator"):
            draw_something(7)


def test_a_garment_of_another_size_is_refused():
    body, garment = draw(0, size=(96, 128))
    with pytest.raises(InvalidInput, match="draw both at one size"):
        Stage(body).dress(garment)


# --- preview ---------------------------------------------------------------------------------------------------------


def test_the_preview_command_writes_the_sheet_it_names(tmp_path, capsys):
    path = tmp_path / "deep" / "sheet.png"
    main(
        ["--output", str(path), "--count", "2", "--style", "shifted", "--height", "128", "--start", "3", "--seed", "8"]
    )
    assert "2 samples" in capsys.readouterr().out
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (2 * 130 - 2, len(COLUMNS) * 98 - 2, 3)
    samples = [render_pair(8, index, "shifted", (96, 128)) for index in (3, 4)]
    assert np.array_equal(sheet, np.asarray(contact_sheet(samples)))
    assert np.array_equal(sheet[130:258, :96], samples[1].person)
    assert np.array_equal(sheet[:128, 3 * 98 : 3 * 98 + 96], samples[0].person_in_other)


def test_the_preview_refuses_nonsense_with_a_usage_message(tmp_path, capsys):
    for wrong in (["--count", "0"], ["--style", "cartoon"], []):
        with pytest.raises(SystemExit):
            main([*(["--output", str(tmp_path / "a.png")] if wrong else []), *wrong])
    assert "usage" in capsys.readouterr().err


def test_correspondence_and_parse_colours_are_readable():
    ramp = np.full((4, 5, 2), np.nan, np.float32)
    ramp[1, 2] = (4, 3)
    ramp[2, 2] = (0, 0)
    colours = correspondence_colours(ramp)
    assert colours[0, 0].tolist() == [0, 0, 0]
    assert colours[1, 2].tolist() == [255, 255, 110]
    assert colours[2, 2].tolist() == [0, 0, 110]
    palette = parse_colours().astype(int)
    distances = np.abs(palette[:, None] - palette[None]).sum(axis=-1) + 999 * np.eye(20, dtype=int)
    assert distances.min() > 24
