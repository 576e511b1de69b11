"""Folds of a record set: views whose splits are other rows of the same shards.

Nothing is copied or written. A view is a record set whose indexes are made here instead of read;
its manifest counts the selected rows and names the shards that hold them among others.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from records.format import index as index_lib
from records.format import manifest as manifest_lib
from records.format.record_set import RecordSet
from records.split import assign

POOLED = "pooled"  # the split of the view that `pooled` returns
_COLUMNS = ("offset", "length", "checksum", "label", "domain", "group", "source_sha256")
_MIN_FOLDS = 3  # one to test, one to validate, and one to train on


def pooled(opened: RecordSet) -> RecordSet:
    """Returns a view with one split, `pooled`: the rows of all splits, in their order."""
    return _selected(opened, {POOLED: slice(None)})


def view(opened: RecordSet, num_folds: int, fold: int, *, seed: int) -> RecordSet:
    """Returns a view with one fold as `test`, the next as `validation`, the rest as `train`.

    The views of all folds together test every row once. The splits of `opened` do not matter:
    `assignment` distributes its rows again. Rows keep the order of `pooled`.

    Args:
        num_folds: at least 3.
        fold: in 0..num_folds - 1; fold 0 follows the last.
    """
    _check_number(num_folds)
    if not 0 <= fold < num_folds:
        raise ValueError(f"fold must lie in 0..{num_folds - 1}, got {fold}")
    number, next_fold = assignment(opened, num_folds, seed=seed), (fold + 1) % num_folds
    test, validation = number == fold, number == next_fold
    selections = {"train": ~(test | validation), "validation": validation, "test": test}
    for name, rows in selections.items():
        if not rows.any():
            counts = np.bincount(number, minlength=num_folds).tolist()
            raise ValueError(
                f"every split must have rows, {name!r} of fold {fold} would be empty: the"
                f" {num_folds} folds have {', '.join(map(str, counts))} rows"
            )
    return _selected(opened, selections)


def assignment(opened: RecordSet, num_folds: int, *, seed: int) -> np.ndarray:
    """Returns the fold of each row of `pooled`, int16 [rows].

    Rows of one group, or made from files of equal bytes, share a fold; within that the rows of each
    class are spread evenly (`assign.assign`). A key's fold does not depend on the order of rows.
    """
    _check_number(num_folds)
    _, index = _all_rows(opened)
    groups = assign.merge_groups(assign.distinct(index.group), assign.distinct(index.source_sha256))
    count = len(np.unique(groups))
    if count < num_folds:
        raise ValueError(
            f"there must be no more folds than groups, got {num_folds} folds and {count} groups"
            f" ({len(index)} rows; images of one group, or of equal bytes, stay together)"
        )
    ratios = assign.fold_ratios(num_folds)
    return assign.assign(index.label, groups, index.keys, ratios, seed=seed)


def _check_number(num_folds: int) -> None:
    if num_folds < _MIN_FOLDS:
        raise ValueError(
            f"there must be at least {_MIN_FOLDS} folds, to train, validate and test,"
            f" got {num_folds}"
        )


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
    return index_lib.Index(keys=list(keys), **fields)


def _selected(opened: RecordSet, selections: Mapping[str, np.ndarray | slice]) -> RecordSet:
    """Returns the view whose splits are these selections of all rows, in their order."""
    shards, every = _all_rows(opened)
    num_classes = len(opened.manifest.class_names)
    entries, indexes = {}, {}
    for name, selection in selections.items():
        rows = np.arange(len(every))[selection]
        used, shard = np.unique(every.shard[rows], return_inverse=True)
        columns = {column: getattr(every, column)[rows] for column in _COLUMNS}
        indexes[name] = _index(columns, shard, [every.keys[row] for row in rows.tolist()])
        of_split = [shards[number] for number in used.tolist()]
        entries[name] = _entry(indexes[name], of_split, num_classes)
    info = dataclasses.replace(opened.manifest, splits=entries)
    return RecordSet(opened.folder, info, given=indexes)


def _entry(
    index: index_lib.Index, shards: Sequence[manifest_lib.Shard], num_classes: int
) -> manifest_lib.Split:
    """Returns the entry of a split in the manifest of a view.

    Its index is in no file, but has a digest, so that views whose manifests have equal digests are
    the same rows in the same order.
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
