"""Equal and alike images, a pair for each row however many look the same."""

import hashlib

import numpy as np
import pytest

from records import leaks, likeness, near_duplicates
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
        equal: [[0, 1]],
        likeness.COPIES: [[0, 1]],
    }
    pairs = found(columns(range(4), **of_rows), prints_of([1, 2, 5, 5], brighter=[3]))
    assert pairs == {near: [[2, 3]], likeness.LOOKALIKES: [[2, 3]]}


def test_a_group_in_two_splits():
    groups = columns(range(4), split=[0, 0, 1, 1], group=[5, -1, 5, -2])
    assert found(groups, prints_of(range(4))) == {"group_across_splits": [[0, 2]]}


def test_no_set_has_more_pairs_than_images():
    many = 400
    label, split = np.arange(many) % 2, np.arange(many) // 2 % 2
    pairs = found(columns(range(many), label=label, split=split), prints_of([1] * many))
    for two in pairs.values():
        assert len(two) < many and len({row for _, row in two}) == len(two)
    assert [row for _, row in pairs[likeness.LOOKALIKES]] == list(range(1, many))


def test_the_distance_decides():
    prints = prints_of([3, 3], brighter=[1])
    prints[1, :40] ^= 12
    assert found(columns(range(2)), prints, distance=0.0) == {}
    assert likeness.LOOKALIKES in found(columns(range(2)), prints, distance=0.3)
    with pytest.raises(ValueError, match="distance must be at least 0"):
        likeness.pairs(columns(range(2)), prints, 1.0)
