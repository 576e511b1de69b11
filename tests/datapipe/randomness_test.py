"""Permutations and uniform numbers that follow from a seed and a position."""

import numpy as np
import pytest

from datapipe import randomness
from records.common.backend import tf


def test_the_seed_of_each_use_is_pinned():
    # Every stream and checkpoint of earlier versions follows from these.
    assert randomness.derive_seed(7, "slots") == 906500479643312015
    assert randomness.derive_seed(7, "augment") != randomness.derive_seed(8, "augment")


def places(size, keys, salt=0):
    """Returns where `permute` puts each index under each key; int64 [keys, size]."""
    index, key = np.tile(np.arange(size), keys), np.repeat(np.arange(keys), size)
    zeros = np.zeros_like(key)
    shuffled = randomness.permute(index, salt, *map(tf.constant, (key, zeros, zeros + size)))
    return shuffled.numpy().reshape(keys, size)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_permute_permutes(size):
    np.testing.assert_array_equal(np.sort(places(size, 20)), [np.arange(size)] * 20)


def test_permute_knows_every_permutation_alike():
    codes = places(4, 24 * 200) @ [64, 16, 4, 1]
    _, seen = np.unique(codes, return_counts=True)
    assert len(seen) == 24
    assert ((seen - 200) ** 2 / 200).sum() < 23 + 5 * np.sqrt(2 * 23)


def test_permute_puts_neighbours_anywhere():
    # The place of one row says nothing of that of the next: 8 * 7 pairs, equally often.
    both = places(8, 56 * 100)
    pairs, seen = np.unique(both[:, 3] * 8 + both[:, 4], return_counts=True)
    assert len(pairs) == 56
    assert ((seen - 100) ** 2 / 100).sum() < 55 + 5 * np.sqrt(2 * 55)


def test_a_position_has_its_numbers_wherever_the_batch_begins():
    whole = randomness.uniforms(5, tf.range(100, dtype=tf.int64)).numpy()
    for start, end in ((0, 1), (1, 4), (37, 100)):
        part = randomness.uniforms(5, tf.range(start, end, dtype=tf.int64)).numpy()
        np.testing.assert_array_equal(part, whole[start:end])
    far = tf.range(2**40, 2**40 + 4, dtype=tf.int64)
    assert randomness.uniforms(5, far).numpy().std() > 0.1
    assert (randomness.uniforms(6, tf.range(100, dtype=tf.int64)).numpy() != whole).all()
