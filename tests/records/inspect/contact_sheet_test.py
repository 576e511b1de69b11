"""The sheet shows the right images at the right places."""

import numpy as np

from records.inspect import contact_sheet
from tests import fakes
from tests.records import made

GAP = 2


def cell(sheet, line, column, edge=made.SIZE):
    top, left = (GAP + number * (edge + GAP) for number in (line, column))
    return np.asarray(sheet)[top : top + edge, left : left + edge]


def test_each_class_has_its_line_and_images_stand_in_row_order(tmp_path):
    rows = made.rows([b"%d" % number for number in range(9)])
    opened = made.record_set_of(tmp_path / "set", rows)
    sheet = contact_sheet.contact_sheet(opened, "train", columns=4)
    assert sheet.size == (4 * (made.SIZE + GAP) + GAP, 2 * (made.SIZE + GAP) + GAP)
    for label in (0, 1):
        of_class = [row for row in rows if row.split == "train" and row.label == label]
        for column, row in enumerate(of_class):
            np.testing.assert_array_equal(cell(sheet, label, column), made.image_of(row))


def test_many_images_are_taken_evenly_and_the_same_each_time(tmp_path):
    rows = [made.Row(b"%d" % number) for number in range(100)]
    opened = made.record_set_of(tmp_path / "set", rows)
    sheets = [contact_sheet.contact_sheet(opened, "train", columns=4) for _ in range(2)]
    assert sheets[0].tobytes() == sheets[1].tobytes()
    for column, number in enumerate((0, 25, 50, 75)):
        np.testing.assert_array_equal(cell(sheets[0], 0, column), made.image_of(rows[number]))
    assert len(np.unique(cell(sheets[0], 1, 0))) == 1  # the other class has no image


def test_very_many_classes_make_the_images_smaller(tmp_path):
    names = tuple(f"class {number:05d}" for number in range(200_000))
    opened = made.record_set_of(tmp_path / "set", [made.Row(b"a")], class_names=names)
    sheet = contact_sheet.contact_sheet(opened, "train", columns=10)
    assert sheet.width * sheet.height < 60_000_000


def test_any_encoding_can_be_shown(tmp_path):
    image = fakes.pixels(1, made.SIZE)
    rows = [made.Row(b"a", image=image)]
    opened = made.record_set_of(tmp_path / "set", rows, encoding="png")
    sheet = contact_sheet.contact_sheet(opened, "train", columns=1)
    np.testing.assert_array_equal(cell(sheet, 0, 0), image)


def test_a_strip_shows_any_images_in_a_line():
    images = [fakes.pixels(seed, made.SIZE) for seed in range(3)]
    strip = contact_sheet.strip(images, made.SIZE)
    assert strip.size == (3 * (made.SIZE + GAP) + GAP, made.SIZE + 2 * GAP)
    for column, image in enumerate(images):
        np.testing.assert_array_equal(cell(strip, 0, column), image)
    assert contact_sheet.strip(images, 4).size == (3 * (4 + GAP) + GAP, 4 + 2 * GAP)
