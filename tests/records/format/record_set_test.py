"""Tests for records.format.record_set."""

import dataclasses
import re

import numpy as np
import pytest

from records.common import errors
from records.format import manifest, record_set
from tests.records import made

ROWS = made.rows([b"x/%d.png" % number for number in range(9)])
TRAIN = [row for row in ROWS if row.split == "train"]


@pytest.fixture
def opened(tmp_path):
    made.record_set_of(tmp_path / "set", ROWS)
    return record_set.open_set(str(tmp_path / "set"))


def test_rows_are_read_by_number(opened):
    for number, row in enumerate(TRAIN):
        example = opened.example("train", number)
        assert (example.key, example.label) == (row.key, row.label)
        np.testing.assert_array_equal(opened.pixels("train", number), made.image_of(row))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_are_all_rows_in_order(opened, batch_size):
    batches = list(opened.pixel_batches("train", batch_size))
    assert all(len(batch) <= batch_size for batch in batches)
    np.testing.assert_array_equal(
        np.concatenate(batches), np.stack([made.image_of(row) for row in TRAIN])
    )


def test_an_index_is_read_once(opened):
    assert opened.index("test") is opened.index("test")


def test_a_damaged_record_is_named_by_file_row_and_key(opened, tmp_path):
    path = tmp_path / "set/train-00000-of-00001.tfrecord"
    data = bytearray(path.read_bytes())
    data[int(opened.index("train").offset[2]) + 40] ^= 1
    path.write_bytes(data)
    message = f"{path.name}, row 2, key {TRAIN[2].key.decode()!r}: the checksum of the payload"
    with pytest.raises(errors.DamagedRecordError, match=message):
        opened.pixels("train", 2)
    assert opened.example("train", 1).key == TRAIN[1].key


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": np.array([0, 0, 9], np.int32)}, "label of row 2 must be in 0..1, got 9"),
        ({"domain": np.array([0, -1, 0], np.int32)}, "domain of row 1 must be in 0..1, got -1"),
        ({"shard": np.array([0, 1, 0], np.int32)}, "shard of row 1 must be in 0..0, got 1"),
        ({"offset": np.array([0, 1 << 62, 0])}, "the record of row 1 would lie outside its shard"),
        ({"length": np.array([1 << 62, 1, 1])}, "the record of row 0 would lie outside its shard"),
        ({"length": np.array([1.0, 1, 1])}, "column 'length' must hold 3 integers"),
        ({"group": np.array([1])}, "column 'group' must hold 3 integers"),
        ({"source_sha256": np.zeros((3, 31), np.uint8)}, "must hold 32 bytes a row"),
        ({"label": np.array([0, 0, 0], np.int32)}, r"the class counts are \[3, 0\]"),
        ({}, ""),
    ],
)
def test_an_index_must_point_inside_the_set(opened, columns, message):
    index = dataclasses.replace(opened.index("test"), **columns)
    fault = record_set.index_fault(index, opened.manifest.split("test"), opened.manifest)
    assert re.fullmatch(f".*{message}.*" if message else "", fault)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "it is missing, the manifest says"),
        (lambda path: path.write_bytes(b"x"), "it has 1 bytes, the manifest says"),
    ],
)
def test_a_file_of_another_size_is_seen_without_reading(opened, tmp_path, change, message):
    change(tmp_path / "set/test-00000-of-00001.tfrecord")
    with pytest.raises(manifest.ManifestError, match=message):
        record_set.open_set(opened.folder)


def test_a_row_as_a_line_and_as_values(opened):
    facts = record_set.row_facts(opened, "train", 1)
    assert record_set.row_line(opened, "train", 1) == (
        f"train 1: 쓴 b 'x/1.png' 길 train-00000-of-00001.tfrecord@{facts['offset']}"
    )
    assert facts["class"] == "쓴 b" and facts["image_shape"] == [made.SIZE, made.SIZE, 3]


@pytest.mark.parametrize(
    ("label", "mask", "age"), [(0, "no", "0"), (2, "no", "2"), (5, "yes", "2")]
)
def test_attribute_values_of_a_class(label, mask, age):
    attributes = {"mask": ("no", "yes"), "age": ("0", "1", "2")}  # the last changes fastest
    assert record_set.attribute_values(attributes, label) == {"mask": mask, "age": age}
