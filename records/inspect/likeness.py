"""Which images are equal or look the same: every kind of `leaks`, and plain copies."""

import numpy as np
import threadpoolctl

from records.image import near_duplicates
from records.inspect import leaks

COPIES = "equal"  # images whose like stands before them
LOOKALIKES = "near"  # images that are no copies, tied to one before them by near duplicates
KINDS = (*leaks.KINDS, COPIES, LOOKALIKES)


def pairs(
    columns: leaks.Columns, prints: np.ndarray, distance: float = near_duplicates.DISTANCE
) -> dict[str, np.ndarray]:
    """Returns for each kind the pairs of rows, int64 [m, 2]: a row and, second, one like it.

    Each row that is concerned stands second exactly once in a kind, so that a kind has as many
    pairs as images. Of the kinds of `leaks` both images of a pair are concerned, and the near ones
    leave out what is named as equal. Of `COPIES` and `LOOKALIKES` the first row is the first of
    all that are tied together.

    Args:
        columns: of the images.
        prints: uint8 [n, F], see `near_duplicates.fingerprints`.
        distance: of near duplicates, in units of contrast.

    Raises:
        ValueError: if the distance is out of range.
    """
    rows, first = np.arange(len(prints)), _first_equal(columns.content)
    found = {kind: _both_ends(two, len(rows)) for kind, two in leaks.equal_pairs(columns)}
    # Where others use the cores too, the threads of BLAS wait for each other: 17 s instead of 4 for
    # 129,600 images.
    with threadpoolctl.threadpool_limits(1, "blas"):
        root = _roots(first, prints, distance)
        for name, kinds in (("across_splits", columns.split), ("labels_differ", columns.label)):
            near = _near(prints, kinds, root, distance)
            is_named = np.isin(near[:, 1], found[f"equal_{name}"][:, 1])
            found[f"near_{name}"] = near[~is_named]
    found[COPIES] = _pairs(first, first != rows)
    found[LOOKALIKES] = _pairs(root, (first == rows) & (root != rows))
    return {kind: found[kind] for kind in KINDS}


def num_sets(two: np.ndarray) -> int:
    """Returns how many sets of images the pairs of `COPIES` or `LOOKALIKES` make up."""
    return len(np.unique(two[:, 0]))


def _pairs(other: np.ndarray, has_one: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(has_one)
    return np.stack([other[rows], rows], axis=1)


def _both_ends(two: np.ndarray, num_rows: int) -> np.ndarray:
    """Returns each row that stands in a pair with the first that it is paired with."""
    other = np.full(num_rows, num_rows)
    np.minimum.at(other, two, two[:, ::-1])
    return _pairs(other, other < num_rows)


def _first_equal(content: np.ndarray) -> np.ndarray:
    """Returns for each row the first with the same content, int64 [n]."""
    whole = np.ascontiguousarray(content).view(f"V{content.shape[1]}").ravel()
    _, first, place = np.unique(whole, return_index=True, return_inverse=True)
    return first[place]


def _roots(first: np.ndarray, prints: np.ndarray, distance: float) -> np.ndarray:
    """Returns for each row the first that it is tied to, by near duplicates or as a copy."""
    rows = np.flatnonzero(first == np.arange(len(first)))
    root = np.empty_like(first)
    root[rows] = rows[near_duplicates.groups(prints[rows], distance)]
    return root[first]


def _near(prints: np.ndarray, kinds: np.ndarray, root: np.ndarray, distance: float) -> np.ndarray:
    """Returns each row that has a near one of another kind, with one such."""
    is_mixed = np.zeros(len(root), bool)  # all others have nothing to find among those tied to them
    is_mixed[root[kinds != kinds[root]]] = True
    rows = np.flatnonzero(is_mixed[root])
    other = near_duplicates.of_other_kind(prints[rows], kinds[rows], distance)
    has_one = other >= 0
    return np.stack([rows[other[has_one]], rows[has_one]], axis=1)
