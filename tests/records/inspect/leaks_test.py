"""Leaks and label conflicts of a record set; duplicates with one pair for each image."""

import hashlib

import numpy as np
import pytest

from records.image import near_duplicates
from records.inspect import leaks
from tests import fakes
from tests.records import made


def columns(contents, split=0, label=0, group=None):
    count = len(contents)
    digests = [hashlib.sha256(str(content).encode()).digest() for content in contents]
    source = np.frombuffer(b"".join(digests), np.uint8).reshape(count, 32)
    return leaks.Columns(
        split=np.broadcast_to(np.array(split), count),
        label=np.broadcast_to(np.array(label), count),
        group=np.arange(count) if group is None else np.array(group),
        source=source,
        content=source,
    )


def prints_of(seeds, brighter=()):
    images = np.stack([fakes.pixels(seed) for seed in seeds]).astype(int)
    images[list(brighter)] += 3
    return near_duplicates.fingerprints(np.clip(images, 0, 255).astype(np.uint8))


def found(*arguments, **options):
    pairs = leaks.pairs_by_image(*arguments, **options)
    assert tuple(pairs) == leaks.ALL_KINDS
    return {kind: two.tolist() for kind, two in pairs.items() if len(two)}


def test_different_images_are_no_duplicates():
    assert found(columns(range(9)), prints_of(range(9))) == {}


def test_copies_are_named_with_the_first_and_are_no_near_duplicates():
    contents = [0, 1, 0, 2, 1, 0]
    pairs = found(columns(contents), prints_of(contents))
    assert pairs == {leaks.EQUAL: [[0, 2], [1, 4], [0, 5]]}
    assert leaks.num_sets(np.array(pairs[leaks.EQUAL])) == 2


@pytest.mark.parametrize("contents", ["AACC", "ACAC", "CAAC", "ACCA", "ACCAAC"])
def test_copies_are_no_near_duplicates_whatever_the_order(contents):
    pairs = found(columns(contents), prints_of([7] * len(contents)))
    first_other = next(row for row, content in enumerate(contents) if content != contents[0])
    assert pairs[leaks.NEAR] == [[0, first_other]]
    assert len(pairs[leaks.EQUAL]) == len(contents) - 2


@pytest.mark.parametrize(("splits", "labels"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_many_alike_are_not_all_compared(monkeypatch, splits, labels):
    many, compared, confirmed = 3000, [], near_duplicates._confirmed

    def counting(vectors, candidates, distance):
        compared.append(len(candidates))
        return confirmed(vectors, candidates, distance)

    monkeypatch.setattr(near_duplicates, "_confirmed", counting)
    rng = np.random.default_rng(0)
    prints = prints_of([1] * many) // 2 + rng.integers(
        0, 3, (many, near_duplicates.FINGERPRINT_BYTES), np.uint8
    )
    alike = columns(range(many), split=np.arange(many) % splits, label=np.arange(many) % labels)
    assert len(leaks.pairs_by_image(alike, prints)[leaks.NEAR]) == many - 1
    assert sum(compared) < many**2 / 10  # of half of that in all


def test_near_duplicates_are_named_with_the_first_of_their_set():
    pairs = found(columns(range(5)), prints_of([7, 8, 7, 7, 9], brighter=[2]))
    assert pairs == {leaks.NEAR: [[0, 2], [0, 3]]}


@pytest.mark.parametrize(
    ("column", "equal", "near"),
    [
        ("split", "equal_across_splits", "near_across_splits"),
        ("label", "equal_labels_differ", "near_labels_differ"),
    ],
)
def test_what_stands_in_two_splits_or_classes(column, equal, near):
    of_rows = {column: [0, 1, 0, 1]}
    assert found(columns([1, 1, 2, 3], **of_rows), prints_of([1, 1, 2, 3])) == {
        equal: [[1, 0], [0, 1]],
        leaks.EQUAL: [[0, 1]],
    }
    pairs = found(columns(range(4), **of_rows), prints_of([1, 2, 5, 5], brighter=[3]))
    assert pairs == {near: [[3, 2], [2, 3]], leaks.NEAR: [[2, 3]]}


MANY = 50


@pytest.mark.parametrize("column", ["split", "label"])
@pytest.mark.parametrize(
    ("contents", "num_equal", "num_near"),
    [
        ([0] * MANY + [0], MANY + 1, 0),
        ([0] * MANY + [1], 0, MANY + 1),
        (range(MANY + 1), 0, MANY + 1),
        ([0, *range(1, MANY), 0], 2, MANY - 1),  # all are near the last, the first is equal
        ([0] * MANY + [0, 1], MANY + 1, 1),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_every_image_of_both_sides_is_counted(column, contents, num_equal, num_near, turned):
    order = slice(None, None, -1 if turned else 1)
    side = [0] * MANY + [1] * (len(contents) - MANY)
    found = leaks.pairs_by_image(
        columns(contents[order], **{column: side[order]}), prints_of([7] * len(contents))
    )
    across = "across_splits" if column == "split" else "labels_differ"
    assert len(found[f"equal_{across}"]) == num_equal
    assert len(found[f"near_{across}"]) == num_near
    for kind in (f"equal_{across}", f"near_{across}"):
        left, right = found[kind].T
        assert len(set(right)) == len(right)
        assert (np.array(side[order])[left] != np.array(side[order])[right]).all()


def test_what_is_alike_is_what_comparing_every_pair_tells():
    rng = np.random.default_rng(5)
    # Sets whose ends are not near each other, though all between them are.
    ends = prints_of(range(40)).reshape(20, 2, -1) // 16 + 100
    share = rng.integers(0, 5, (20, 15))[..., None] / 4
    prints = (ends[:, :1] * share + ends[:, 1:] * (1 - share)).astype(np.uint8).reshape(300, -1)
    split, label = (np.repeat(rng.integers(0, 2, 60), 5) for _ in range(2))
    alike = leaks.pairs_by_image(columns(range(300), split=split, label=label), prints, 0.5)
    near = np.concatenate([*near_duplicates.batches(prints, 0.5, np.arange(300))])
    for kind, values in (("near_across_splits", split), ("near_labels_differ", label)):
        other = near[values[near[:, 0]] != values[near[:, 1]]]
        assert 50 < len(alike[kind]) < 250
        assert sorted(alike[kind][:, 1]) == np.unique(other).tolist()
        assert {tuple(sorted(two)) for two in alike[kind].tolist()} <= set(map(tuple, other))


def test_a_group_in_two_splits():
    groups = columns(range(4), split=[0, 0, 1, 1], group=[5, -1, 5, -2])
    assert found(groups, prints_of(range(4))) == {"group_across_splits": [[2, 0], [0, 2]]}


def test_no_set_has_more_pairs_than_images():
    many = 400
    label, split = np.arange(many) % 2, np.arange(many) // 2 % 2
    pairs = found(columns(range(many), label=label, split=split), prints_of([1] * many))
    for two in pairs.values():
        assert len(two) <= many and len({row for _, row in two}) == len(two)
    assert [row for _, row in pairs[leaks.NEAR]] == list(range(1, many))


def test_the_distance_decides():
    prints = prints_of([3, 3], brighter=[1])
    prints[1, :40] ^= 12
    assert found(columns(range(2)), prints, distance=0.0) == {}
    assert leaks.NEAR in found(columns(range(2)), prints, distance=0.3)
    with pytest.raises(ValueError, match=r"distance must lie in \[0, 1\)"):
        leaks.pairs_by_image(columns(range(2)), prints, 1.0)


# --- the audit of a record set ---


def audited(tmp_path, rows, **options):
    """Returns (kind, key, key) of each finding, sorted."""
    opened = made.record_set_of(tmp_path / "set", rows, **options)
    return sorted(
        (finding.kind, *sorted((finding.left.key, finding.right.key)))
        for finding in leaks.findings(opened)
    )


def test_a_set_without_leaks_has_no_findings(tmp_path):
    assert audited(tmp_path, made.rows([b"%d" % number for number in range(50)])) == []


def test_leaks_and_conflicts_are_audited(tmp_path):
    one, other = fakes.pixels(1, made.SIZE), fakes.pixels(2, made.SIZE)
    near = (one // 2 + one // 2 + 1).astype(np.uint8)
    rows = [
        made.Row(b"same 1", image=other, source=b"x"),
        made.Row(b"same 2", image=other, source=b"x", split="test", label=1),
        made.Row(b"near 1", image=one),
        made.Row(b"near 2", image=near, split="test"),
        made.Row(b"near 3", image=one, label=1),
        made.Row(b"group 1", group=99),
        made.Row(b"group 2", group=99),
        made.Row(b"group 3", group=99, split="test"),
    ]
    assert audited(tmp_path, rows) == [
        ("equal_across_splits", "same 1", "same 2"),
        ("equal_labels_differ", "same 1", "same 2"),
        ("group_across_splits", "group 1", "group 3"),
        ("group_across_splits", "group 2", "group 3"),
        ("near_across_splits", "near 1", "near 2"),
        ("near_across_splits", "near 2", "near 3"),
        ("near_labels_differ", "near 1", "near 3"),
        ("near_labels_differ", "near 2", "near 3"),
    ]


def test_every_row_with_a_counterpart_elsewhere_is_named_once(tmp_path):
    splits = ("train", "train", "test", "validation", "test")
    rows = [made.Row(b"%d" % n, source=b"x", split=split) for n, split in enumerate(splits)]
    opened = made.record_set_of(tmp_path / "set", [*rows, made.Row(b"alone")])
    pairs = [(f.left.key, f.right.key) for f in leaks.findings(opened) if "equal" in f.kind]
    assert sorted(pairs) == [("0", "2"), ("0", "3"), ("0", "4"), ("1", "2")]


def test_two_crops_of_one_file_may_have_two_labels(tmp_path):
    rows = [
        made.Row(b"a.jpg#0,0,9,9", source=b"x", label=0),
        made.Row(b"a.jpg#9,0,18,9", source=b"x", label=1),
        made.Row(b"b.jpg#0,0,9,9", source=b"x", label=1),
    ]
    settings = {"boxes": True}
    assert ("equal_labels_differ", "a.jpg#0,0,9,9", "b.jpg#0,0,9,9") in audited(
        tmp_path / "boxes", rows, settings=settings
    )
    assert len(audited(tmp_path / "boxes 2", rows[:2], settings=settings)) == 0
    assert len(audited(tmp_path / "whole", rows[:2])) == 1
