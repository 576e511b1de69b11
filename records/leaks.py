"""Does a score on one split say something? Images that stand in two splits, or under two labels.

A model that has seen an image, another saving of it or another of its group in training knows the
answer in the test. Equal images under different labels are a mistake in the labels.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from records import near_duplicates, record_set

KINDS = {  # in the order of a report; the first letters of a kind say what it is about
    "equal_across_splits": "equal files in two splits",
    "near_across_splits": "near duplicates in two splits",
    "group_across_splits": "one group in two splits",
    "equal_labels_differ": "equal images with different labels",
    "near_labels_differ": "near duplicates with different labels",
}
FAULTS = tuple(KINDS)[:4]  # the last is a hint: two classes may look much alike


@dataclasses.dataclass(frozen=True)
class Place:
    """A row of a set: its split, its number there, its key and the name of its class."""

    split: str
    row: int
    key: str
    class_name: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """Two rows that should not stand as they do; `kind` is one of `KINDS`."""

    kind: str
    left: Place
    right: Place


def findings(
    opened: record_set.RecordSet, distance: float = near_duplicates.DISTANCE
) -> Iterator[Finding]:
    """Yields what is wrong with the splits and labels of a set, in pairs of rows.

    Of equal images, and of a group, each row that has a counterpart in another split is named with
    the first such, so n rows never give more than n pairs. Of near duplicates all pairs are named,
    where rows of one thumbnail, split and class stand for each other.

    Args:
        opened: the set; all its pixels are read.
        distance: of near duplicates, in units of contrast.

    Raises:
        ManifestError: if an index cannot be read.
        DamagedRecordError: if a record cannot be read.
        ValueError: if the distance is out of range.
    """
    rows = _Rows(opened)
    group = rows.group[:, None].view(np.uint8)
    yield from rows.findings("equal_across_splits", _counterparts(rows.source, rows.split))
    yield from rows.findings("group_across_splits", _counterparts(group, rows.split))
    yield from rows.findings("equal_labels_differ", _counterparts(rows.content, rows.label))
    prints = np.concatenate([_fingerprints(opened, name) for name in opened.manifest.splits])
    kinds = rows.split * len(opened.manifest.class_names) + rows.label
    for pairs in near_duplicates.batches(prints, distance, kinds):
        # Equal files were named already.
        pairs = pairs[rows.differ(rows.content, pairs)]
        yield from rows.findings("near_across_splits", pairs[rows.differ(rows.split, pairs)])
        yield from rows.findings("near_labels_differ", pairs[rows.differ(rows.label, pairs)])


class _Rows:
    """The columns of all splits, one below the other."""

    def __init__(self, opened: record_set.RecordSet):
        self.opened = opened
        self.names = list(opened.manifest.splits)
        indexes = [opened.index(name) for name in self.names]
        self.starts = np.cumsum([0, *(len(index) for index in indexes)])
        self.split = np.repeat(np.arange(len(indexes)), [len(index) for index in indexes])
        self.label = np.concatenate([index.label for index in indexes])
        self.group = np.concatenate([index.group for index in indexes])
        self.source = np.concatenate([index.source_sha256 for index in indexes])
        self.content = self.source
        if opened.manifest.settings.get("boxes"):  # several images may be cut from one file
            boxes = [key.rpartition(b"#")[2] for index in indexes for key in index.keys]
            self.content = np.hstack([self.source, _numbered(boxes)])

    def differ(self, column: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Returns bool [m]: whether the two rows of a pair differ in a column."""
        unequal = column[pairs[:, 0]] != column[pairs[:, 1]]
        return unequal if unequal.ndim == 1 else unequal.any(1)

    def findings(self, kind: str, pairs: np.ndarray) -> Iterator[Finding]:
        for left, right in pairs.tolist():
            yield Finding(kind, self._place(left), self._place(right))

    def _place(self, at: int) -> Place:
        name = self.names[self.split[at]]
        row = at - int(self.starts[self.split[at]])
        class_name = self.opened.manifest.class_names[self.label[at]]
        return Place(name, row, self.opened.index(name).key(row), class_name)


def _numbered(values: list[bytes]) -> np.ndarray:
    """Returns uint8 [n, 8]: equal lines for equal values."""
    numbers: dict[bytes, int] = {}
    column = [numbers.setdefault(value, len(numbers)) for value in values]
    return np.array(column, np.int64).reshape(-1, 1).view(np.uint8)


def _counterparts(column: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Returns int64 [m, 2]: each row with the first that has the same bytes but is of another kind.

    Args:
        column: uint8 [n, bytes].
        kind: int [n].
    """
    if not len(column):
        return np.empty((0, 2), np.int64)
    whole = np.ascontiguousarray(column).view(f"V{column.shape[1]}").ravel()
    order = np.argsort(whole, kind="stable")
    begins = np.concatenate([[True], whole[order[1:]] != whole[order[:-1]]])
    starts, run = np.flatnonzero(begins), np.cumsum(begins) - 1
    first = order[starts][run]
    is_other = kind[order] != kind[first]
    places = np.where(is_other, np.arange(len(order)), len(order))
    first_other = np.minimum.reduceat(places, starts)[run]
    others = np.stack([first, order], axis=1)[is_other]
    alike = ~is_other & (first_other < len(order)) & (order != first)
    likes = np.stack([order[alike], order[first_other[alike]]], axis=1)
    return np.concatenate([others, likes])


def _fingerprints(opened: record_set.RecordSet, split: str) -> np.ndarray:
    batches = opened.pixel_batches(split)
    parts = [near_duplicates.fingerprints(images) for images in batches]
    return np.concatenate([np.empty((0, near_duplicates.FINGERPRINT_BYTES), np.uint8), *parts])
