"""Tests for records.builder.dry_run."""

import pytest

from records.builder import build, dry_run, layout
from records.image import decode
from records.source import listing as sources
from tests import fakes


def options(encoding="raw"):
    ratios = {"train": 0.5, "test": 0.5}
    splits = layout.SplitOptions(ratios)
    return build.BuildOptions(decode.ImagePolicy(size=8), encoding, splits)


@pytest.fixture
def listing(tmp_path):
    root = fakes.class_tree(tmp_path, {"a": 8, "b": 4})
    fakes.tree(root, {"a/bad.JPG": b"not an image"})
    return sources.from_folders(str(root))


def test_counts_are_those_of_names(listing):
    would = dry_run.dry_run(listing, options())
    assert {name: sum(counts) for name, counts in would.counts.items()} == {"train": 7, "test": 6}
    assert [sum(counts) for counts in zip(*would.counts.values(), strict=True)] == [9, 4]
    assert would.extensions == {".png": 12, ".jpg": 1}
    assert would.num_shards == {"train": 1, "test": 1}


def test_costs_come_from_the_images_that_can_be_decoded(listing):
    would = dry_run.dry_run(listing, options())
    assert would.skipped == (1, 13) and would.estimates.keys() == set(decode.ENCODINGS)
    assert would.estimates["raw"].image_bytes == 8 * 8 * 3


def test_a_source_without_images_has_no_estimates(tmp_path):
    root = fakes.tree(tmp_path, {"a/0.png": b"", "b/1.png": b"x", "b/2.png": b"x"})
    would = dry_run.dry_run(sources.from_folders(str(root)), options())
    assert would.estimates == {} and would.skipped == (3, 3)


@pytest.mark.parametrize("encoding", decode.ENCODINGS)
def test_nothing_is_written(listing, tmp_path, encoding):
    before = sorted(tmp_path.rglob("*"))
    dry_run.dry_run(listing, options(encoding))
    assert sorted(tmp_path.rglob("*")) == before
