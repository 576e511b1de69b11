"""Tests for records.builder.accounting."""

import dataclasses

import numpy as np
import pytest

from records.builder import accounting
from records.builder.shard_writer import BuildError
from records.format import manifest
from records.source import listing as sources
from tests import fakes

FILES = {"a/0.png": b"0", "a/1.png": b"1", "b/2.png": b"2", "b/.hidden": b"", "notes.txt": b""}
SKIPPED = [(1, "truncated", "truncated: why")]


@pytest.fixture
def listing(tmp_path):
    return sources.from_folders(str(fakes.tree(tmp_path, FILES)))


def split(*class_counts):
    return manifest.Split(class_counts, (), manifest.Shard("", 0, 0, ""))


def test_omitted_files_are_named_in_the_order_of_keys(listing):
    omitted = accounting.omitted_files(listing, SKIPPED)
    assert [(file.key, file.label, file.reason) for file in omitted] == [
        ("a/1.png", "a", "truncated"),
        ("b/.hidden", "b", "hidden"),
        ("notes.txt", "", "no_label"),
    ]
    assert accounting.reasons(omitted) == {"hidden": 1, "no_label": 1, "truncated": 1}


def test_omitted_files_come_back_from_their_file(listing, tmp_path):
    omitted = accounting.omitted_files(listing, SKIPPED)
    entry = accounting.write_omitted(str(tmp_path), omitted)
    assert accounting.read_omitted(str(tmp_path)) == omitted
    assert entry.records == 3 and entry.bytes == (tmp_path / "rejects.jsonl").stat().st_size


def test_every_file_is_counted(listing):
    omitted = accounting.omitted_files(listing, SKIPPED)
    assert accounting.table(listing, omitted, [split(1, 0), split(0, 1)]) == {
        "": {"found": 1, "written": 0, "quarantined": 0, "excluded": 1},
        "a": {"found": 2, "written": 1, "quarantined": 1, "excluded": 0},
        "b": {"found": 2, "written": 1, "quarantined": 0, "excluded": 1},
    }


def test_a_lost_file_is_an_error(listing):
    omitted = accounting.omitted_files(listing, [])
    with pytest.raises(BuildError, match="files of class 'a' do not add up"):
        accounting.table(listing, omitted, [split(1, 1)])


def test_a_missing_file_was_not_found(listing):
    missing = sources.OmittedFile("gone.png", "", "missing_file", "named by the CSV")
    more = dataclasses.replace(listing, excluded=(*listing.excluded, missing))
    table = accounting.table(more, accounting.omitted_files(more, []), [split(2, 1)])
    assert table[""]["found"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"keys": [b"a/0.png", b"a/1.png", b"b/3.png"]},
        {"label": np.array([0, 1, 1], np.int32)},
        {"group": np.array([0, -1, -1], np.int32)},
        {"domains": ("x",)},
        {"class_names": ("a", "c")},
        {"excluded": ()},
    ],
)
def test_the_digest_stands_for_the_sources(listing, change):
    sha256 = np.zeros((3, 32), np.uint8)
    digest = accounting.sources_digest(listing, sha256)
    assert accounting.sources_digest(dataclasses.replace(listing, **change), sha256) != digest
    assert accounting.sources_digest(listing, sha256 + 1) != digest
    assert accounting.sources_digest(dataclasses.replace(listing), sha256) == digest
