import os
import shutil

import numpy as np
import pytest

from datapipe.rows import host
from records.common import errors
from records.common.backend import tf
from records.format import manifest, record_set
from records.image import decode
from records.split import folds
from tests import fakes


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 250, "b": 150})


@pytest.mark.parametrize("part_bytes", [1, 7 * 16 * 16 * 3, 8 << 20])
def test_rows_are_the_records(records, monkeypatch, part_bytes):
    monkeypatch.setattr(host, "_PART_BYTES", part_bytes)
    rows = host.load(records, "train", show_progress=False)
    index = records.index("train")
    assert len(rows) == len(index) == 240
    for row in range(240):
        np.testing.assert_array_equal(rows.images[row], records.pixels("train", row))
    np.testing.assert_array_equal(rows.labels, index.label)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_encoded_rows_are_decoded(records, tmp_path, encoding):
    encoded = fakes.built(tmp_path, {"a": 25, "b": 15}, encoding=encoding)
    rows = host.load(encoded, "train", show_progress=False)
    for row in range(len(rows)):
        np.testing.assert_array_equal(rows.images[row], encoded.pixels("train", row))
        key = encoded.index("train").key(row)
        source = (tmp_path / "source" / key).read_bytes()
        pixels = decode.preprocess(source, decode.ImagePolicy(size=16)).astype(int)
        assert np.abs(pixels - rows.images[row].numpy()).max() <= (0 if encoding == "png" else 12)


@pytest.mark.parametrize("part_bytes", [1, 40 * 16 * 16 * 3, 8 << 20])
def test_rows_of_a_view_stand_between_others(records, monkeypatch, part_bytes):
    monkeypatch.setattr(host, "_PART_BYTES", part_bytes)
    view = folds.view(records, 5, 2, seed=0)
    index = view.index("test")
    assert (np.diff(index.offset) > 2 * index.length[1:]).any()
    rows = host.load(view, "test", show_progress=False)
    for row in range(len(index)):
        np.testing.assert_array_equal(rows.images[row], view.pixels("test", row))
    np.testing.assert_array_equal(rows.labels, index.label)


def test_what_lies_between_the_rows_of_a_view_may_be_damaged(tmp_path):
    records = fakes.built(tmp_path, {"a": 20, "b": 20})
    view = folds.view(records, 4, 0, seed=0)
    row = 3
    with open(records.path(view.manifest.split("test").shards[0]), "r+b") as file:
        file.seek(int(view.index("test").offset[row]) + 200)
        file.write(bytes(8))
    assert len(host.load(view, "train", show_progress=False)) == 20
    with pytest.raises(errors.DamagedRecordError, match=f"row {row}, key"):
        host.load(view, "test", show_progress=False)


def test_pixels_are_those_of_the_rows(records):
    rows = host.load(records, "test", show_progress=False)
    wanted = [5, 0, 5, 79]
    pixels = rows.pixels({"row": tf.constant(wanted, tf.int64)})
    assert pixels.dtype == tf.uint8
    for place, row in enumerate(wanted):
        np.testing.assert_array_equal(pixels[place], records.pixels("test", row))


def test_a_damaged_record_is_named(tmp_path):
    records = fakes.built(tmp_path, {"a": 10, "b": 10})
    path = records.path(records.manifest.split("train").shards[0])
    index = records.index("train")
    with open(path, "r+b") as file:
        file.seek(int(index.offset[4]) + 200)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 8]))
    with pytest.raises(errors.DamagedRecordError) as caught:
        host.load(records, "train", show_progress=False)
    assert f"{path}, row 4, key {index.key(4)!r}" in str(caught.value)


def test_a_shard_of_another_set_is_named(tmp_path):
    records = fakes.built(tmp_path / "a", {"a": 10, "b": 10})
    other = fakes.built(tmp_path / "b", {"b": 10, "a": 10})  # equal sizes, other labels
    shard = records.manifest.split("train").shards[0]
    shutil.copy(other.path(other.manifest.split("train").shards[0]), records.path(shard))
    with pytest.raises(errors.DamagedRecordError, match="another record is there"):
        host.load(record_set.open_set(records.folder), "train", show_progress=False)


def test_the_memory_is_handed_over_and_not_copied(tmp_path):
    records = fakes.built(tmp_path, {"a": 10, "b": 10})
    memory = host.allocate(records, "train")
    rows = host.load(records, "train", memory=memory, show_progress=False)
    memory[3] = 77
    assert (rows.images[3].numpy() == 77).all()


@pytest.mark.parametrize(
    "wrong", [lambda m: m[1:], lambda m: m.view(np.int8), lambda m: m.copy("F")]
)
def test_memory_that_does_not_fit_is_refused(records, wrong):
    memory = wrong(host.allocate(records, "train"))
    with pytest.raises(ValueError, match=r"memory must be uint8 \[240, 16, 16, 3\]"):
        host.load(records, "train", memory=memory, show_progress=False)


def test_too_many_rows_are_refused_with_advice(monkeypatch, records):
    monkeypatch.setattr(host, "free_memory", lambda: 1000)
    with pytest.raises(host.MemoryBudgetError, match=r"--residency=stream.*smaller --image_size"):
        host.load(records, "train", show_progress=False)


def test_rows_of_a_view_are_not_advised_to_be_streamed(monkeypatch, records):
    monkeypatch.setattr(host, "free_memory", lambda: 1000)
    with pytest.raises(host.MemoryBudgetError, match="GB are free; build the records with"):
        host.load(folds.pooled(records), "pooled", show_progress=False)


def test_an_empty_split_is_refused(tmp_path):
    records = fakes.built(tmp_path, {"a": 1, "b": 1}, ratios={"train": 0.98, "test": 0.02})
    with pytest.raises(manifest.ManifestError, match=r"split 'test' .* has no rows"):
        host.load(records, "test", show_progress=False)
    with pytest.raises(
        manifest.ManifestError, match="no split 'val'; the record set has train, test"
    ):
        host.load(records, "val", show_progress=False)
