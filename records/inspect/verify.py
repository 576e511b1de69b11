"""Does a record set still hold what was written? Every difference is named by file and record."""

import contextlib
import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from records.common import atomic
from records.format import example as schema
from records.format import index as index_lib
from records.format import manifest as manifest_lib
from records.format import record_set as record_set_lib
from records.format import sharding, tfrecord
from records.image import decode
from records.source import trees

_MOST_FAULTS = 1000  # of one shard; a shard full of nonsense would be named for ever
_WINDOW = 8 << 20  # 8 MiB of a shard are looked at together
_MOST_IMAGE = 4096 * 4096 * 3  # bytes of the largest image that a set can have
_MOST_TEXT = 300  # letters of a message; a path may have 4,096, but then it stands in the index
_MOST_BESIDE = 1 << 20  # 1 MiB: key, group and domain of a record together


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

    Files are held against the sizes and digests of the manifest, and every record against its row
    of the index: its key, label and domain and an image that decodes. So a set whose digests were
    made over wrong records is caught as well. Nothing that a file says of its own length is
    believed, and nothing but regular files is opened. Row numbers count within the split; at most
    a thousand faults of one shard are named.

    Raises:
        ManifestError: if there is no readable manifest to hold the files against.
    """
    return list(_faults(folder, manifest_lib.load(folder)))


def verify_sources(folder: str, sources: str) -> list[Fault]:
    """Returns every source file that is missing or is not the one that the set was made from.

    Args:
        folder: of the record set.
        sources: the folder or archive that it was built from.

    Raises:
        ManifestError: if there is no readable manifest.
        TreeError: if there are no such sources.
    """
    manifest = manifest_lib.load(folder)
    opened, tree = record_set_lib.RecordSet(folder, manifest), trees.open_tree(sources)
    faults = []
    for split in manifest.splits:
        with contextlib.suppress(manifest_lib.ManifestError):  # `verify` says it
            faults += list(_source_faults(opened, split, tree))
    return faults


def _source_faults(
    opened: record_set_lib.RecordSet, split: str, tree: trees.Tree
) -> Iterator[Fault]:
    index = opened.index(split)
    is_cropped = bool(opened.manifest.settings.get("boxes"))
    digests: dict[str, bytes | str] = {}  # of a file, or why it cannot be read
    for row in range(len(index)):
        key = index.key(row)
        file = trees.file_key(key) if is_cropped else key
        if file not in digests:
            digests[file] = _source_digest(tree, file)
        found = digests[file]
        if isinstance(found, str):
            yield Fault(tree.path, f"{split}: {found}", row, key)
        elif found != index.source_sha256[row].tobytes():
            yield Fault(tree.path, f"{split}: its SHA-256 differs from the index's", row, key)


def _source_digest(tree: trees.Tree, file: str) -> bytes | str:
    try:
        return hashlib.sha256(tree.read(file)).digest()
    except decode.ImageError as error:
        return str(error)


def _faults(folder: str, manifest: manifest_lib.Manifest) -> Iterator[Fault]:
    known = {manifest.rejects.file}
    yield from _named(manifest.rejects, _file_fault(folder, manifest.rejects))
    for split in manifest.splits.values():
        known |= {shard.file for shard in (*split.shards, split.index)}
        yield from _split_faults(folder, split, manifest)
    for name in sorted(os.listdir(folder)):
        if name not in known and sharding.is_file_name(name):
            yield Fault(name, "is no part of this record set")


def _named(shard: manifest_lib.Shard, fault: str) -> Iterator[Fault]:
    if fault:
        yield Fault(shard.file, fault)


def _split_faults(
    folder: str, split: manifest_lib.Split, manifest: manifest_lib.Manifest
) -> Iterator[Fault]:
    index, fault = _checked_index(folder, split, manifest)
    yield from _named(split.index, fault)
    for number, shard in enumerate(split.shards):
        fault = _file_fault(folder, shard)
        yield from _named(shard, fault)
        if index is None:
            continue
        try:
            with _opened(os.path.join(folder, shard.file)) as file:
                rows = np.flatnonzero(index.shard == number)
                yield from _at_most(_record_faults(file, shard, index, rows, manifest), shard)
        except OSError:
            pass  # the fault of the file says it


def _checked_index(
    folder: str, split: manifest_lib.Split, manifest: manifest_lib.Manifest
) -> tuple[index_lib.Index | None, str]:
    """Returns the index of a split, or None and what is wrong with it."""
    fault = _file_fault(folder, split.index)
    if fault:
        return None, fault
    try:
        index = index_lib.load(folder, split)
    except manifest_lib.ManifestError as error:
        return None, str(error)
    fault = record_set_lib.index_fault(index, split, manifest)
    return (None, fault) if fault else (index, "")


def _at_most(faults: Iterator[Fault], shard: manifest_lib.Shard) -> Iterator[Fault]:
    for number, fault in enumerate(faults):
        if number == _MOST_FAULTS:
            yield Fault(shard.file, "has more faults; the rest of it was not looked at")
            return
        yield fault


def _opened(path: str) -> BinaryIO:
    """Opens a regular file: opening a pipe could block, and a link could lead anywhere.

    Raises:
        OSError: if it is none or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file", path)
    return os.fdopen(descriptor, "rb")


def _file_fault(folder: str, shard: manifest_lib.Shard) -> str:
    path = os.path.join(folder, shard.file)
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return "is missing"
    if not stat.S_ISREG(mode):
        return "is not a regular file"
    size = os.path.getsize(path)
    if size != shard.bytes:
        return f"has {size} bytes, the manifest says {shard.bytes}"
    try:
        if atomic.sha256_of(path) != shard.sha256:
            return "its SHA-256 differs from the manifest's"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _record_faults(
    file: BinaryIO,
    shard: manifest_lib.Shard,
    index: index_lib.Index,
    rows: np.ndarray,
    manifest: manifest_lib.Manifest,
) -> Iterator[Fault]:
    """Holds the records that are found against those that should be there, in order."""
    expected = {int(index.checksum[row]): int(row) for row in rows}
    by_offset = {int(index.offset[row]): int(row) for row in rows}
    found: set[int] = set()
    for offset, result in _records(file, sorted(by_offset), _most_record(manifest)):
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
            what = _content_fault(result, index, row, manifest)
            if what:
                yield _fault(shard, index, row, what)
    for row in sorted(set(rows.tolist()) - found):
        yield _fault(shard, index, row, "is missing")


def _content_fault(
    payload: bytes, index: index_lib.Index, row: int, manifest: manifest_lib.Manifest
) -> str:
    """Returns in what a record differs from its row of the index, or nothing."""
    try:
        example = _decoded(payload, index, row, manifest)
        decode.decode(example.image, manifest.encoding, manifest.image_size)
    except ValueError as error:
        return f"cannot be read: {_cut(str(error))}"
    except (LookupError, StopIteration):
        return "cannot be read: it is no tf.train.Example"
    label, domain = int(index.label[row]), manifest.domains[index.domain[row]]
    if example.key != index.keys[row]:
        return f"has the key {_cut(os.fsdecode(example.key))!r}"
    if example.label != label:
        return f"has the label {example.label}, the index says {label}"
    if os.fsdecode(example.domain) != domain:
        found = _cut(os.fsdecode(example.domain))
        return f"has the domain {found!r}, the index says {domain!r}"
    return ""


def _decoded(
    payload: bytes, index: index_lib.Index, row: int, manifest: manifest_lib.Manifest
) -> schema.Example:
    """Returns the example of a record; the one expected, if encoding that gives these bytes.

    Encoding takes a quarter of the time of decoding. It is tried where it can succeed: raw pixels,
    which are the last bytes, and no group, which the index knows only as a number.
    """
    if manifest.encoding == "raw" and len(payload) > manifest.image_bytes:
        example = schema.Example(
            key=index.keys[row],
            label=int(index.label[row]),
            image=payload[-manifest.image_bytes :],
            domain=os.fsencode(manifest.domains[index.domain[row]]),
        )
        if schema.encode(example) == payload:
            return example
    return schema.decode(payload)


def _key_in(payload: bytes) -> str:
    try:
        return f", key {_cut(os.fsdecode(schema.decode(payload).key))!r}"
    except (ValueError, LookupError, StopIteration):
        return ""


def _cut(text: str) -> str:
    """Returns a text that others chose, at a length that can be printed."""
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ..."


def _most_record(manifest: manifest_lib.Manifest) -> int:
    return min(manifest.image_bytes, _MOST_IMAGE) + _MOST_BESIDE


def _records(
    file: BinaryIO, offsets: list[int], most: int
) -> Iterator[tuple[int, bytes | tfrecord.Damage]]:
    """Yields what `tfrecord.scan` does; after a damaged header goes on at the next known offset."""
    start: int | None = 0
    while start is not None:
        at = start
        result: bytes | tfrecord.Damage = b""
        for at, result in _scan(file, start, most):
            yield at, result
        lost = isinstance(result, tfrecord.Damage) and result.length == 0
        later = [offset for offset in offsets if at < offset < os.fstat(file.fileno()).st_size]
        start = later[0] if lost and later else None


def _scan(file: BinaryIO, start: int, most: int) -> Iterator[tuple[int, bytes | tfrecord.Damage]]:
    """Yields what `tfrecord.scan` does of a file that need not fit into memory."""
    size = os.fstat(file.fileno()).st_size
    window = max(_WINDOW, most + tfrecord.FRAME_BYTES)
    while start < size:
        data = os.pread(file.fileno(), window, start)
        is_last = start + len(data) >= size
        next_start = start + len(data)
        for at, result in tfrecord.scan(data):
            if isinstance(result, tfrecord.Damage):
                is_cut = result.length == 0 and not is_last
                if is_cut and at:  # a record that reaches beyond the window: the next begins there
                    next_start = start + at
                    break
                reason = result.reason
                if is_cut:
                    reason = f"{reason.partition(' but ')[0]}, at most {most} are possible"
                result = tfrecord.Damage(start + at, result.length, reason)
                if result.length == 0:
                    yield start + at, result
                    return
            yield start + at, result
        start = next_start


def _fault(shard: manifest_lib.Shard, index: index_lib.Index, row: int | None, what: str) -> Fault:
    return Fault(shard.file, what, row, None if row is None else index.key(row))
