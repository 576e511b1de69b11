import numpy as np
import pytest

from records.common import apportionment


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        ([1, 1, 1], 10, [4, 3, 3]),
        ([0.5, 0.25, 0.25], 8, [4, 2, 2]),
        ([0.7, 0.15, 0.15], 20, [14, 3, 3]),  # exact but for rounding
        ([0, 1], 5, [0, 5]),
        ([1, 2], 0, [0, 0]),
    ],
)
def test_largest_remainder(shares, total, expected):
    assert apportionment.largest_remainder(np.array(shares), total).tolist() == expected


def test_every_division_and_their_sums_keep_to_the_shares():
    rng, shares = np.random.default_rng(0), np.array([0.7, 0.15, 0.15])
    apportioner, sums, count = apportionment.Apportioner(3), np.zeros(3), 0
    for total in rng.integers(0, 12, 300):
        parts = apportioner.divide(shares, total)
        assert parts.sum() == total and (np.abs(parts - shares * total) < 1).all()
        sums, count = sums + parts, count + total
        assert (np.abs(sums - shares * count) < 1.5).all()
