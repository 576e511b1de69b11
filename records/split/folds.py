"""Folds of a record set: views whose splits are other rows of the same shards.

Nothing is copied or written. A view is a record set whose indexes were made here instead of read;
its manifest counts the selected rows, and names the shards that hold them, which hold others too.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from records.common.byte_strings import Strings
from records.format import index as index_lib
from records.format import manifest as manifest_lib
from records.format.record_set import RecordSet
from records.split import assign

POOLED = "pooled"  # the split of the view that `pooled` returns
_COLUMNS = ("offset", "length", "checksum", "label", "domain", "group", "source_sha256")
_FEWEST = 3  # folds: one to test, one to validate, and one to train on


def pooled(opened: RecordSet) -> RecordSet:
    """Returns a view with one split, `pooled`: the rows of all splits, in their order."""
    return _parted(opened, {POOLED: slice(None)})


def view(opened: RecordSet, num_folds: int, fold: int, *, seed: int) -> RecordSet:
    """Returns a view with one fold as `test`, the next as `validation`, the rest as `train`.

    The views of all folds together test every row once. What the splits of `opened` are does not
    matter: its rows are dealt anew, as `assignment` says. Rows keep the order of `pooled`.

    Args:
        opened: the set.
        num_folds: at least 3.
        fold: 0 or above, below `num_folds`; fold 0 follows the last.
        seed: another seed deals the rows otherwise.

    Raises:
        ValueError: if there are fewer than 3 folds, no such fold, fewer groups than folds, or a
            split would be empty.
        ManifestError: if an index cannot be read.
    """
    _check_number(num_folds)
    if not 0 <= fold < num_folds:
        raise ValueError(f"fold must lie in 0..{num_folds - 1}, got {fold}")
    number, next_fold = assignment(opened, num_folds, seed=seed), (fold + 1) % num_folds
    test, validation = number == fold, number == next_fold
    parts = {"train": ~(test | validation), "validation": validation, "test": test}
    for name, rows in parts.items():
        if not rows.any():
            counts = np.bincount(number, minlength=num_folds).tolist()
            raise ValueError(
                f"every split must have rows, {name!r} of fold {fold} would have none: the"
                f" {num_folds} folds have {', '.join(map(str, counts))} rows"
            )
    return _parted(opened, parts)


def assignment(opened: RecordSet, num_folds: int, *, seed: int) -> np.ndarray:
    """Returns the fold of each row of `pooled`, int16 [rows].

    Rows of one group, or made from files of equal bytes, share a fold; within that every class is
    shared out evenly (`splits.assign`). A key's fold does not depend on the order of the rows.

    Args:
        opened: the set.
        num_folds: at least 3.
        seed: another seed gives another assignment.

    Raises:
        ValueError: if there are fewer than 3 folds, or fewer groups than folds.
        ManifestError: if an index cannot be read.
    """
    _check_number(num_folds)
    _, index = _all_rows(opened)
    groups = assign.merge_groups(_numbered(index.group), _numbered(_whole(index.source_sha256)))
    count = len(np.unique(groups))
    if count < num_folds:
        raise ValueError(
            f"there must be no more folds than groups, got {num_folds} folds of {count} groups"
            f" ({len(index)} rows; images of one group, or of equal bytes, stay together)"
        )
    ratios = assign.fold_ratios(num_folds)
    return assign.assign(index.label, groups, index.keys, ratios, seed=seed)


def _check_number(num_folds: int) -> None:
    if num_folds < _FEWEST:
        raise ValueError(
            f"there must be at least {_FEWEST} folds, to train, validate and test, got {num_folds}"
        )


def _numbered(column: np.ndarray) -> np.ndarray:
    """Returns 0, 1, ... for the distinct values of a column, which may be large: int64 [n]."""
    return np.unique(column, return_inverse=True)[1].ravel()


def _whole(digests: np.ndarray) -> np.ndarray:
    """Returns uint8 [n, 32] as one value a row."""
    return np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()


def _all_rows(opened: RecordSet) -> tuple[tuple[manifest_lib.Shard, ...], index_lib.Index]:
    """Returns the shards of all splits, and the index of all rows into them."""
    entries = opened.manifest.splits
    indexes = [opened.index(name) for name in entries]
    shards: list[manifest_lib.Shard] = []
    numbers = []
    for entry, index in zip(entries.values(), indexes, strict=True):
        numbers.append(len(shards) + index.shard.astype(np.int32))
        shards += entry.shards
    columns = {name: np.concatenate([getattr(i, name) for i in indexes]) for name in _COLUMNS}
    keys = itertools.chain.from_iterable(index.keys for index in indexes)
    return tuple(shards), _index(columns, np.concatenate(numbers), keys)


def _index(
    columns: Mapping[str, np.ndarray], shard: np.ndarray, keys: Iterable[bytes]
) -> index_lib.Index:
    fields: dict[str, Any] = {**columns, "shard": shard.astype(np.int32)}
    return index_lib.Index(keys=Strings.of(keys), **fields)


def _parted(opened: RecordSet, parts: Mapping[str, np.ndarray | slice]) -> RecordSet:
    """Returns the view whose splits are these parts of all rows, in their order."""
    shards, every = _all_rows(opened)
    num_classes = len(opened.manifest.class_names)
    entries, indexes = {}, {}
    for name, part in parts.items():
        rows = np.arange(len(every))[part]
        used, shard = np.unique(every.shard[rows], return_inverse=True)
        columns = {column: getattr(every, column)[rows] for column in _COLUMNS}
        indexes[name] = _index(columns, shard, every.keys.take(rows))
        of_split = [shards[number] for number in used.tolist()]
        entries[name] = _entry(indexes[name], of_split, num_classes)
    info = dataclasses.replace(opened.manifest, splits=entries)
    return RecordSet(opened.folder, info, given=indexes)


def _entry(
    index: index_lib.Index, shards: Sequence[manifest_lib.Shard], num_classes: int
) -> manifest_lib.Split:
    """Returns a split as it stands in the manifest of a view.

    Its index is in no file; its digest still tells the rows, so that views with one digest of their
    manifests are the same rows in the same order.
    """
    counts = np.bincount(index.shard, minlength=len(shards)).tolist()
    data = index_lib.to_bytes(index)
    return manifest_lib.Split(
        class_counts=tuple(np.bincount(index.label, minlength=num_classes).tolist()),
        shards=tuple(
            dataclasses.replace(shard, records=count)
            for shard, count in zip(shards, counts, strict=True)
        ),
        index=manifest_lib.Shard("", len(index), len(data), hashlib.sha256(data).hexdigest()),
    )
