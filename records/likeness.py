"""Which images are equal or look the same: every kind of pair of `leaks`, and plain copies."""

import numpy as np
import threadpoolctl

from records import leaks, near_duplicates

COPIES = "equal"  # images whose like stands before them
LOOKALIKES = "near"  # images tied to one before them by near duplicates that are not equal
KINDS = (*leaks.KINDS, COPIES, LOOKALIKES)


def pairs(
    columns: leaks.Columns, prints: np.ndarray, distance: float = near_duplicates.DISTANCE
) -> dict[str, np.ndarray]:
    """Returns for each kind the pairs of rows, int64 [m, 2]: a row and, second, one like it.

    Each row stands second at most once in a kind, so that no set has more pairs than images,
    however many of them look the same. Of `COPIES` and `LOOKALIKES` the first row is the first of
    all that are tied together.

    Args:
        columns: of the images.
        prints: uint8 [n, F], see `near_duplicates.fingerprints`.
        distance: of near duplicates, in units of contrast.

    Raises:
        ValueError: if the distance is out of range.
    """
    found = {kind: _once(two) for kind, two in leaks.equal_pairs(columns)}
    found[COPIES] = _copies(columns.content)
    num_rows = len(prints)
    firsts = {kind: np.full(num_rows, num_rows) for kind in leaks.KINDS if kind not in found}
    root = np.arange(num_rows)
    # Where others use the cores too, the threads of BLAS wait for each other: 17 s instead of 4 for
    # 129,600 images.
    with threadpoolctl.threadpool_limits(1, "blas"):
        for near in near_duplicates.batches(prints, distance, columns.kinds):
            root = near_duplicates.joined(root, near[columns.differ("content", near)])
            for kind, two in leaks.near_kinds(columns, near):
                np.minimum.at(firsts[kind], two[:, 1], two[:, 0])
    found |= {kind: _pairs(first, first < num_rows) for kind, first in firsts.items()}
    found[LOOKALIKES] = _pairs(root, root != np.arange(num_rows))
    return {kind: found[kind] for kind in KINDS}


def num_sets(two: np.ndarray) -> int:
    """Returns how many sets of images the pairs of `COPIES` or `LOOKALIKES` make up."""
    return len(np.unique(two[:, 0]))


def _pairs(first: np.ndarray, has_one: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(has_one)
    return np.stack([first[rows], rows], axis=1)


def _once(two: np.ndarray) -> np.ndarray:
    """Returns pairs ordered so that each row stands second once."""
    ordered = np.sort(two, axis=1)
    _, at = np.unique(ordered[:, 1], return_index=True)
    return ordered[at]


def _copies(content: np.ndarray) -> np.ndarray:
    whole = np.ascontiguousarray(content).view(f"V{content.shape[1]}").ravel()
    _, first, place = np.unique(whole, return_index=True, return_inverse=True)
    return _pairs(first[place], first[place] != np.arange(len(whole)))
