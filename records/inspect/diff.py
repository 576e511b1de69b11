"""Compares two record sets: settings, classes, counts, and every row by its key."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from records.format.record_set import RecordSet

ROW_KINDS = {  # in the order of a report
    "only_left": "only in --records",
    "only_right": "only in --other",
    "split": "in another split",
    "label": "with another class",
    "domain": "with another domain",
    "source": "from another source file",
    "pixels": "with other pixels",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The differences of two record sets.

    Attributes:
        settings: (name, left, right) of each setting that differs.
        added, removed: names of the classes that only the right or only the left set has.
        renumbered: (name, left, right) of each class with another label.
        counts: (split, left, right) of each split with another number of images.
        rows: for each of `ROW_KINDS` the keys with that difference, in the order of the left set.
        same_files: whether the files are byte-identical; they may differ only in the order of rows.
    """

    settings: tuple[tuple[str, Any, Any], ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renumbered: tuple[tuple[str, int, int], ...]
    counts: tuple[tuple[str, int, int], ...]
    rows: dict[str, list[bytes]]
    same_files: bool

    @property
    def only_bytes_differ(self) -> bool:
        """Whether only bytes differ: the order of rows, their groups, the rejects."""
        lists = (self.settings, self.added, self.removed, self.renumbered, self.counts)
        return not self.same_files and not any((*lists, *self.rows.values()))


class _Row(NamedTuple):
    split: str
    row: int


def compare(left: RecordSet, right: RecordSet) -> Comparison:
    """Returns the differences of two sets; reads pixels only where checksums differ."""
    a, b = left.manifest, right.manifest
    labels_a = {name: label for label, name in enumerate(a.class_names)}
    labels_b = {name: label for label, name in enumerate(b.class_names)}
    return Comparison(
        settings=tuple(_settings(left, right)),
        added=tuple(name for name in b.class_names if name not in labels_a),
        removed=tuple(name for name in a.class_names if name not in labels_b),
        renumbered=tuple(
            (name, label, labels_b[name])
            for name, label in labels_a.items()
            if labels_b.get(name, label) != label
        ),
        counts=tuple(_counts(left, right)),
        rows=_rows(left, right),
        same_files=a.digest == b.digest,
    )


def _settings(left: RecordSet, right: RecordSet) -> Iterator[tuple[str, Any, Any]]:
    a, b = ({"format_version": s.manifest.format_version, **s.manifest.settings}
            for s in (left, right))  # fmt: skip
    for name in {**a, **b}:
        if a.get(name) != b.get(name):
            yield name, a.get(name), b.get(name)


def _counts(left: RecordSet, right: RecordSet) -> Iterator[tuple[str, int, int]]:
    a, b = left.manifest.splits, right.manifest.splits
    for name in {**a, **b}:
        counts = [splits[name].count if name in splits else 0 for splits in (a, b)]
        if counts[0] != counts[1]:
            yield name, counts[0], counts[1]


def _rows(left: RecordSet, right: RecordSet) -> dict[str, list[bytes]]:
    rows = _rows_by_key(right)
    differing: dict[str, list[bytes]] = {kind: [] for kind in ROW_KINDS}
    for key, a in _rows_by_key(left).items():
        b = rows.pop(key, None)
        kinds = ["only_left"] if b is None else _differences(left, a, right, b)
        for kind in kinds:
            differing[kind].append(key)
    differing["only_right"] = list(rows)
    return differing


def _rows_by_key(opened: RecordSet) -> dict[bytes, _Row]:
    return {
        key: _Row(split, row)
        for split in opened.manifest.splits
        for row, key in enumerate(opened.index(split).keys)
    }


def _differences(left: RecordSet, a: _Row, right: RecordSet, b: _Row) -> list[str]:
    index_a, index_b = left.index(a.split), right.index(b.split)
    names_a, names_b = left.manifest.class_names, right.manifest.class_names
    domains_a, domains_b = left.manifest.domains, right.manifest.domains
    kinds = ["split"] if a.split != b.split else []
    if names_a[index_a.label[a.row]] != names_b[index_b.label[b.row]]:
        kinds.append("label")
    if domains_a[index_a.domain[a.row]] != domains_b[index_b.domain[b.row]]:
        kinds.append("domain")
    if (index_a.source_sha256[a.row] != index_b.source_sha256[b.row]).any():
        kinds.append("source")
    # Equal checksums mean equal records; records may differ only in their label or domain.
    if index_a.checksum[a.row] != index_b.checksum[b.row] and _pixels_differ(left, a, right, b):
        kinds.append("pixels")
    return kinds


def _pixels_differ(left: RecordSet, a: _Row, right: RecordSet, b: _Row) -> bool:
    if left.manifest.image_size != right.manifest.image_size:
        return True
    return not np.array_equal(left.pixels(a.split, a.row), right.pixels(b.split, b.row))
