import json
import warnings

import numpy as np
import pytest
from PIL import Image
from support.paths import SHARED

from stableviton_sdk.errors import InvalidInput, NoPersonFound
from stableviton_sdk.preprocessing.labels import CIHP
from stableviton_sdk.preprocessing.masks.agnostic import agnostic_mask

SAMPLES = SHARED / "samples" / "vitonhd"
SIZE = (1024, 768)  # height, width

# A body seen from the front, arms hanging down, symmetrical about x = 384; shoulders 256 apart, so the unit is 17
FRONT = {0: (384, 200), 1: (384, 330), 2: (256, 330), 3: (190, 540), 4: (170, 740)}
FRONT |= {5: (512, 330), 6: (578, 540), 7: (598, 740), 9: (310, 700), 12: (458, 700)}
UNIT = 17


def keypoints(joints=FRONT, *, without=()):
    array = np.zeros((25, 3))
    for joint, position in joints.items():
        if joint not in without:
            array[joint] = (*position, 0.9)
    return array


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def grid(shape=SIZE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return x.astype(float), y.astype(float)


def band(start, end, width, shape=SIZE):
    """A straight segment of a width, its ends cut off square."""
    x, y = grid(shape)
    (x0, y0), (x1, y1) = start, end
    length = np.hypot(x1 - x0, y1 - y0)
    along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length
    off = np.abs((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
    return (along >= 0) & (along <= length) & (off <= width / 2)


def disc(centre, a, b=None, shape=SIZE):
    x, y = grid(shape)
    return ((x - centre[0]) / a) ** 2 + ((y - centre[1]) / (b or a)) ** 2 <= 1


def box(left, top, right, bottom, shape=SIZE):
    x, y = grid(shape)
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)


def expected_front():
    """The upper-body rule for FRONT in closed form: shoulders and (spread) hips are 256 apart, the torso a square."""
    u = UNIT
    right_hip, left_hip = (256, 700), (512, 700)
    expected = box(256, 330, 512, 700)
    for hip in (right_hip, left_hip):
        expected |= disc(hip, 3 * u, 6 * u)
    expected |= box(256 - 3 * u, 330, 256 + 3 * u, 700) | box(512 - 3 * u, 330, 512 + 3 * u, 700)
    expected |= box(256, 700 - 6 * u, 512, 700 + 6 * u)
    expected |= box(384 - 5 * u, 330 - 9 * u, 384 + 5 * u, 330)
    expected |= box(256, 330 - 6 * u, 512, 330 + 6 * u)
    for shoulder, elbow, wrist in ((2, 3, 4), (5, 6, 7)):
        expected |= disc(FRONT[shoulder], 5 * u, 6 * u)
        expected |= band(FRONT[shoulder], FRONT[elbow], 10 * u) | disc(FRONT[elbow], 5 * u)
        expected |= band(FRONT[elbow], FRONT[wrist], 10 * u) | disc(FRONT[wrist], 5 * u)
    return expected


def dressed(shape=SIZE):
    """A parse for FRONT: sweater with sleeves, face, hair, trousers, hands."""
    parsing = np.zeros(shape, np.uint8)
    parsing[box(280, 80, 488, 260)] = CIHP.HAIR
    parsing[box(320, 120, 448, 280)] = CIHP.FACE
    parsing[box(350, 280, 418, 330)] = CIHP.TORSO_SKIN
    parsing[box(250, 320, 518, 720)] = CIHP.UPPER_CLOTHES
    parsing[box(270, 700, 498, 1023)] = CIHP.TROUSERS
    for shoulder, elbow, wrist, arm in ((2, 3, 4, CIHP.RIGHT_ARM), (5, 6, 7, CIHP.LEFT_ARM)):
        hand = disc((FRONT[wrist][0], FRONT[wrist][1] + 60), 30, 60)
        parsing[hand] = arm
        parsing[band(FRONT[shoulder], FRONT[elbow], 90) | band(FRONT[elbow], FRONT[wrist], 80)] = CIHP.UPPER_CLOTHES
        parsing[disc(FRONT[elbow], 45)] = CIHP.UPPER_CLOTHES
    return parsing


def clothes(parsing):
    return np.isin(parsing, (CIHP.UPPER_CLOTHES, CIHP.DRESS, CIHP.COAT))


def lower_or_dress(*arguments, **options):
    with pytest.warns(UserWarning, match="trained on upper bodies"):
        return agnostic_mask(*arguments, **options)


def test_the_upper_body_rule_draws_what_its_lengths_say():
    mask = agnostic_mask(np.zeros(SIZE, np.uint8), keypoints())
    assert mask.dtype == bool
    assert mask.shape == SIZE
    assert iou(mask, expected_front()) > 0.995


def test_face_and_lower_body_are_given_back_but_hair_and_hat_are_not():
    everything = expected_front()
    for label in CIHP:
        parsing = np.full(SIZE, label, np.uint8)
        mask = agnostic_mask(parsing, keypoints())
        if label in (4, 9, 12, 13, 16, 17, 18, 19):
            assert not mask.any(), label.name
        elif label not in (CIHP.LEFT_ARM, CIHP.RIGHT_ARM):
            assert iou(mask, everything) > 0.995, label.name


def test_hands_are_given_back_from_the_wrists_own_smaller_circle_on():
    parsing = np.zeros(SIZE, np.uint8)
    wrist = FRONT[7]
    hand = disc(wrist, 5 * UNIT) & ~band(FRONT[6], wrist, 10 * UNIT)
    parsing[disc(wrist, 5 * UNIT)] = CIHP.LEFT_ARM
    removed = agnostic_mask(np.zeros(SIZE, np.uint8), keypoints()) & ~agnostic_mask(parsing, keypoints())
    assert iou(removed, hand & ~disc(wrist, 4 * UNIT)) > 0.95


def test_an_arm_is_given_back_only_outside_its_own_side_s_drawing():
    parsing = np.zeros(SIZE, np.uint8)
    parsing[disc(FRONT[6], 40)] = CIHP.LEFT_ARM
    parsing[disc(FRONT[3], 40)] = CIHP.LEFT_ARM  # a left hand that grips the right elbow
    mask = agnostic_mask(parsing, keypoints())
    assert mask[disc(FRONT[6], 40)].all()
    assert not mask[disc(FRONT[3], 40)].any()


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_other_resolutions_give_the_same_shape(scale):
    shape = (round(1024 * scale), round(768 * scale))
    reference = Image.fromarray(agnostic_mask(dressed(), keypoints()))
    expected = np.asarray(reference.convert("L").resize(shape[::-1], Image.Resampling.BOX)) >= 128
    parsing = np.asarray(Image.fromarray(dressed()).resize(shape[::-1], Image.Resampling.NEAREST))
    assert iou(agnostic_mask(parsing, keypoints() * (scale, scale, 1)), expected) > 0.99


def test_a_landscape_map_follows_the_same_proportions():
    mask = agnostic_mask(np.zeros((1024, 1536), np.uint8), keypoints() + np.array([384, 0, 0]))
    assert iou(mask[:, 384:1152], expected_front()) > 0.95  # lengths are whole pixels of a coarser drawing


@pytest.mark.parametrize(
    "missing",
    [(1,), (9,), (12,), (9, 12), (2,), (5,), (2, 5), (2, 5, 1), (2, 5, 9, 12), (1, 2, 5, 9, 12), (1, 5, 9, 12)],
)
def test_a_torso_with_missing_joints_is_still_masked_where_clothes_are_worn(missing):
    parsing = dressed()
    mask = agnostic_mask(parsing, keypoints(without=missing))
    assert mask[clothes(parsing)].all()
    assert not mask[:100, :100].any()  # no grey corner
    assert iou(mask, agnostic_mask(parsing, keypoints())) > 0.8
    assert not mask[np.isin(parsing, (CIHP.FACE, CIHP.TROUSERS))].any()


@pytest.mark.parametrize("missing", [(1,), (9,), (12,), (9, 12), (2,), (5,), (1, 9, 12)])
def test_missing_torso_joints_are_estimated_from_the_others_without_a_parse(missing):
    joints = {key: value for key, value in FRONT.items() if key in (0, 1, 2, 5, 9, 12)}
    blank = np.zeros(SIZE, np.uint8)
    whole, partial = agnostic_mask(blank, keypoints(joints)), agnostic_mask(blank, keypoints(joints, without=missing))
    assert iou(whole, partial) > 0.85


@pytest.mark.parametrize("missing", [(4,), (3, 4), (3,), (6, 7), (3, 4, 6, 7)])
def test_sleeves_of_undetected_arms_are_masked_from_the_parse(missing):
    parsing = dressed()
    mask = agnostic_mask(parsing, keypoints(without=missing))
    assert mask[clothes(parsing)].all()


def test_the_side_with_a_complete_arm_keeps_the_exact_rule():
    parsing = dressed()
    parsing[box(650, 300, 700, 700)] = CIHP.UPPER_CLOTHES  # a wide sleeve that the rule leaves out, joined to the rest
    parsing[box(500, 340, 650, 360)] = CIHP.UPPER_CLOTHES
    exact = agnostic_mask(parsing, keypoints())
    partial = agnostic_mask(parsing, keypoints(without=(4,)))
    assert (exact[:, 384:] == partial[:, 384:]).all()
    assert not exact[500, 690]


def test_clothes_of_a_bystander_are_left_alone():
    parsing = dressed()
    bystander = box(700, 300, 767, 900)
    parsing[bystander] = CIHP.COAT
    mask = agnostic_mask(parsing, keypoints(without=(9, 12)))
    assert not mask[bystander].any()


def test_the_end_of_a_sleeve_that_the_parse_cuts_off_belongs_to_the_person():
    parsing = dressed()
    parsing[box(530, 600, 660, 640)] = CIHP.BACKGROUND  # a bag and its strap
    parsing[box(540, 600, 590, 800)] = CIHP.BACKGROUND
    mask = agnostic_mask(parsing, keypoints(without=(5, 6, 7, 9, 12)))
    end = (parsing == CIHP.UPPER_CLOTHES) & box(590, 645, 767, 1023)
    assert mask[end].sum() > 1000
    assert mask[end].all()


def test_a_dress_is_completed_down_to_the_hips_only():
    parsing = np.zeros(SIZE, np.uint8)
    parsing[box(250, 320, 518, 1000)] = CIHP.DRESS
    mask = agnostic_mask(parsing, keypoints(without=(9,)))
    assert mask[400:750, 260:508].all()
    assert not mask[950:].any()


def test_a_profile_whose_shoulders_coincide_gets_a_body_of_sensible_width():
    joints = {0: (420, 200), 1: (384, 330), 2: (384, 330), 3: (380, 520), 4: (420, 700), 5: (384, 330)}
    joints |= {9: (380, 700), 12: (380, 700)}
    parsing = np.zeros(SIZE, np.uint8)
    parsing[box(310, 310, 460, 710)] = CIHP.UPPER_CLOTHES
    blank = agnostic_mask(np.zeros(SIZE, np.uint8), keypoints(joints))
    widths = blank[400:700].sum(axis=1)
    assert (widths > 60).all()
    assert (widths < 300).all()
    assert agnostic_mask(parsing, keypoints(joints))[clothes(parsing)].all()


def test_a_person_seen_from_behind_or_upside_down_is_completed_the_right_way_up():
    behind = {2: (512, 330), 5: (256, 330), 1: (384, 330)}
    mask = agnostic_mask(np.zeros(SIZE, np.uint8), keypoints(behind))
    assert mask[600, 384]
    upside_down = {0: (384, 900), 1: (384, 760), 2: (512, 760), 5: (256, 760)}
    mask = agnostic_mask(np.zeros(SIZE, np.uint8), keypoints(upside_down))
    assert mask[500, 384]


def test_growing_is_isotropic_and_never_covers_what_was_given_back():
    parsing = dressed()
    plain, grown = agnostic_mask(parsing, keypoints()), agnostic_mask(parsing, keypoints(), dilation=0.1)
    assert (grown | ~plain).all()
    kept = np.isin(parsing, (CIHP.FACE, CIHP.TROUSERS)) | (np.isin(parsing, (CIHP.LEFT_ARM, CIHP.RIGHT_ARM)) & ~plain)
    assert not grown[kept].any()
    rows = plain[500].nonzero()[0], grown[500].nonzero()[0]
    columns = plain[:, 384].nonzero()[0], grown[:, 384].nonzero()[0]
    reach = 25.6
    slope = np.hypot(578 - 512, 540 - 330) / (540 - 330)  # the arm leans, so its edge is met at a slant
    assert rows[0][0] - rows[1][0] == pytest.approx(reach * slope, abs=1.5)
    assert rows[1][-1] - rows[0][-1] == pytest.approx(reach * slope, abs=1.5)
    assert plain[:, 300].nonzero()[0][0] - grown[:, 300].nonzero()[0][0] == pytest.approx(reach, abs=1.5)
    assert len(columns[1]) >= len(columns[0])


def test_growing_is_a_share_of_the_shoulders_so_it_scales_with_the_image():
    blank = np.zeros(SIZE, np.uint8)
    big = Image.fromarray(agnostic_mask(blank, keypoints(), dilation=0.2)).convert("L")
    expected = np.asarray(big.resize((192, 256), Image.Resampling.BOX)) >= 128
    small = agnostic_mask(np.zeros((256, 192), np.uint8), keypoints() * (0.25, 0.25, 1), dilation=0.2)
    assert iou(small, expected) > 0.99


def test_lower_takes_clothes_and_legs_dilated_by_ten_pixels_in_512_rows():
    parsing = np.zeros((512, 384), np.uint8)
    parsing[200:300, 100:200] = CIHP.TROUSERS
    parsing[300:400, 120:140] = CIHP.RIGHT_LEG
    expected = np.zeros_like(parsing, bool)
    expected[190:310, 90:210] = True
    expected[290:410, 110:150] = True
    mask = lower_or_dress(parsing, keypoints() / 2, category="lower")
    assert (mask == expected).all()
    large = np.kron(parsing, np.ones((2, 2), np.uint8))
    assert (lower_or_dress(large, keypoints(), category="lower") == np.kron(expected, np.ones((2, 2), bool))).all()


def test_lower_protects_the_upper_half_and_shoes_fills_holes_and_keeps_one_region():
    parsing = np.zeros((512, 384), np.uint8)
    parsing[200:400, 100:200] = CIHP.SKIRT
    parsing[270:330, 120:180] = CIHP.BACKGROUND  # a bag in front of the skirt: a hole wider than the dilation
    parsing[150:200, 100:200] = CIHP.UPPER_CLOTHES
    parsing[250:300, 190:210] = CIHP.LEFT_ARM
    parsing[400:430, 100:150] = CIHP.RIGHT_SHOE
    parsing[20:40, 300:330] = CIHP.TROUSERS  # a speck
    mask = lower_or_dress(parsing, np.zeros((25, 3)), category="lower")
    expected = np.zeros_like(parsing, bool)
    expected[190:410, 90:210] = True
    expected[np.isin(parsing, (CIHP.UPPER_CLOTHES, CIHP.LEFT_ARM, CIHP.RIGHT_SHOE))] = False
    assert (mask == expected).all()


def test_lower_takes_a_dress_from_the_hips_down():
    parsing = np.zeros(SIZE, np.uint8)
    parsing[box(250, 320, 518, 1000)] = CIHP.DRESS
    mask = lower_or_dress(parsing, keypoints(), category="lower")
    assert not mask[:679].any()  # 20 pixels of dilation above the hips, which the upper part then limits
    assert not mask[:700, 250:518].any()
    assert mask[710:1000, 250:518].all()


def test_dress_takes_all_clothes_neck_and_arms_but_not_face_hands_or_shoes():
    parsing = dressed()
    parsing[box(280, 960, 480, 1023)] = CIHP.LEFT_SHOE
    mask = lower_or_dress(parsing, keypoints(), category="dress")
    worn = clothes(parsing) | (parsing == CIHP.TROUSERS) | (parsing == CIHP.TORSO_SKIN)
    assert mask[worn].all()
    assert not mask[np.isin(parsing, (CIHP.FACE, CIHP.LEFT_SHOE))].any()
    assert not mask[disc((FRONT[7][0], FRONT[7][1] + 110), 8)].any()  # the fingers


def test_dress_draws_bare_arms_45_to_60_pixels_wide_in_512_rows():
    parsing = np.zeros(SIZE, np.uint8)
    parsing[box(300, 320, 468, 1000)] = CIHP.DRESS
    mask = lower_or_dress(parsing, keypoints(), category="dress")  # the unit's 170 would be wider
    assert mask[640].nonzero()[0].max() == pytest.approx(588 + 60, abs=2)
    half = keypoints() * (0.4, 0.4, 1)
    mask = lower_or_dress((np.pad(parsing[::2, ::2], ((0, 512), (0, 384)))), half, category="dress")
    assert mask[256].nonzero()[0].max() == pytest.approx(235.2 + 45, abs=2)  # and its 70 narrower


def test_dress_works_without_joints_and_keeps_forearms_then():
    parsing = dressed()
    parsing[band((640, 400), (740, 420), 60)] = CIHP.LEFT_ARM
    mask = lower_or_dress(parsing, np.zeros((25, 3)), category="dress", dilation=0.05)
    assert mask[clothes(parsing)].all()
    assert not mask[parsing == CIHP.LEFT_ARM].any()
    parsing[clothes(parsing) | (parsing == CIHP.TORSO_SKIN)] = CIHP.BACKGROUND
    mask = lower_or_dress(parsing, np.zeros((25, 3)), category="dress", dilation=0.05)
    assert mask[parsing == CIHP.TROUSERS].all()


def test_upper_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agnostic_mask(dressed(), keypoints())


def test_nobody_is_told_in_one_sentence():
    blank, none = np.zeros((128, 96), np.uint8), np.zeros((25, 3))
    with pytest.raises(NoPersonFound, match="shoulders"):
        agnostic_mask(blank, none)
    with pytest.raises(NoPersonFound, match="shoulders"):
        agnostic_mask(blank, keypoints({2: (50, 50)}))
    with pytest.warns(UserWarning, match="trained on"), pytest.raises(NoPersonFound, match="trousers, skirt or legs"):
        agnostic_mask(blank, none, category="lower")
    with pytest.warns(UserWarning, match="trained on"), pytest.raises(NoPersonFound, match="no clothes"):
        agnostic_mask(blank, none, category="dress")


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((np.zeros((8, 8, 3), np.uint8), np.zeros((25, 3))), {}, "parsing"),
        ((np.zeros((0, 8), np.uint8), np.zeros((25, 3))), {}, "parsing"),
        ((np.zeros((8, 8)), np.zeros((25, 3))), {}, "parsing"),
        ((np.full((8, 8), 200, np.uint8), np.zeros((25, 3))), {}, "palette"),
        ((np.full((8, 8), -1), np.zeros((25, 3))), {}, "palette"),
        ((np.zeros((8, 8), np.uint8), np.zeros((18, 3))), {}, "BODY_25"),
        ((np.zeros((8, 8), np.uint8), np.full((25, 3), np.nan)), {}, "finite"),
        ((np.zeros((100, 100), np.uint8), np.full((25, 3), 900.0)), {}, "pixels"),
        ((np.zeros((100, 100), np.uint8), np.full((25, 3), 0.5)), {}, "multiply"),
        ((np.zeros((8, 8), np.uint8), np.zeros((25, 3))), {"category": "hat"}, "category"),
        ((np.zeros((8, 8), np.uint8), np.zeros((25, 3))), {"dilation": 20}, "share"),
        ((np.zeros((8, 8), np.uint8), np.zeros((25, 3))), {"dilation": "much"}, "share"),
        ((np.zeros((8, 8), np.uint8), np.zeros((25, 3))), {"dilation": float("nan")}, "share"),
    ],
)
def test_wrong_arguments_are_refused_with_one_sentence(arguments, options, message):
    with pytest.raises(InvalidInput, match=message):
        agnostic_mask(*arguments, **options)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3)])
def test_tiny_and_thin_maps_give_a_mask_of_their_shape(shape):
    joints = keypoints() * (shape[1] / 768, shape[0] / 1024, 1)
    assert agnostic_mask(np.full(shape, CIHP.UPPER_CLOTHES, np.uint8), joints).shape == shape


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the VITON-HD samples are not at {SAMPLES}")
@pytest.mark.parametrize("name", ["00891_00", "03615_00", "07445_00", "08909_00"])
def test_real_samples_equal_the_reference_masks(name):
    parsing = np.asarray(Image.open(SAMPLES / "image-parse" / f"{name}.png"))
    people = json.loads((SAMPLES / "openpose-json" / f"{name}_keypoints.json").read_text())["people"]
    joints = np.reshape(people[0]["pose_keypoints_2d"], (25, 3))
    reference = np.asarray(Image.open(SAMPLES / "agnostic-mask-reference" / f"{name}.png")) > 0
    assert (agnostic_mask(parsing, joints) == reference).all()
