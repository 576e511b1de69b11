"""Integers in proportion to shares."""

import numpy as np


def largest_remainder(shares: np.ndarray, total: int) -> np.ndarray:
    """Returns integers proportional to `shares` that sum to `total`; int64 of the same shape.

    Each exact share is rounded down or up: up where the fraction is largest, ties by position
    (Hamilton's method of apportionment).
    """
    return _rounded(_exact(shares, total), np.zeros(np.shape(shares)), total)


class Apportioner:
    """Divides one total after another by shares, so that the sums follow the shares as well.

    Rounding each total on its own would favour the same share every time: three images of each of
    100 classes at 70/15/15 would leave the last split empty. So rounding errors are carried over:
    the next remainder goes to the share that has received too little so far.
    """

    def __init__(self, num_shares: int):
        self._owed = np.zeros(num_shares)

    def divide(self, shares: np.ndarray, total: int) -> np.ndarray:
        """Returns int64 of the shape of `shares`, each its exact share rounded down or up."""
        exact = _exact(shares, total)
        result = _rounded(exact, self._owed, total)
        self._owed += exact - result
        return result


def _exact(shares: np.ndarray, total: int) -> np.ndarray:
    return np.asarray(shares, np.float64) / np.sum(shares) * total


def _rounded(exact: np.ndarray, owed: np.ndarray, total: int) -> np.ndarray:
    # A share that is an integer but for rounding errors (2.9999999996) counts as one.
    result = np.floor(exact + 1e-9).astype(np.int64)
    fraction = np.maximum(exact - result, 0)
    # Only shares with a fraction may be rounded up, in descending order of what they are owed.
    claim = np.where(fraction > 1e-9, fraction + owed, -np.inf)
    result[np.argsort(-claim, kind="stable")[: total - int(result.sum())]] += 1
    return result
