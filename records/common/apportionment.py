"""Whole numbers in the proportion of shares."""

import numpy as np


def largest_remainder(shares: np.ndarray, total: int) -> np.ndarray:
    """Returns whole numbers proportional to `shares` that sum to `total`; int64 of the same shape.

    Each is the exact share rounded down or up; what rounding down leaves over goes to the largest
    fractions, ties to the earlier place (Hamilton's method of apportionment).
    """
    return _rounded(_exact(shares, total), np.zeros(np.shape(shares)), total)


class Apportioner:
    """Divides one total after another by shares, so that the sums keep to the shares as well.

    Rounding each total on its own would favour the same place every time: three images of each of
    100 classes at 70/15/15 would leave the last split empty. What a place got too little or too
    much of so far decides who gets the next leftover.
    """

    def __init__(self, places: int):
        self._owed = np.zeros(places)

    def divide(self, shares: np.ndarray, total: int) -> np.ndarray:
        """Returns int64 of the shape of `shares`, each its exact share rounded down or up."""
        exact = _exact(shares, total)
        result = _rounded(exact, self._owed, total)
        self._owed += exact - result
        return result


def _exact(shares: np.ndarray, total: int) -> np.ndarray:
    return np.asarray(shares, np.float64) / np.sum(shares) * total


def _rounded(exact: np.ndarray, owed: np.ndarray, total: int) -> np.ndarray:
    # A share that is whole but for rounding (2.9999999996) counts as whole.
    whole = np.floor(exact + 1e-9).astype(np.int64)
    fraction = np.maximum(exact - whole, 0)
    # Only places with a fraction may round up; among them, the most owed first.
    claim = np.where(fraction > 1e-9, fraction + owed, -np.inf)
    whole[np.argsort(-claim, kind="stable")[: total - int(whole.sum())]] += 1
    return whole
