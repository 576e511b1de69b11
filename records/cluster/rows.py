"""The rows of a record set to cluster: their features and groups."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from records.cluster import clustering, separation
from records.cluster import features as cluster_features
from records.cluster.separation import Separation
from records.format import record_set
from records.inspect import row_table
from records.inspect.row_table import RowTable

ALL = "all images"  # the name of the only group where classes are not clustered one by one

_BATCH = 64  # images of 64x64 whose planes stay in a processor's cache


def rows_of(
    opened: record_set.RecordSet, splits: Sequence[str], labels: Sequence[int] | None = None
) -> RowTable:
    """Returns the rows of some splits, of the classes with these labels or, if None, of all."""
    rows = row_table.rows_of(opened, splits)
    return rows if labels is None else rows.take(np.isin(rows.label, labels))


def by_class(rows: RowTable) -> dict[str, np.ndarray]:
    """Returns the rows of each class that has any, int64 [m], by name."""
    labels = np.unique(rows.label)
    return {rows.class_names[label]: np.flatnonzero(rows.label == label) for label in labels}


def features_of(
    rows: RowTable, advance: Callable[[int], object] = lambda count: None
) -> cluster_features.Features:
    """Returns the features of rows in split order; calls `advance` with the number of rows read."""
    return cluster_features.extract(_batches(rows, advance))


def _batches(rows: RowTable, advance: Callable[[int], object]) -> Iterator[np.ndarray]:
    for number, name in enumerate(rows.splits):
        selected = np.zeros(len(rows.opened.index(name)), bool)
        selected[rows.row[rows.split == number]] = True
        done = 0
        for images in rows.opened.pixel_batches(name, _BATCH):
            chosen = selected[done : done + len(images)]
            done += len(images)
            if chosen.any():
                yield images[chosen]
                advance(int(chosen.sum()))


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows that were clustered together.

    Attributes:
        name: of the class, or `ALL`.
        rows: int64 [m].
        stray: bool [m], proposed for exclusion.
    """

    name: str
    rows: np.ndarray
    clusters: clustering.Clusters
    separation: Separation
    stray: np.ndarray


def groups_of(rows: RowTable, *, within_class: bool) -> dict[str, np.ndarray]:
    """Returns the groups of rows to cluster, by name: those of each class, or one of all."""
    return by_class(rows) if within_class else {ALL: np.arange(len(rows))}


def cluster_groups(
    rows: RowTable,
    features: cluster_features.Features,
    groups: dict[str, np.ndarray],
    options: clustering.ClusterOptions,
    stray: str,
) -> list[Group]:
    """Returns the clusters and proposed exclusions of each group.

    Args:
        features: of the rows.
        groups: see `groups_of`.
        stray: `auto`, `photos` or `drawings`, see `separation.is_stray`.
    """
    likeness = features.photo_likeness()
    usual = float(np.median(likeness)) if len(likeness) else 0.0
    result = []
    for name, members in groups.items():
        own = features.take(members)
        clusters = clustering.cluster(own, [rows.raw_keys[at] for at in members], options)
        apart = separation.separation(own, clusters, options)
        is_stray = separation.is_stray(
            clusters, apart.verdict, likeness[members], usual=usual, stray=stray
        )
        result.append(Group(name, members, clusters, apart, is_stray))
    return result
