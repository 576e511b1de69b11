"""Does a record set still hold what was written? Every difference is named by file and record."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from records import files, schema, sharding, tfrecord
from records import index as index_lib
from records import manifest as manifest_lib


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the file, the record if it is about one, and what."""

    file: str
    what: str
    row: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        record = "" if self.key is None else f", record {self.row} (key {self.key!r})"
        return f"{self.file}{record}: {self.what}"


def verify(folder: str) -> list[Fault]:
    """Returns every fault of a record set; an empty list means that each byte is as written.

    A shard whose size and SHA-256 agree with the manifest is done. Any other is read record by
    record, so that the fault has a name. Row numbers count within the split.

    Raises:
        ManifestError: if there is no readable manifest to hold the files against.
    """
    manifest = manifest_lib.load(folder)
    return list(_faults(folder, manifest))


def _faults(folder: str, manifest: manifest_lib.Manifest) -> Iterator[Fault]:
    known: set[str] = set()
    rejects_fault = _file_fault(folder, manifest.rejects)
    if rejects_fault:
        yield Fault(manifest.rejects.file, rejects_fault)
    for split in manifest.splits.values():
        known |= {shard.file for shard in (*split.shards, split.index)}
        yield from _split_faults(folder, split)
    for name in sorted(os.listdir(folder)):
        if name not in known and (sharding.is_shard_name(name) or name.endswith(".index.npz")):
            yield Fault(name, "is no part of this record set")


def _split_faults(folder: str, split: manifest_lib.Split) -> Iterator[Fault]:
    index = None
    index_fault = _file_fault(folder, split.index)
    if index_fault:
        yield Fault(split.index.file, index_fault)
    else:
        index = index_lib.load(folder, split)
    for number, shard in enumerate(split.shards):
        fault = _file_fault(folder, shard)
        if not fault:
            continue
        yield Fault(shard.file, fault)
        if index is not None and os.access(os.path.join(folder, shard.file), os.R_OK):
            rows = np.flatnonzero(index.shard == number)
            yield from _record_faults(folder, shard, index, rows)


def _file_fault(folder: str, shard: manifest_lib.Shard) -> str:
    path = os.path.join(folder, shard.file)
    if not os.path.isfile(path):
        return "is missing" if not os.path.exists(path) else "is not a regular file"
    size = os.path.getsize(path)
    if size != shard.bytes:
        return f"has {size} bytes, the manifest says {shard.bytes}"
    try:
        if files.sha256_of(path) != shard.sha256:
            return "its SHA-256 differs from the manifest's"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _record_faults(
    folder: str,
    shard: manifest_lib.Shard,
    index: index_lib.Index,
    rows: np.ndarray,
) -> Iterator[Fault]:
    """Holds the records that are found against those that should be there, in order."""
    with open(os.path.join(folder, shard.file), "rb") as file:
        data = file.read()
    expected = {int(index.checksum[row]): int(row) for row in rows}
    by_offset = {int(index.offset[row]): int(row) for row in rows}
    found: set[int] = set()
    for offset, result in _records(data, sorted(by_offset)):
        row = by_offset.get(offset)
        if isinstance(result, tfrecord.Damage):
            yield _fault(shard, index, row, f"damaged at byte {offset}: {result.reason}")
            found |= set() if row is None else {row}
            continue
        checksum = tfrecord.checksum(result)
        if row is None or index.checksum[row] != checksum:  # not where it should be
            row = expected.get(checksum)
        if row is None:
            yield Fault(shard.file, f"holds a foreign record at byte {offset}{_key_in(result)}")
        elif row in found:
            yield _fault(shard, index, row, f"stands a second time at byte {offset}")
        else:
            found.add(row)
    for row in sorted(set(rows.tolist()) - found):
        yield _fault(shard, index, row, "is missing")


def _key_in(payload: bytes) -> str:
    try:
        return f", key {os.fsdecode(schema.decode(payload).key)!r}"
    except (ValueError, KeyError, StopIteration):
        return ""


def _records(data: bytes, offsets: list[int]) -> Iterator[tuple[int, bytes | tfrecord.Damage]]:
    """Yields what `tfrecord.scan` does; after a damaged header goes on at the next known offset."""
    start: int | None = 0
    while start is not None:
        at = start
        result: bytes | tfrecord.Damage = b""
        for at, result in tfrecord.scan(data, start):
            yield at, result
        lost = isinstance(result, tfrecord.Damage) and result.length == 0
        later = [offset for offset in offsets if at < offset < len(data)]
        start = later[0] if lost and later else None


def _fault(shard: manifest_lib.Shard, index: index_lib.Index, row: int | None, what: str) -> Fault:
    return Fault(shard.file, what, row, None if row is None else index.key(row))
