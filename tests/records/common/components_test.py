"""Tests for records.common.components."""

import numpy as np
import pytest

from records.common import components


def pairs(edges):
    return np.array(edges, np.int64).reshape(-1, 2)


@pytest.mark.parametrize(
    ("num_rows", "edges", "first"),
    [
        (0, [], []),
        (3, [], [0, 1, 2]),
        (4, [(3, 1)], [0, 1, 2, 1]),
        (5, [(4, 3), (3, 2), (0, 1)], [0, 0, 2, 2, 2]),  # a path joins its ends
        (3, [(1, 1), (2, 0), (0, 2), (2, 0)], [0, 1, 0]),  # loops and repeated edges
    ],
)
def test_the_first_row_stands_for_its_component(num_rows, edges, first):
    assert components.join(np.arange(num_rows), pairs(edges)).tolist() == first


def test_edges_may_come_in_any_order_and_bit_by_bit():
    edges = np.random.default_rng(0).integers(0, 300, (150, 2))
    whole = components.join(np.arange(300), edges)
    root = np.arange(300)
    for at in range(0, 150, 7):
        root = components.join(root, edges[::-1][at : at + 7])
    np.testing.assert_array_equal(root, whole)
    assert 100 < len(np.unique(whole)) < 250 and (whole <= np.arange(300)).all()
