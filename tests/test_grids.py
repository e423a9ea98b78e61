"""Labelled images side by side."""

import numpy as np
import pytest
from PIL import Image

from stableviton_sdk.grids import GAP, LABEL, MIN_LABEL_WIDTH, PAPER, ROW_GAP, labelled_grid, side_by_side

RED, BLUE = (200, 0, 0), (0, 0, 200)


def cell(sheet, size, column, row, labelled=True):
    width = max(size[0], MIN_LABEL_WIDTH * labelled)
    x, y = GAP + column * (width + GAP), GAP + row * (size[1] + LABEL * labelled + GAP) + LABEL * labelled
    return np.asarray(sheet.crop((x, y, x + size[0], y + size[1])))


def test_every_image_stands_in_its_cell_under_its_label():
    size = (200, 40)
    tiles = [(f"tile {index}", Image.new("RGB", size, (index * 20, 0, 0))) for index in range(5)]
    sheet = labelled_grid(tiles, size, columns=3)
    assert sheet.size == (3 * (200 + GAP) + GAP, 2 * (40 + LABEL + GAP) + GAP)
    for index in range(5):
        column, row = index % 3, index // 3
        assert (cell(sheet, size, column, row) == (index * 20, 0, 0)).all()
        x, y = GAP + column * (200 + GAP), GAP + row * (40 + LABEL + GAP)
        assert np.asarray(sheet.crop((x, y, x + 100, y + LABEL))).min() < 100
    assert (cell(sheet, size, 2, 1) == PAPER).all()


def test_narrow_tiles_leave_room_for_their_labels():
    sheet = labelled_grid([("a long label", Image.new("RGB", (10, 40)))] * 2, (10, 40))
    assert sheet.width == 2 * (MIN_LABEL_WIDTH + GAP) + GAP


def test_without_labels_no_room_is_left_for_them():
    sheet = labelled_grid([("", Image.new("RGB", (10, 40), RED))] * 2, (10, 40))
    assert sheet.size == (2 * (10 + GAP) + GAP, 40 + 2 * GAP)
    assert (cell(sheet, (10, 40), 1, 0, labelled=False) == RED).all()


@pytest.mark.parametrize("size, fitted", [((20, 10), (40, 20)), ((400, 800), (20, 40)), ((1, 4000), (1, 40))])
def test_an_image_of_another_size_is_fitted_into_the_middle(size, fitted):
    image = Image.new("L", size, 77)
    shown = cell(labelled_grid([("", image)], (40, 40)), (40, 40), 0, 0, labelled=False)
    filled = (shown == 77).all(axis=2)
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    assert (len(columns), len(rows)) == fitted
    assert filled.sum() == fitted[0] * fitted[1]
    assert abs(rows[0] - (39 - rows[-1])) <= 1
    assert abs(columns[0] - (39 - columns[-1])) <= 1


def test_a_cell_may_stay_empty():
    sheet = labelled_grid([("", None), ("", Image.new("RGB", (40, 40), BLUE))], (40, 40))
    assert (cell(sheet, (40, 40), 0, 0, labelled=False) == PAPER).all()
    assert (cell(sheet, (40, 40), 1, 0, labelled=False) == BLUE).all()


def test_a_row_shows_all_images_at_one_height():
    images = [Image.new("RGB", (30, 40), RED), Image.new("L", (40, 20), 90)]
    row = np.asarray(side_by_side(images))
    assert row.shape == (40, 30 + ROW_GAP + 80, 3)
    assert (row[:, :30] == RED).all()
    assert (row[:, 30 : 30 + ROW_GAP] == 255).all()
    assert (row[:, 30 + ROW_GAP :] == 90).all()
    assert side_by_side(images[:1], height=10).size == (8, 10)
