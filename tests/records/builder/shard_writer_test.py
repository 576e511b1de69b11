"""Tests for records.builder.shard_writer."""

import dataclasses
import hashlib

import numpy as np
import pytest

from records.builder import shard_writer
from records.format import example, tfrecord

IMAGES = [b"abc", b"", b"defgh", b"ij"]


@pytest.fixture
def task(tmp_path):
    """Four rows whose images lie in two chunks."""
    (tmp_path / "one.images").write_bytes(b"..abcdefgh")
    (tmp_path / "two.images").write_bytes(b"ij")
    return shard_writer.ShardTask(
        path=str(tmp_path / "train-00000-of-00001.tfrecord"),
        journal=str(tmp_path / "journal.json"),
        keys=[b"k/0", b"\xff", b"k/2", b"k/3"],
        groups=[b"", b"g", b"g", b""],
        domains=[b"d"] * 4,
        labels=np.array([0, 1, 1, 0], np.int32),
        chunks=(str(tmp_path / "one.images"), str(tmp_path / "two.images")),
        chunk=np.array([0, 0, 0, 1], np.int32),
        start=np.array([2, 5, 5, 0]),
        length=np.array([3, 0, 5, 2]),
    )


def write(task):
    counted = []
    written = shard_writer.write_shard(task, lambda done, skipped: counted.append(done))
    assert sum(counted) == len(task.keys)
    return written


def test_a_shard_holds_a_record_for_each_row(task):
    written = write(task)
    with open(task.path, "rb") as file:
        data = file.read()
    payloads = [
        tfrecord.payload_at(data, int(offset), int(length), int(checksum))
        for offset, length, checksum in zip(
            written.offset, written.length, written.checksum, strict=True
        )
    ]
    assert [example.decode(payload) for payload in payloads] == [
        example.Example(key, label, image, group, b"d")
        for key, label, image, group in zip(
            task.keys, task.labels.tolist(), IMAGES, task.groups, strict=True
        )
    ]
    assert written.shard.bytes == len(data) and written.shard.records == 4
    assert written.shard.sha256 == hashlib.sha256(data).hexdigest() and written.state == "written"


def test_a_finished_shard_is_reused_and_a_damaged_one_repaired(task):
    first = write(task)
    assert write(task).state == "reused"
    with open(task.path, "rb+") as file:
        file.write(b"\xff")
    repaired = write(task)
    assert (repaired.state, repaired.shard) == ("repaired", first.shard)


@pytest.mark.parametrize(
    "change",
    [
        {"keys": [b"k/0", b"k/1", b"k/2", b"k/3"]},
        {"groups": [b"", b"g", b"g", b"h"]},
        {"domains": [b"e"] * 4},
        {"labels": np.array([0, 1, 1, 1], np.int32)},
        {"start": np.array([0, 5, 5, 0])},
    ],
)
def test_a_shard_of_another_plan_is_not_reused(task, change):
    first = write(task)
    other = write(dataclasses.replace(task, **change))
    assert other.state == "written" and other.shard.sha256 != first.shard.sha256


@pytest.mark.parametrize("journal", [b"", b"{}", b"[]", b'{"identity": 1, "shard": {"file": 1}}'])
def test_a_journal_that_cannot_be_read_is_ignored(task, journal):
    write(task)
    with open(task.journal, "wb") as file:
        file.write(journal)
    assert write(task).state == "written"


def test_a_truncated_chunk_is_an_error(task):
    with open(task.chunks[0], "rb+") as file:
        file.truncate(9)
    with pytest.raises(shard_writer.BuildError, match=r"one\.images was truncated"):
        write(task)
