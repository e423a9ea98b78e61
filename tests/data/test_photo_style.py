"""Figures as shops photograph them: the same everywhere, no leak, true correspondence, and what they vary."""

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stableviton_sdk.data.synthetic import (
    SyntheticDataset,
    assemble,
    garment_from_coordinates,
    render,
    render_pair,
    sample_body,
    sample_garment,
)
from stableviton_sdk.data.synthetic.photo import garment as photo_garment
from stableviton_sdk.data.synthetic.photo.body import HAIR, LOWERS, SKIRTS
from stableviton_sdk.data.synthetic.photo.pose import POSES
from stableviton_sdk.data.synthetic.photo.torso import PROFILE_AT, ShapedTorso
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.preprocessing.labels import CIHP

ROOT = Path(__file__).parents[2]
SEED = 2027
DIGEST = """
import hashlib
from stableviton_sdk.data.synthetic import render_pair
digest = hashlib.sha256()
for index in (4, 9, 2):
    for name, value in sorted(render_pair(2027, index, "photo").as_dict().items()):
        digest.update(name.encode() + (value.tobytes() if hasattr(value, "tobytes") else str(value).encode()))
"""


@pytest.fixture(scope="module")
def samples():
    return [render_pair(SEED, index, "photo") for index in range(100)]


def draw(index, size=(192, 256), **fixed):
    body = sample_body(np.random.default_rng([SEED, index, 1]), "photo")
    return body, sample_garment(np.random.default_rng([SEED, index, 2]), "photo", size, **fixed)


def test_a_photo_sample_is_identical_in_another_process_and_whatever_was_rendered_before():
    code = DIGEST + "print(digest.hexdigest())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    render_pair(1, 0, "photo")
    render_pair(1, 0)
    here = {"hashlib": hashlib}
    exec(DIGEST, here)
    assert here["digest"].hexdigest() == other.stdout.strip()


def test_no_garment_pixel_of_a_photo_shows_outside_of_the_mask(samples):
    for sample in samples:
        assert not (sample.worn_mask & ~sample.mask).any()
        assert not (sample.worn_mask_other & ~sample.mask).any()


def test_photos_in_two_garments_are_equal_outside_of_the_mask_although_a_camera_blurs_them(samples):
    for sample in samples:
        differs = (sample.person != sample.person_in_other).any(axis=-1)
        assert not (differs & ~sample.mask).any()
        assert differs.sum() > 100


def test_another_garment_changes_neither_mask_nor_agnostic_photo():
    for index, sleeve in enumerate(photo_garment.SLEEVES):
        sample = render_pair(SEED, index, "photo")
        garment = sample_garment(np.random.default_rng([SEED, index, 7]), "photo", sleeve=sleeve)
        swapped = assemble(sample.body, garment, sample.other)
        assert np.array_equal(sample.mask, swapped.mask)
        assert np.array_equal(sample.agnostic, swapped.agnostic)
        assert np.array_equal(sample.person_in(garment), swapped.person)


def test_the_mask_of_a_photo_leaves_most_of_it_alone(samples):
    shares = [sample.mask.mean() for sample in samples]
    assert np.median(shares) < 0.5
    assert max(shares) < 0.95
    ratios = [sample.mask.sum() / sample.worn_mask.sum() for sample in samples if sample.worn.cut.sleeve == "long"]
    assert np.median(ratios) < 2.5


@pytest.mark.parametrize("size", [(96, 128), (384, 512)])
def test_no_photo_leaks_at_other_sizes_either(size):
    for index in range(12 if size[1] < 256 else 4):
        sample = render_pair(SEED, index, "photo", size)
        assert sample.person.shape == sample.garment.shape == (*size[::-1], 3)
        touched = sample.worn_mask | sample.worn_mask_other | (sample.person != sample.person_in_other).any(axis=-1)
        assert not (touched & ~sample.mask).any()


@pytest.mark.parametrize("size", [(192, 256), (96, 128)])
def test_a_photographed_garment_painted_with_its_coordinates_comes_back_within_half_a_pixel(size):
    shares = []
    for index in range(20):
        body, garment = draw(index, size)
        rendering = render(body, garment_from_coordinates(garment), shading=False)
        whole = rendering.coverage >= 1 - 1e-6  # at a seam or an edge, a pixel shows a mixture
        shares.append(whole.sum() / max(rendering.worn_mask.sum(), 1))
        error = rendering.person[..., :2] - rendering.correspondence
        assert np.hypot(*error[whole].T).max() <= 0.5
        assert np.array_equal(np.isfinite(rendering.correspondence).all(axis=-1), rendering.worn_mask)
    assert np.median(shares) > (0.6 if size[1] == 256 else 0.4)


def test_correspondence_points_onto_the_flat_garment_of_a_photo(samples):
    for sample in samples[::5]:
        solid = sample.worn_rendering.coverage > 0.6
        x, y = np.rint(sample.correspondence[solid]).astype(int).T
        near = cv2.dilate(sample.worn.mask.astype(np.uint8), np.ones((5, 5)))
        assert near[y, x].all()


@pytest.mark.parametrize("turn", [-0.35, 0.0, 0.2, 0.4])
def test_a_turned_torsos_map_and_its_inverse_agree(turn):
    profile = np.interp(PROFILE_AT, [-0.3, 0.1, 0.6, 1.3], [0.5, 0.48, 0.4, 0.52])
    torso = ShapedTorso((95.0, 80.0), 55.0, 78.0, 0.06, -0.07, 0.5, 0.4, 0.5, profile=tuple(profile), turn=turn)
    u, v = np.meshgrid(np.linspace(-1.15, 1.15, 21), np.linspace(-0.2, 1.2, 25))
    points = torso.to_canvas(np.stack([u.ravel(), v.ravel()], axis=1))
    back = torso.to_fabric(points[:, 0], points[:, 1])
    assert np.abs(back[0] - u.ravel()).max() < 1e-3
    assert np.abs(back[1] - v.ravel()).max() < 1e-6


def test_photos_cut_heads_and_legs_off_turn_bodies_and_hide_hands(samples):
    joints = np.array([sample.keypoints[:, 2] > 0 for sample in samples])
    assert 0.02 < (~joints[:, 0]).mean() < 0.3  # noses above the frame
    assert 0.3 < (~joints[:, [10, 13]].any(axis=1)).mean() < 0.95  # knees below it
    yaws = np.degrees([abs(sample.body.yaw) for sample in samples])
    assert 0.15 < (yaws > 18).mean() < 0.5
    arms = [posed for sample in samples for posed in sample.body.arms]
    assert {posed.depth for posed in arms} >= {"front", "behind", "over"}
    assert 0.1 < np.mean([posed.hand == "hidden" for posed in arms]) < 0.5
    for sample in samples:
        for side, label in ((0, 3), (1, 4)):
            hidden = sample.body.arms[side].hand == "hidden"
            assert not (hidden and (sample.densepose_labels == label).any())


def test_every_pose_lower_garment_and_hair_is_drawn():
    bodies = [sample_body(np.random.default_rng([SEED, index]), "photo") for index in range(600)]
    assert {posed.pose for body in bodies for posed in body.arms} == set(POSES)
    assert {body.lower.kind for body in bodies} == set(LOWERS)
    assert {body.hair for body in bodies} == set(HAIR)


@pytest.mark.parametrize("name", ["neckline", "sleeve", "pattern", "graphic"])
def test_every_photographed_cut_and_print_can_be_asked_for(name):
    known = getattr(
        photo_garment, {"neckline": "NECKLINES", "sleeve": "SLEEVES", "pattern": "PATTERNS"}.get(name, "GRAPHICS")
    )
    for choice in known:
        fixed = {name: choice} | ({"neckline": "crew"} if name == "sleeve" else {})
        garment = sample_garment(np.random.default_rng(0), "photo", **fixed)
        part = garment.cut if name in ("neckline", "sleeve") else garment.design
        assert (part.graphic.kind if name == "graphic" else getattr(part, name)) == choice
        assert 0.04 < garment.mask.mean() < 0.8
    with pytest.raises(InvalidInput, match=f"no {name} 'none at all'"):
        sample_garment(np.random.default_rng(0), "photo", **{name: "none at all"})


def test_labels_of_a_photo_are_the_parts_that_are_drawn(samples):
    for sample in samples[::4]:
        labels = set(np.unique(sample.parsing).tolist())
        assert labels <= {0, 2, 4, 5, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19}
        assert CIHP.UPPER_CLOTHES in labels
        assert not ((sample.parsing == CIHP.UPPER_CLOTHES) & ~sample.worn_mask).any()
        other = CIHP.TROUSERS if sample.body.lower.kind in SKIRTS else CIHP.SKIRT
        assert other not in labels
        assert set(np.unique(sample.densepose_labels).tolist()) <= set(range(25))


def test_joints_of_a_photo_lie_on_the_parts_that_densepose_names(samples):
    own = {1: (2,), 3: (16, 18, 20, 22), 6: (15, 17, 19, 21), 0: (23, 24)}
    away = seen = 0
    for sample in samples:
        for joint, parts in own.items():
            if sample.keypoints[joint, 2] == 0:
                continue
            x, y = np.rint(sample.keypoints[joint, :2]).astype(int)
            found = sample.densepose_labels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            away += not np.isin(found, parts).any()
            seen += 1
    assert seen > 250
    assert away < 0.12 * seen  # behind the body, or behind the other arm


def test_styles_take_turns_in_one_data_set():
    data = SyntheticDataset(
        6, seed=4, style=["photo", "studio", "photo"], size=(96, 128), transform=lambda sample: sample
    )
    assert [sample.body.style.name for sample in data] == ["photo", "studio", "photo"] * 2
    assert np.array_equal(data[4].person, render_pair(4, 4, "studio", (96, 128)).person)
    with pytest.raises(InvalidInput, match="no style 'cubist'"):
        SyntheticDataset(6, style=["photo", "cubist"])


@pytest.mark.slow
def test_derived_maps_come_from_the_person_in_the_garment_that_is_not_shown():
    true = SyntheticDataset(2, seed=4, style="studio", garments="both")
    derived = SyntheticDataset(2, seed=4, style="studio", garments="both", derived=1.0)
    sample = render_pair(4, 0)
    for index, (person, other) in enumerate(
        [(sample.person, sample.person_in_other), (sample.person_in_other, sample.person)]
    ):
        item, reference = derived[index], true[index]
        assert np.array_equal(item["person"], person)
        assert np.array_equal(item["correspondence"], reference["correspondence"], equal_nan=True)
        outside = ~item["mask"]
        assert np.array_equal(item["agnostic"][outside], other[outside])
        assert (item["agnostic"][item["mask"]] == 128).all()
        assert not np.array_equal(item["mask"], reference["mask"])
        assert (item["mask"] & reference["mask"]).sum() / (item["mask"] | reference["mask"]).sum() > 0.8
    mixed = SyntheticDataset(8, seed=4, garments="both", derived=0.5, size=(96, 128))
    assert (
        2
        < sum(np.array_equal(mixed[i]["mask"], render_pair(4, i // 2, "studio", (96, 128)).mask) for i in range(16))
        < 14
    )
    with pytest.raises(InvalidInput, match=r"derived is 0\.5"):
        SyntheticDataset(8, derived=0.5)
