"""Equal and alike images, a pair for each row concerned, however many look the same."""

import hashlib

import numpy as np
import pytest

from records.image import near_duplicates
from records.inspect import leaks, likeness
from tests import fakes


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
    pairs = likeness.pairs(*arguments, **options)
    assert tuple(pairs) == likeness.KINDS
    return {kind: two.tolist() for kind, two in pairs.items() if len(two)}


def test_different_images_are_not_alike():
    assert found(columns(range(9)), prints_of(range(9))) == {}


def test_copies_are_named_with_the_first_and_are_no_lookalikes():
    contents = [0, 1, 0, 2, 1, 0]
    pairs = found(columns(contents), prints_of(contents))
    assert pairs == {likeness.COPIES: [[0, 2], [1, 4], [0, 5]]}
    assert likeness.num_sets(np.array(pairs[likeness.COPIES])) == 2


@pytest.mark.parametrize("contents", ["AACC", "ACAC", "CAAC", "ACCA", "ACCAAC"])
def test_copies_are_no_lookalikes_whatever_the_order(contents):
    pairs = found(columns(contents), prints_of([7] * len(contents)))
    first_other = next(row for row, content in enumerate(contents) if content != contents[0])
    assert pairs[likeness.LOOKALIKES] == [[0, first_other]]
    assert len(pairs[likeness.COPIES]) == len(contents) - 2


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
    assert len(likeness.pairs(alike, prints)[likeness.LOOKALIKES]) == many - 1
    assert sum(compared) < many**2 / 10  # of half of that in all


def test_lookalikes_are_named_with_the_first_of_their_set():
    pairs = found(columns(range(5)), prints_of([7, 8, 7, 7, 9], brighter=[2]))
    assert pairs == {likeness.LOOKALIKES: [[0, 2], [0, 3]]}


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
        likeness.COPIES: [[0, 1]],
    }
    pairs = found(columns(range(4), **of_rows), prints_of([1, 2, 5, 5], brighter=[3]))
    assert pairs == {near: [[3, 2], [2, 3]], likeness.LOOKALIKES: [[2, 3]]}


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
    found = likeness.pairs(
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
    alike = likeness.pairs(columns(range(300), split=split, label=label), prints, 0.5)
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
    assert [row for _, row in pairs[likeness.LOOKALIKES]] == list(range(1, many))


def test_the_distance_decides():
    prints = prints_of([3, 3], brighter=[1])
    prints[1, :40] ^= 12
    assert found(columns(range(2)), prints, distance=0.0) == {}
    assert likeness.LOOKALIKES in found(columns(range(2)), prints, distance=0.3)
    with pytest.raises(ValueError, match="distance must be at least 0"):
        likeness.pairs(columns(range(2)), prints, 1.0)
