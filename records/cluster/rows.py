"""The rows of a record set that are clustered: their names, features and groups."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from records.cluster import clustering
from records.cluster import features as cluster_features
from records.cluster import separation as cluster_kinds
from records.format import record_set

ALL = "all images"  # the name of the only group where classes do not matter

_BATCH = 64  # images of 64x64 whose planes stay in a processor's cache


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of some splits and classes, one below the other.

    Attributes:
        opened: the set.
        splits: names of the splits, in order.
        split: int64 [n], position in `splits`.
        row: int64 [n], within its split.
        label: int64 [n].
    """

    opened: record_set.RecordSet
    splits: tuple[str, ...]
    split: np.ndarray
    row: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @functools.cached_property
    def raw_keys(self) -> list[bytes]:
        """The key of each row, as its bytes."""
        indexes = [self.opened.index(name) for name in self.splits]
        places = zip(self.split.tolist(), self.row.tolist(), strict=True)
        return [indexes[split].keys[row] for split, row in places]

    @functools.cached_property
    def keys(self) -> list[str]:
        """The key of each row as text; bytes that are not UTF-8 are surrogate escapes."""
        return [os.fsdecode(key) for key in self.raw_keys]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the set, by label."""
        return self.opened.manifest.class_names

    def pixels(self, at: int) -> np.ndarray:
        """Returns one picture, uint8 [size, size, 3]."""
        return self.opened.pixels(self.splits[self.split[at]], int(self.row[at]))

    def by_class(self) -> dict[str, np.ndarray]:
        """Returns the rows of each class that has any, int64 [m], by its name."""
        labels = np.unique(self.label)
        return {self.class_names[label]: np.flatnonzero(self.label == label) for label in labels}

    def features(
        self, colour_space: str, advance: Callable[[int], object] = lambda count: None
    ) -> cluster_features.Features:
        """Returns the features of all rows, their pictures read once, batch by batch.

        Args:
            colour_space: of the histogram.
            advance: called with the number of rows that were read.

        Raises:
            DamagedRecordError: if a record cannot be read.
        """
        return cluster_features.extract(self._batches(advance), colour_space)

    def _batches(self, advance: Callable[[int], object]) -> Iterator[np.ndarray]:
        for number, name in enumerate(self.splits):
            wanted = np.zeros(len(self.opened.index(name)), bool)
            wanted[self.row[self.split == number]] = True
            done = 0
            for images in self.opened.pixel_batches(name, _BATCH):
                chosen = wanted[done : done + len(images)]
                done += len(images)
                if chosen.any():
                    yield images[chosen]
                    advance(int(chosen.sum()))


def rows_of(
    opened: record_set.RecordSet, splits: Sequence[str], labels: Sequence[int] | None = None
) -> Rows:
    """Returns the rows of some splits.

    Args:
        opened: the set.
        splits: their names.
        labels: of the classes to take; None is all.

    Raises:
        ManifestError: if there is no such split or its index cannot be read.
    """
    found = [opened.index(name).label.astype(np.int64) for name in splits]
    taken = [np.arange(len(of_split)) for of_split in found]
    if labels is not None:
        taken = [np.flatnonzero(np.isin(of_split, labels)) for of_split in found]
    labels_taken = [of_split[rows] for of_split, rows in zip(found, taken, strict=True)]
    return Rows(
        opened=opened,
        splits=tuple(splits),
        split=np.repeat(np.arange(len(splits)), [len(rows) for rows in taken]),
        row=np.concatenate([np.empty(0, np.int64), *taken]),
        label=np.concatenate([np.empty(0, np.int64), *labels_taken]),
    )


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows that were clustered together.

    Attributes:
        name: of the class, or `ALL`.
        rows: int64 [m], which of `Rows`.
        found: their clusters.
        separation: whether those are two kinds.
        stray: bool [m], proposed to be left out.
    """

    name: str
    rows: np.ndarray
    found: clustering.Clusters
    separation: cluster_kinds.Separation
    stray: np.ndarray


def groups_of(rows: Rows, *, within_class: bool) -> dict[str, np.ndarray]:
    """Returns what is clustered together, by name: the rows of each class, or all."""
    return rows.by_class() if within_class else {ALL: np.arange(len(rows))}


def grouped(
    rows: Rows,
    features: cluster_features.Features,
    groups: dict[str, np.ndarray],
    options: clustering.ClusterOptions,
    stray: str,
) -> list[Group]:
    """Returns each group clustered, and what it proposes to leave out.

    Args:
        rows: of the set.
        features: of the rows.
        groups: as from `groups_of`.
        options: how they are clustered.
        stray: `auto`, `photos` or `drawings`, see `cluster_kinds.is_stray`.
    """
    likeness = features.photo_likeness()
    usual = float(np.median(likeness)) if len(likeness) else 0.0
    result = []
    for name, members in groups.items():
        own = features.taken(members)
        found = clustering.parted(own, [rows.raw_keys[at] for at in members], options)
        apart = cluster_kinds.separation(own, found, options)
        is_stray = cluster_kinds.is_stray(
            found, apart.verdict, likeness[members], usual=usual, stray=stray
        )
        result.append(Group(name, members, found, apart, is_stray))
    return result
