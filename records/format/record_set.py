"""An opened record set: the manifest, the index of each split, and single records by row."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from records.common import errors
from records.format import example as schema
from records.format import index as index_lib
from records.format import manifest as manifest_lib
from records.format import tfrecord
from records.image import decode

_COLUMNS = ("shard", "offset", "length", "checksum", "label", "domain", "group")


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """A folder whose manifest was read and whose files have the sizes that it says.

    Attributes:
        folder: where its files lie.
        manifest: what they hold.
        given: of a view, the index of each split; the manifest is then one that no file holds, and
            its splits are any rows of the folder's shards (`folds` makes such).
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
        """Returns the index of a split, read once.

        Raises:
            ManifestError: if it is missing or damaged or points outside the set.
        """
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
        """Returns where a shard lies."""
        return os.path.join(self.folder, shard.file)

    def example(self, split: str, row: int) -> schema.Example:
        """Returns one record, read by its offset.

        Raises:
            DamagedRecordError: if its bytes do not agree with their checksums; names the record.
        """
        with self._shard(split, row) as file:
            return self._example(split, row, file)

    def pixels(self, split: str, row: int) -> np.ndarray:
        """Returns the pixels of one record, uint8 [size, size, 3], whatever the encoding.

        Raises:
            DamagedRecordError: as `example`, or if its image is no image of the set's size.
        """
        with self._shard(split, row) as file:
            return self._decoded(split, row, file)

    def pixel_batches(self, split: str, batch_size: int = 256) -> Iterator[np.ndarray]:
        """Yields the pixels of all rows in order, uint8 [n, size, size, 3], n at most `batch_size`.

        Each shard is opened once and read piece by piece.

        Raises:
            DamagedRecordError: as `pixels`.
        """
        index, info = self.index(split), self.manifest
        for number, shard in enumerate(info.split(split).shards):
            rows = np.flatnonzero(index.shard == number).tolist()
            with open(self.path(shard), "rb") as file:
                for at in range(0, len(rows), batch_size):
                    batch = [self._decoded(split, row, file) for row in rows[at : at + batch_size]]
                    yield np.stack(batch)

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
        said = f"{file}, row {row}, key {index.key(row)!r}: {error}"
        return errors.DamagedRecordError(said)


def index_fault(
    index: index_lib.Index, split: manifest_lib.Split, manifest: manifest_lib.Manifest
) -> str:
    """Returns what an index says that cannot be, or nothing: it must point inside the set."""
    columns = {name: getattr(index, name) for name in _COLUMNS}
    for name, column in columns.items():
        if column.shape != (len(index),) or column.dtype.kind not in "iu":
            return f"column {name!r} must hold {len(index)} whole numbers"
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
            return f"{name} of row {wrong[0]} is {columns[name][wrong[0]]}, there are {limit}"
    if (np.diff(index.shard) < 0).any():
        return "the rows do not stand in the order of the shards"
    sizes = np.array([shard.bytes for shard in split.shards], np.int64)[index.shard]
    # Each term is bounded before they are added, so the sum cannot run over.
    beyond = (index.offset < 0) | (index.length < 0) | (index.offset > sizes)
    beyond |= index.length > sizes - np.where(beyond, 0, index.offset) - tfrecord.FRAME_BYTES
    if beyond.any():
        return f"the record of row {np.argmax(beyond)} would lie outside its shard"
    counts = np.bincount(index.label, minlength=len(manifest.class_names))
    if counts.tolist() != list(split.class_counts):
        return f"{counts.tolist()} rows of the classes, the manifest says {split.class_counts}"
    return ""


def open_set(folder: str) -> RecordSet:
    """Returns the record set in `folder` after a check of names and sizes, which costs no reading.

    Where another set takes its place meanwhile, that one is returned.

    Raises:
        ManifestError: if there is none, or a file of it is missing or has another size.
    """
    while True:
        record_set = RecordSet(folder, manifest_lib.load(folder))
        fault = _size_fault(record_set)
        if manifest_lib.load(folder).digest != record_set.manifest.digest:
            continue  # it was replaced while we looked
        if fault:
            raise manifest_lib.ManifestError(
                f"{fault}; python -m records.inspect_main verify --records={folder} tells more"
            )
        return record_set


def _size_fault(record_set: RecordSet) -> str:
    for split in record_set.manifest.splits.values():
        for shard in (*split.shards, split.index):
            path = record_set.path(shard)
            try:
                found = f"it has {os.path.getsize(path)} bytes" if os.path.isfile(path) else ""
            except FileNotFoundError:  # replaced between the two looks
                found = ""
            if found != f"it has {shard.bytes} bytes":
                found = found or "it is missing"
                return f"{path}: {found}, the manifest says {shard.bytes} bytes"
    return ""
