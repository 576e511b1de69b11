"""Duplicates and near duplicates, leakage between splits, and contradicting labels.

A model that saw a test image in training, or a re-encoded copy of it, or another image of its
group, knows the answer, so the score is optimistic. Equal images with different labels are label
errors. `findings` lists the pairs of a record set for an audit; `pairs_by_image` gives at most one
pair for each image, so that a survey can count images.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import threadpoolctl

from records.format import record_set
from records.image import near_duplicates
from records.inspect import row_table

KINDS = {  # in the order of a report
    "equal_across_splits": "equal files in two splits",
    "near_across_splits": "near duplicates in two splits",
    "group_across_splits": "one group in two splits",
    "equal_labels_differ": "equal images with different labels",
    "near_labels_differ": "near duplicates with different labels",
}
FAULTS = tuple(KINDS)[:4]  # the last is only a hint: two classes may look alike
EQUAL, NEAR = "equal", "near"  # duplicates and near duplicates in any split
ALL_KINDS = (*KINDS, EQUAL, NEAR)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of images, one row an image.

    Attributes:
        split: int [n]; all equal where nothing is split.
        label: int [n].
        group: int64 [n], equal for images that belong together.
        source: uint8 [n, bytes], digest of the file.
        content: uint8 [n, bytes], see `contents`.
    """

    split: np.ndarray
    label: np.ndarray
    group: np.ndarray
    source: np.ndarray
    content: np.ndarray

    @property
    def split_and_label(self) -> np.ndarray:
        """A number for each combination of split and label, int64 [n]."""
        return self.split.astype(np.int64) * (int(self.label.max(initial=0)) + 1) + self.label


def contents(source: np.ndarray, keys: Iterable[bytes], *, boxes: bool) -> np.ndarray:
    """Returns uint8 [n, bytes]: equal rows for equal images.

    Args:
        source: uint8 [n, bytes], digest of the file.
        boxes: whether images may be crops of one file; the boxes in their keys then count too.
    """
    if not boxes:
        return source
    numbers: dict[bytes, int] = {}
    of_box = [numbers.setdefault(key.rpartition(b"#")[2], len(numbers)) for key in keys]
    return np.hstack([source, np.array(of_box, np.int64).reshape(-1, 1).view(np.uint8)])


def columns_of(rows: row_table.RowTable) -> Columns:
    """Returns the columns of rows of a record set."""
    source = rows.column("source_sha256")
    return Columns(
        split=rows.split,
        label=rows.column("label"),
        group=rows.column("group"),
        source=source,
        content=contents(source, rows.raw_keys, boxes=rows.has_boxes),
    )


# --- all pairs of a record set ---


@dataclasses.dataclass(frozen=True)
class Place:
    """A row of a record set."""

    split: str
    row: int
    key: str
    class_name: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """A pair of rows of one of the `KINDS`."""

    kind: str
    left: Place
    right: Place


def findings(
    opened: record_set.RecordSet, distance: float = near_duplicates.DISTANCE
) -> Iterator[Finding]:
    """Yields leaks between the splits of a record set and contradicting labels; reads all pixels.

    Among equal images, and within a group, each row with a counterpart in another split is paired
    with the first one, so n rows give at most n pairs. Of near duplicates all pairs are yielded,
    except that rows of one thumbnail, split and class are represented by one of them.

    Args:
        distance: of near duplicates, in units of contrast, in [0, 1).
    """
    rows = row_table.rows_of(opened, list(opened.manifest.splits))
    columns = columns_of(rows)

    def place(i: int) -> Place:
        split, label = rows.splits[rows.split[i]], columns.label[i]
        return Place(split, int(rows.row[i]), rows.keys[i], rows.class_names[label])

    for kind, pairs in _all_pairs(opened, columns, distance):
        for left, right in pairs.tolist():
            yield Finding(kind, place(left), place(right))


def _all_pairs(
    opened: record_set.RecordSet, columns: Columns, distance: float
) -> Iterator[tuple[str, np.ndarray]]:
    yield from _equal_kinds(columns)
    prints = np.concatenate([_fingerprints(opened, name) for name in opened.manifest.splits])
    for near in near_duplicates.batches(prints, distance, columns.split_and_label):
        yield from _near_kinds(columns, near)


def _fingerprints(opened: record_set.RecordSet, split: str) -> np.ndarray:
    parts = map(near_duplicates.fingerprints, opened.pixel_batches(split))
    return np.concatenate([np.empty((0, near_duplicates.FINGERPRINT_BYTES), np.uint8), *parts])


def _equal_kinds(columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the kinds of findings that need no pixels, each with its pairs, int64 [m, 2]."""
    group = columns.group.astype(np.int64)[:, None].view(np.uint8)
    yield "equal_across_splits", _counterparts(columns.source, columns.split)
    yield "group_across_splits", _counterparts(group, columns.split)
    yield "equal_labels_differ", _counterparts(columns.content, columns.label)


def _near_kinds(columns: Columns, pairs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the kinds of findings among near duplicates, without equal images."""
    left, right = pairs.T
    differ = (columns.content[left] != columns.content[right]).any(1)
    for kind, column in (
        ("near_across_splits", columns.split),
        ("near_labels_differ", columns.label),
    ):
        yield kind, pairs[differ & (column[left] != column[right])]


def _counterparts(column: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Returns int64 [m, 2]: each row with the first of equal bytes but another category."""
    if not len(column):
        return np.empty((0, 2), np.int64)
    values = _as_scalars(column)
    order = np.argsort(values, kind="stable")
    begins = np.concatenate([[True], values[order[1:]] != values[order[:-1]]])
    starts, run = np.flatnonzero(begins), np.cumsum(begins) - 1
    first = order[starts][run]
    is_other = category[order] != category[first]
    places = np.where(is_other, np.arange(len(order)), len(order))
    first_other = np.minimum.reduceat(places, starts)[run]
    others = np.stack([first, order], axis=1)[is_other]
    # Rows of the same category as the first of their run: paired with the first of another one.
    same = ~is_other & (first_other < len(order)) & (order != first)
    return np.concatenate([others, np.stack([order[same], order[first_other[same]]], axis=1)])


def _as_scalars(column: np.ndarray) -> np.ndarray:
    """Returns uint8 [n, bytes] as [n] scalars, which NumPy sorts and compares."""
    return np.ascontiguousarray(column).view(f"V{column.shape[1]}").ravel()


# --- one pair for each image ---


def pairs_by_image(
    columns: Columns, prints: np.ndarray, distance: float = near_duplicates.DISTANCE
) -> dict[str, np.ndarray]:
    """Returns for each of `ALL_KINDS` pairs of rows, int64 [m, 2]: a counterpart, and a row.

    Each affected row is the second of exactly one pair of a kind, so a kind has as many pairs as
    affected images. In the kinds of `KINDS` both images of a pair are affected; the near kinds omit
    images that the equal ones have. In `EQUAL` and `NEAR` the counterpart is the first image of the
    connected set, which does not count as affected; `NEAR` omits equal images.

    Args:
        prints: uint8 [n, F], see `near_duplicates.fingerprints`.
        distance: of near duplicates, in units of contrast.
    """
    rows, first = np.arange(len(prints)), _first_equal(columns.content)
    pairs_of = {kind: _both_ends(pairs, len(rows)) for kind, pairs in _equal_kinds(columns)}
    # Beside another program BLAS threads wait for each other: 17 s instead of 4 for 129,600 images.
    with threadpoolctl.threadpool_limits(1, "blas"):
        root = _roots(first, prints, distance)
        for name, column in (("across_splits", columns.split), ("labels_differ", columns.label)):
            near = _near(prints, column, root, distance)
            is_equal = np.isin(near[:, 1], pairs_of[f"equal_{name}"][:, 1])
            pairs_of[f"near_{name}"] = near[~is_equal]
    pairs_of[EQUAL] = _pairs(first, first != rows)
    pairs_of[NEAR] = _pairs(root, (first == rows) & (root != rows))
    return {kind: pairs_of[kind] for kind in ALL_KINDS}


def num_sets(pairs: np.ndarray) -> int:
    """Returns how many connected sets of images the pairs of `EQUAL` or `NEAR` form."""
    return len(np.unique(pairs[:, 0]))


def _pairs(counterpart: np.ndarray, has_one: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(has_one)
    return np.stack([counterpart[rows], rows], axis=1)


def _both_ends(pairs: np.ndarray, num_rows: int) -> np.ndarray:
    """Returns each row of a pair once, with the first row that it is paired with."""
    counterpart = np.full(num_rows, num_rows)
    np.minimum.at(counterpart, pairs, pairs[:, ::-1])
    return _pairs(counterpart, counterpart < num_rows)


def _first_equal(content: np.ndarray) -> np.ndarray:
    """Returns for each row the first with the same content, int64 [n]."""
    _, first, place = np.unique(_as_scalars(content), return_index=True, return_inverse=True)
    return first[place]


def _roots(first: np.ndarray, prints: np.ndarray, distance: float) -> np.ndarray:
    """Returns for each row the first that is connected to it by equal or near images."""
    rows = np.flatnonzero(first == np.arange(len(first)))
    root = np.empty_like(first)
    root[rows] = rows[near_duplicates.groups(prints[rows], distance)]
    return root[first]


def _near(
    prints: np.ndarray, category: np.ndarray, root: np.ndarray, distance: float
) -> np.ndarray:
    """Returns pairs of a near duplicate of another category and a row that has one."""
    # Only connected sets with more than one category are compared again.
    is_mixed = np.zeros(len(root), bool)
    is_mixed[root[category != category[root]]] = True
    rows = np.flatnonzero(is_mixed[root])
    other = near_duplicates.of_other_kind(prints[rows], category[rows], distance)
    has_one = other >= 0
    return np.stack([rows[other[has_one]], rows[has_one]], axis=1)
