"""Does a score on one split say something? Images that stand in two splits, or under two labels.

A model that has seen an image, another saving of it or another of its group in training knows the
answer in the test. Equal images under different labels are a mistake in the labels.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from records.format import record_set
from records.image import near_duplicates

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
    for kind, pairs in equal_pairs(rows.columns):
        yield from rows.findings(kind, pairs)
    prints = np.concatenate([_fingerprints(opened, name) for name in opened.manifest.splits])
    for near in near_duplicates.batches(prints, distance, rows.columns.kinds):
        for kind, pairs in near_kinds(rows.columns, near):
            yield from rows.findings(kind, pairs)


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is known of images beside their pixels, a line for each.

    Attributes:
        split: int [n]; where nothing is split, all are equal.
        label: int [n].
        group: int64 [n], equal for images that belong together.
        source: uint8 [n, bytes], digest of the file.
        content: uint8 [n, bytes], equal for equal images: see `contents`.
    """

    split: np.ndarray
    label: np.ndarray
    group: np.ndarray
    source: np.ndarray
    content: np.ndarray

    @property
    def kinds(self) -> np.ndarray:
        """A number for each split and label, int64 [n]."""
        return self.split.astype(np.int64) * (int(self.label.max(initial=0)) + 1) + self.label

    def differ(self, name: str, pairs: np.ndarray) -> np.ndarray:
        """Returns bool [m]: whether the two rows of a pair differ in a column."""
        column = getattr(self, name)
        unequal = column[pairs[:, 0]] != column[pairs[:, 1]]
        return unequal if unequal.ndim == 1 else unequal.any(1)


def contents(source: np.ndarray, keys: Iterable[bytes], *, boxes: bool) -> np.ndarray:
    """Returns uint8 [n, bytes]: equal lines for equal images.

    Args:
        source: uint8 [n, bytes], digest of the file.
        keys: of the images.
        boxes: whether several images may be cut from one file; their keys then tell them apart.
    """
    if not boxes:
        return source
    return np.hstack([source, _numbered([key.rpartition(b"#")[2] for key in keys])])


def equal_pairs(columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the kinds of finding that need no pixels, each with its pairs, int64 [m, 2]."""
    group = columns.group.astype(np.int64)[:, None].view(np.uint8)
    yield "equal_across_splits", _counterparts(columns.source, columns.split)
    yield "group_across_splits", _counterparts(group, columns.split)
    yield "equal_labels_differ", _counterparts(columns.content, columns.label)


def near_kinds(columns: Columns, pairs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the kinds of finding among near duplicates, but for equal images, named already."""
    pairs = pairs[columns.differ("content", pairs)]
    yield "near_across_splits", pairs[columns.differ("split", pairs)]
    yield "near_labels_differ", pairs[columns.differ("label", pairs)]


class _Rows:
    """The columns of all splits, one below the other, and where each row stands."""

    def __init__(self, opened: record_set.RecordSet):
        self.opened = opened
        self.names = list(opened.manifest.splits)
        indexes = [opened.index(name) for name in self.names]
        self.starts = np.cumsum([0, *(len(index) for index in indexes)])
        source = np.concatenate([index.source_sha256 for index in indexes])
        keys = itertools.chain.from_iterable(index.keys for index in indexes)
        self.columns = Columns(
            split=np.repeat(np.arange(len(indexes)), [len(index) for index in indexes]),
            label=np.concatenate([index.label for index in indexes]),
            group=np.concatenate([index.group for index in indexes]),
            source=source,
            content=contents(source, keys, boxes=bool(opened.manifest.settings.get("boxes"))),
        )

    def findings(self, kind: str, pairs: np.ndarray) -> Iterator[Finding]:
        for left, right in pairs.tolist():
            yield Finding(kind, self._place(left), self._place(right))

    def _place(self, at: int) -> Place:
        split = self.columns.split[at]
        row = at - int(self.starts[split])
        class_name = self.opened.manifest.class_names[self.columns.label[at]]
        name = self.names[split]
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
