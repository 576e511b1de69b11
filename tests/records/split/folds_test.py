"""Folds are views: other rows of the same shards, dealt by group, that read like any set."""

import random

import numpy as np
import pytest

from datapipe.rows import host
from models.reporting import predictor
from records.builder import build
from records.format import manifest, record_set
from records.image import decode
from records.inspect import leaks
from records.source import listing as sources
from records.split import folds
from tests import fakes
from tests.records import made


@pytest.fixture(scope="module", params=["raw", "png", "jpeg"])
def encoded(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return fakes.built(folder, {"a": 40, "b": 23}, encoding=request.param)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 40, "b": 23})


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder, output = (
        fakes.ROOT / "records" / "sample",
        str(tmp_path_factory.mktemp("sample") / "set"),
    )
    listing = sources.from_csv(str(folder), str(folder / "labels.csv"))
    options = build.BuildOptions(policy=decode.ImagePolicy(size=16))
    build.build(listing, output, options, num_workers=1, show_progress=False)
    return record_set.open_set(output)


def grouped_rows():
    """Returns rows of two classes; each third shares a group with the next, some equal bytes."""
    every = made.rows([b"%02d" % number for number in range(60)])
    return [
        made.Row(
            row.key,
            label=row.label,
            split=row.split,
            group=10**12 + number - (number % 3 == 1),
            source=b"same" if number in (5, 30, 59) else row.key,
        )
        for number, row in enumerate(every)
    ]


def keys(opened, split):
    return list(opened.index(split).keys)


def fold_of_key(opened, num_folds, seed):
    found = folds.assignment(opened, num_folds, seed=seed).tolist()
    return dict(zip(keys(folds.pooled(opened), "pooled"), found, strict=True))


def test_a_pooled_set_has_all_rows_in_the_order_of_the_splits(encoded):
    view = folds.pooled(encoded)
    order = [
        (split, row)
        for split in encoded.manifest.splits
        for row in range(len(encoded.index(split)))
    ]
    assert keys(view, "pooled") == [encoded.index(split).keys[row] for split, row in order]
    assert view.manifest.split("pooled").class_counts == (40, 23)
    batches = np.concatenate(list(view.pixel_batches("pooled", 10)))
    for place, (split, row) in enumerate(order):
        np.testing.assert_array_equal(batches[place], encoded.pixels(split, row))
        assert view.example("pooled", place) == encoded.example(split, row)


def test_every_fold_is_tested_once_and_validated_once(records):
    every = sorted(keys(folds.pooled(records), "pooled"))
    views = [folds.view(records, 5, fold, seed=3) for fold in range(5)]
    for split in ("test", "validation"):
        assert sorted(key for view in views for key in keys(view, split)) == every
    for fold, view in enumerate(views):
        assert keys(view, "validation") == keys(views[(fold + 1) % 5], "test")
        assert list(view.manifest.splits) == ["train", "validation", "test"]
        assert sorted(key for split in view.manifest.splits for key in keys(view, split)) == every


def test_pixels_of_a_view_are_those_of_the_same_keys(encoded):
    whole = folds.pooled(encoded)
    place = {key: row for row, key in enumerate(keys(whole, "pooled"))}
    view = folds.view(encoded, 4, 1, seed=0)
    for split, entry in view.manifest.splits.items():
        loaded = host.load(view, split, show_progress=False)
        assert loaded.images.shape[0] == entry.count == sum(s.records for s in entry.shards)
        for row, key in enumerate(keys(view, split)):
            expected = whole.pixels("pooled", place[key])
            np.testing.assert_array_equal(view.pixels(split, row), expected)
            np.testing.assert_array_equal(loaded.images[row], expected)
            assert loaded.labels[row] == view.example(split, row).label


def test_what_a_view_says_of_its_rows_is_consistent(records):
    view = folds.view(records, 10, 7, seed=1)
    for split, entry in view.manifest.splits.items():
        assert record_set.index_fault(view.index(split), entry, view.manifest) == ""
        assert min(shard.records for shard in entry.shards) > 0
        table = predictor.table(view, split, np.zeros((entry.count, 2), np.float32))
        assert table.confusion.sum(1).tolist() == list(entry.class_counts)
    with pytest.raises(
        manifest.ManifestError, match=r"no split 'pooled'; .* train, validation, test"
    ):
        view.index("pooled")


@pytest.mark.parametrize("num_folds", [3, 5, 10])
def test_classes_are_shared_out_to_within_one_image(records, num_folds):
    view = folds.pooled(records)
    number, label = folds.assignment(records, num_folds, seed=0), view.index("pooled").label
    for name, count in enumerate((40, 23)):
        found = np.bincount(number[label == name], minlength=num_folds)
        assert found.sum() == count and np.ptp(found) <= 1
    assert np.ptp(np.bincount(number)) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_groups_and_equal_bytes_stay_together(tmp_path, seed):
    opened = made.record_set_of(tmp_path / "set", grouped_rows())
    view = folds.view(opened, 4, seed % 4, seed=seed)
    found = {finding.kind for finding in leaks.findings(view)}
    assert not found & {"group_across_splits", "equal_across_splits"}
    fold = fold_of_key(opened, 4, seed)
    assert fold[b"05"] == fold[b"30"] == fold[b"59"]  # 59 is of no group, the others are
    assert all(fold[b"%02d" % n] == fold[b"%02d" % (n + 1)] for n in range(0, 60, 3))


def test_a_fold_depends_on_key_and_seed_and_not_on_order_or_splits(tmp_path):
    every = grouped_rows()
    shuffled = random.Random(0).sample(every, len(every))
    other = [made.Row(**{**vars(row), "split": f"s{n % 4}"}) for n, row in enumerate(shuffled)]
    first = made.record_set_of(tmp_path / "a", every)
    second = made.record_set_of(tmp_path / "b", other)
    assert fold_of_key(first, 5, 7) == fold_of_key(second, 5, 7)
    assert fold_of_key(first, 5, 7) == fold_of_key(folds.view(first, 3, 0, seed=2), 5, 7)
    assert fold_of_key(first, 5, 7) != fold_of_key(first, 5, 8)


def test_a_digest_stands_for_the_rows(records):
    cases = [(5, 0, 0), (5, 1, 0), (6, 0, 0), (5, 0, 1)]
    views = [folds.view(records, n, fold, seed=seed) for n, fold, seed in cases]
    digests = [view.manifest.digest for view in (records, folds.pooled(records), *views)]
    assert len(set(digests)) == len(digests)
    assert folds.view(records, 5, 1, seed=0).manifest.digest == views[1].manifest.digest


def test_only_views_are_views_and_nothing_is_written(tmp_path):
    opened = made.record_set_of(tmp_path / "set", grouped_rows())
    before = {path: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    view = folds.view(opened, 3, 0, seed=0)
    assert (opened.is_view, view.is_view, folds.pooled(opened).is_view) == (False, True, True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    with pytest.raises(
        manifest.ManifestError, match="not a file name of a record set, or occurs twice"
    ):
        manifest.from_json(manifest.to_json(view.manifest).decode())


def test_ten_folds_of_the_embedded_sample(sample):
    views = [folds.view(sample, 10, fold, seed=0) for fold in range(10)]
    counts = np.array([view.manifest.split("test").class_counts for view in views])
    assert counts.sum(0).tolist() == [513, 493]
    # Its groups are families of fonts, of up to 80 images.
    assert np.abs(counts - counts.mean(0)).max() <= 1
    for view in views:
        groups = [set(view.index(split).group.tolist()) for split in view.manifest.splits]
        assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.parametrize(
    ("num_folds", "fold", "message"),
    [
        (2, 0, "at least 3 folds, to train, validate and test, got 2"),
        (5, 5, r"fold must lie in 0\.\.4, got 5"),
        (5, -1, r"fold must lie in 0\.\.4, got -1"),
        (39, 0, r"no more folds than groups, got 39 folds and 38 groups \(60 rows"),
    ],
)
def test_folds_that_cannot_be_are_refused(tmp_path, num_folds, fold, message):
    opened = made.record_set_of(tmp_path / "set", grouped_rows())
    with pytest.raises(ValueError, match=message):
        folds.view(opened, num_folds, fold, seed=0)


@pytest.mark.parametrize(("fold", "split"), [(1, "validation"), (2, "test")])
def test_a_split_without_rows_is_refused(tmp_path, fold, split):
    # Two images alone of one class go to two folds, the group of the other class to one of them.
    every = [(b"a", 1, 0), (b"b", 1, 1), (b"c", 0, 2), (b"d", 0, 2)]
    rows = [made.Row(key, label=label, group=group) for key, label, group in every]
    opened = made.record_set_of(tmp_path / "set", rows)
    message = f"'{split}' of fold {fold} would be empty: the 3 folds have 3, 1, 0 rows"
    with pytest.raises(ValueError, match=message):
        folds.view(opened, 3, fold, seed=0)
