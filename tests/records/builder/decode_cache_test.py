"""Tests for records.builder.decode_cache."""

import dataclasses
import struct

import numpy as np
import pytest

from records.builder import decode_cache
from records.common import worker_pool
from records.image import decode, near_duplicates
from records.source import listing as sources
from tests import fakes

POLICY = decode.ImagePolicy(size=8)
FILES = {
    "a/0.png": fakes.encoded(fakes.pixels(0)),
    "a/1.png": b"not an image",
    "a/2.gif": fakes.encoded(fakes.pixels(2), "GIF"),
    "b/3.png": b"",
    "b/4.png": fakes.encoded(fakes.pixels(4)),
}


@pytest.fixture
def task(tmp_path):
    (tmp_path / "cache").mkdir()
    listing = sources.from_folders(str(fakes.tree(tmp_path / "tree", FILES)))
    folder = str(tmp_path / "cache")
    (only,) = decode_cache.tasks(listing, folder, POLICY, "raw", fingerprints=True)
    return only


class Advance:
    """Counts what the bar is told."""

    def __init__(self):
        self.done = self.skipped = 0

    def __call__(self, done, skipped):
        self.done += done
        self.skipped += skipped


def test_a_chunk_holds_every_image_that_can_be_used(task):
    advance = Advance()
    chunk = decode_cache.make(task, advance)
    assert (advance.done, advance.skipped) == (5, 2)
    assert [(at, reason) for at, reason, _ in chunk.skipped] == [(1, "not_an_image"), (3, "empty")]
    assert np.diff(chunk.ends, prepend=0).tolist() == [192, 0, 192, 0, 192] and not chunk.reused
    with open(chunk.path, "rb") as file:
        images = np.frombuffer(file.read(), np.uint8).reshape(3, 8, 8, 3)
    used = [decode.preprocess(FILES[key], POLICY) for key in ("a/0.png", "a/2.gif", "b/4.png")]
    np.testing.assert_array_equal(images, used)
    prints = near_duplicates.fingerprints(np.stack(used))
    np.testing.assert_array_equal(chunk.fingerprints[[0, 2, 4]], prints)
    assert not chunk.fingerprints[[1, 3]].any()


def test_a_finished_chunk_is_reused(task):
    first = decode_cache.make(task, Advance())
    advance = Advance()
    again = decode_cache.make(task, advance)
    assert again.reused and (advance.done, advance.skipped) == (5, 2)
    for field in dataclasses.fields(decode_cache.Chunk):
        if field.name != "reused":
            np.testing.assert_array_equal(getattr(again, field.name), getattr(first, field.name))


@pytest.mark.parametrize("kind", ["images", "facts"])
@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: b"\xff" + data[1:]])
def test_a_damaged_chunk_is_made_again(task, kind, harm):
    decode_cache.make(task, Advance())
    with open(task.path(kind), "rb+") as file:
        data = file.read()
        file.seek(0)
        file.truncate()
        file.write(harm(data))
    assert not decode_cache.make(task, Advance()).reused
    with open(task.path(kind), "rb") as file:
        assert file.read()[:1] == data[:1]


@pytest.mark.parametrize(
    "change",
    [
        {"number": 1},
        {"keys": [b"a/0.png"]},
        {"stamps": np.zeros(5, np.uint32)},
        {"spans": np.zeros((5, 5), np.int64)},
        {"boxes": np.zeros((5, 4))},
        {"policy": decode.ImagePolicy(size=9)},
        {"encoding": "png"},
        {"fingerprints": False},
    ],
)
def test_all_that_makes_a_chunk_is_in_its_name(task, change):
    assert dataclasses.replace(task, **change).name != task.name
    assert dataclasses.replace(task, folder="elsewhere", suspect=3).name == task.name


def test_the_second_death_over_an_image_skips_it(task):
    def dies_at(position):
        with open(task.path("position"), "wb") as file:
            file.write(struct.pack("<q", position))

    dies_at(2)
    suspected = decode_cache.after_death(task)
    assert suspected.suspect == 2
    dies_at(4)
    assert decode_cache.after_death(suspected).suspect == 4  # another image: no proof yet
    dies_at(2)
    chunk = decode_cache.make(decode_cache.after_death(suspected), Advance())
    assert (2, "crashed_decoder") in [(at, reason) for at, reason, _ in chunk.skipped]


@pytest.mark.parametrize(
    ("num_images", "expected"), [(1, 128), (128, 128), (32_768, 128), (32_769, 129), (10**6, 3907)]
)
def test_chunks_are_at_most_about_256(num_images, expected):
    assert decode_cache.size(num_images) == expected


def test_the_cache_of_a_listing_says_where_each_image_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(decode_cache, "_MIN_IMAGES", 2)  # three chunks
    (tmp_path / "cache").mkdir()
    listing = sources.from_folders(str(fakes.tree(tmp_path / "tree", FILES)))
    with worker_pool.WorkerPool(2) as pool:
        images = decode_cache.fill(
            listing, str(tmp_path / "cache"), POLICY, "raw", fingerprints=False, pool=pool
        )
    assert len(images.paths) == 3 and images.fingerprints.shape == (5, 0)
    assert images.usable.tolist() == [True, False, True, False, True]
    assert [at for at, _, _ in images.skipped] == [1, 3]
    for row in (0, 2, 4):
        with open(images.paths[row // images.chunk_size], "rb") as file:
            file.seek(images.start[row])
            data = file.read(images.length[row])
        expected = decode.preprocess(listing.read(row), POLICY)
        np.testing.assert_array_equal(decode.decode(data, "raw", 8), expected)
