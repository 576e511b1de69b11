"""An opened record set: its manifest, the index of each split, and records by row."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from records.common import cli, errors
from records.format import example as schema
from records.format import index as index_lib
from records.format import manifest as manifest_lib
from records.format import tfrecord
from records.image import decode

_COLUMNS = ("shard", "offset", "length", "checksum", "label", "domain", "group")


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """A folder whose manifest was read and whose files have the sizes that it states.

    Attributes:
        given: for a view, the index of each split; its manifest is in no file, and its splits are
            any rows of the folder's shards (`folds` makes views).
    """

    folder: str
    manifest: manifest_lib.Manifest
    given: Mapping[str, index_lib.Index] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def is_view(self) -> bool:
        """Whether the shards may hold rows of other splits between those of a split."""
        return bool(self.given)

    @functools.cached_property
    def _indexes(self) -> dict[str, index_lib.Index]:
        return dict(self.given)

    def index(self, split: str) -> index_lib.Index:
        """Returns the index of a split, read once, or raises a ManifestError if it is invalid."""
        if split not in self._indexes:
            entry = self.manifest.split(split)
            index = index_lib.load(self.folder, entry)
            fault = index_fault(index, entry, self.manifest)
            if fault:
                path = os.path.join(self.folder, entry.index.file)
                raise manifest_lib.ManifestError(f"{path}: {fault}")
            self._indexes[split] = index
        return self._indexes[split]

    def path(self, shard: manifest_lib.Shard) -> str:
        """Returns the path of a shard."""
        return os.path.join(self.folder, shard.file)

    def example(self, split: str, row: int) -> schema.Example:
        """Returns one record, or raises a DamagedRecordError that names it."""
        with self._shard(split, row) as file:
            return self._example(split, row, file)

    def pixels(self, split: str, row: int) -> np.ndarray:
        """Returns the pixels of one record, uint8 [size, size, 3]; raises as `example`."""
        with self._shard(split, row) as file:
            return self._decoded(split, row, file)

    def pixel_batches(self, split: str, batch_size: int = 256) -> Iterator[np.ndarray]:
        """Yields the pixels of all rows in order, uint8 [n, size, size, 3], n <= `batch_size`."""
        index, info = self.index(split), self.manifest
        for number, shard in enumerate(info.split(split).shards):
            rows = np.flatnonzero(index.shard == number).tolist()
            with open(self.path(shard), "rb") as file:
                for start in range(0, len(rows), batch_size):
                    batch = rows[start : start + batch_size]
                    yield np.stack([self._decoded(split, row, file) for row in batch])

    def _shard(self, split: str, row: int) -> BinaryIO:
        shard = self.manifest.split(split).shards[self.index(split).shard[row]]
        return open(self.path(shard), "rb")

    def _example(self, split: str, row: int, file: BinaryIO) -> schema.Example:
        index = self.index(split)
        length, checksum = int(index.length[row]), int(index.checksum[row])
        file.seek(int(index.offset[row]))
        data = file.read(length + tfrecord.FRAME_BYTES)
        try:
            return schema.decode(tfrecord.payload_at(data, 0, length, checksum))
        except (ValueError, LookupError, StopIteration) as error:
            raise self._damaged(split, row, error) from None

    def _decoded(self, split: str, row: int, file: BinaryIO) -> np.ndarray:
        info, example = self.manifest, self._example(split, row, file)
        try:
            return decode.decode(example.image, info.encoding, info.image_size)
        except ValueError as error:
            raise self._damaged(split, row, error) from None

    def _damaged(self, split: str, row: int, error: Exception) -> errors.DamagedRecordError:
        index = self.index(split)
        file = self.manifest.split(split).shards[index.shard[row]].file
        return errors.DamagedRecordError(f"{file}, row {row}, key {index.key(row)!r}: {error}")


def index_fault(
    index: index_lib.Index, split: manifest_lib.Split, manifest: manifest_lib.Manifest
) -> str:
    """Returns why an index does not point inside the set, empty if it does."""
    columns = {name: getattr(index, name) for name in _COLUMNS}
    for name, column in columns.items():
        if column.shape != (len(index),) or column.dtype.kind not in "iu":
            return f"column {name!r} must hold {len(index)} integers"
    if index.source_sha256.shape != (len(index), 32) or index.source_sha256.dtype != np.uint8:
        return "column 'source_sha256' must hold 32 bytes a row"
    limits = {
        "shard": len(split.shards),
        "label": len(manifest.class_names),
        "domain": len(manifest.domains),
    }
    for name, limit in limits.items():
        wrong = np.flatnonzero((columns[name] < 0) | (columns[name] >= limit))
        if len(wrong):
            value = columns[name][wrong[0]]
            return f"{name} of row {wrong[0]} must be in 0..{limit - 1}, got {value}"
    if (np.diff(index.shard) < 0).any():
        return "the rows are not in the order of the shards"
    sizes = np.array([shard.bytes for shard in split.shards], np.int64)[index.shard]
    # Each term is bounded before they are added, so the sum cannot overflow.
    beyond = (index.offset < 0) | (index.length < 0) | (index.offset > sizes)
    beyond |= index.length > sizes - np.where(beyond, 0, index.offset) - tfrecord.FRAME_BYTES
    if beyond.any():
        return f"the record of row {np.argmax(beyond)} would lie outside its shard"
    counts = np.bincount(index.label, minlength=len(manifest.class_names))
    if counts.tolist() != list(split.class_counts):
        return f"the class counts are {counts.tolist()}, the manifest says {split.class_counts}"
    return ""


def open_set(folder: str) -> RecordSet:
    """Returns the record set in `folder` after a check of the manifest and of all file sizes.

    If another set replaces it meanwhile, that one is returned.
    """
    while True:
        record_set = RecordSet(folder, manifest_lib.load(folder))
        fault = _size_fault(record_set)
        if manifest_lib.load(folder).digest != record_set.manifest.digest:
            continue  # it was replaced meanwhile
        if fault:
            raise manifest_lib.ManifestError(
                f"{fault}; python -m records.inspect_main verify --records={folder} checks all"
            )
        return record_set


def _size_fault(record_set: RecordSet) -> str:
    for split in record_set.manifest.splits.values():
        for shard in (*split.shards, split.index):
            path = record_set.path(shard)
            try:
                size = os.path.getsize(path) if os.path.isfile(path) else None
            except FileNotFoundError:  # replaced between the two calls
                size = None
            if size != shard.bytes:
                actual = "it is missing" if size is None else f"it has {size} bytes"
                return f"{path}: {actual}, the manifest says {shard.bytes} bytes"
    return ""


def row_line(opened: RecordSet, split: str, row: int) -> str:
    """Returns split, row, class, key, domain, shard and offset of a row as one printable line."""
    info, index = opened.manifest, opened.index(split)
    label, domain = info.class_names[index.label[row]], info.domains[index.domain[row]]
    shard = info.split(split).shards[index.shard[row]].file
    name = cli.printable(f"{split} {row}: {label} {index.key(row)!r} {domain}").rstrip()
    return f"{name} {shard}@{index.offset[row]}"


def row_facts(opened: RecordSet, split: str, row: int) -> dict[str, Any]:
    """Returns what index, manifest and record state about a row, as JSON values."""
    info, index = opened.manifest, opened.index(split)
    label, pixels = int(index.label[row]), opened.pixels(split, row)
    return {
        "split": split,
        "row": row,
        "key": index.key(row),
        "class": info.class_names[label],
        "label": label,
        **({"attributes": attribute_values(info.attributes, label)} if info.attributes else {}),
        "domain": info.domains[index.domain[row]],
        "group": int(index.group[row]),
        "source_sha256": index.source_sha256[row].tobytes().hex(),
        "shard": info.split(split).shards[index.shard[row]].file,
        "offset": int(index.offset[row]),
        "length": int(index.length[row]),
        "encoding": info.encoding,
        "image_shape": list(pixels.shape),
        "channel_means": pixels.mean((0, 1)).round(3).tolist(),
    }


def attribute_values(names: Mapping[str, tuple[str, ...]], label: int) -> dict[str, str]:
    """Returns the value of each attribute of a class, the last attribute changing fastest."""
    numbers = np.unravel_index(label, [len(values) for values in names.values()])
    return {
        name: values[number] for (name, values), number in zip(names.items(), numbers, strict=True)
    }
