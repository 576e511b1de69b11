"""Each way in which two sets can differ, one at a time."""

import dataclasses
import shutil

import numpy as np
import pytest

from records.format import record_set
from records.inspect import diff
from tests import fakes
from tests.records import made

ROWS = made.rows([b"%d" % number for number in range(6)])  # classes 0 1 0 1 0 1


def compared(tmp_path, rows, **options):
    left = made.record_set_of(tmp_path / "left", ROWS)
    return diff.compare(left, made.record_set_of(tmp_path / "right", rows, **options))


def kinds(found):
    return {kind: keys for kind, keys in found.rows.items() if keys}


def changed(**changes):
    return [dataclasses.replace(ROWS[0], **changes), *ROWS[1:]]


def test_a_set_equals_itself_and_its_copy(tmp_path):
    left = made.record_set_of(tmp_path / "left", ROWS)
    shutil.copytree(tmp_path / "left", tmp_path / "right")
    found = diff.compare(left, record_set.open_set(str(tmp_path / "right")))
    assert found.same_files and not found.only_bytes_differ and not kinds(found)
    assert not any((found.settings, found.added, found.removed, found.renumbered, found.counts))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ROWS[1:], {"only_left": [b"0"]}),
        ([*ROWS, made.Row(b"new")], {"only_right": [b"new"]}),
        (changed(key=b"renamed"), {"only_left": [b"0"], "only_right": [b"renamed"]}),
        (changed(split="test"), {"split": [b"0"]}),
        (changed(label=1), {"label": [b"0"]}),
        (changed(domain=1), {"domain": [b"0"]}),
        (changed(source=b"other"), {"source": [b"0"]}),
        (changed(image=fakes.pixels(9, made.SIZE)), {"pixels": [b"0"]}),
        (changed(split="test", label=1), {"split": [b"0"], "label": [b"0"]}),
    ],
)
def test_rows_that_differ_are_named_with_what_differs(tmp_path, rows, expected):
    found = compared(tmp_path, rows)
    if "only_left" in expected and "only_right" in expected:  # pixels follow from the key
        found.rows["pixels"].clear()
    assert kinds(found) == expected
    assert not found.same_files


def test_counts_of_splits_are_compared(tmp_path):
    assert compared(tmp_path, changed(split="test")).counts == (("train", 4, 3), ("test", 2, 3))


def test_classes_are_compared_by_name(tmp_path):
    found = compared(tmp_path, ROWS, class_names=("0 new", "a", "쓴 b"))
    assert found.added == ("0 new",) and found.removed == ()
    assert found.renumbered == (("a", 0, 1), ("쓴 b", 1, 2))
    assert len(found.rows["label"]) == 6


def test_settings_are_compared(tmp_path):
    found = compared(tmp_path, ROWS, settings={"image_size": 8, "seed": 1})
    assert found.settings == (("encoding", "raw", None), ("seed", None, 1))


def test_another_encoding_of_the_same_pixels_is_no_other_image(tmp_path):
    found = compared(tmp_path, ROWS, encoding="png")
    assert found.settings == (("encoding", "raw", "png"),) and not kinds(found)


def test_another_order_alone_is_said(tmp_path):
    found = compared(tmp_path, ROWS[::-1])
    assert found.only_bytes_differ and not kinds(found)


def test_equal_pixels_of_another_class_number_are_equal(tmp_path):
    rows = [dataclasses.replace(row, label=1 - row.label) for row in ROWS]
    found = compared(tmp_path, rows, class_names=("쓴 b", "a"))
    assert not kinds(found) and len(found.renumbered) == 2
    assert np.array_equal(made.image_of(rows[0]), made.image_of(ROWS[0]))
