"""Verifies that a record set is as it was written; reports every fault by file and record."""

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

_MAX_FAULTS = 1000  # of one shard; a damaged shard may have as many as bytes
_WINDOW = 8 << 20  # 8 MiB of a shard are scanned at a time
_MAX_IMAGE = 4096 * 4096 * 3  # bytes of the largest image that a set can have
_MAX_TEXT = 300  # characters of foreign text in a message
_MAX_METADATA = 1 << 20  # 1 MiB: key, group and domain of a record together


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault of a file or, with `row` and `key`, of a record."""

    file: str
    what: str
    row: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        record = "" if self.key is None else f", record {self.row} (key {self.key!r})"
        return f"{self.file}{record}: {self.what}"


def verify(folder: str) -> list[Fault]:
    """Returns every fault of a record set; an empty list means that each byte is as written.

    Files are compared with the sizes and digests of the manifest, and every record with its row of
    the index: key, label, domain, and an image that decodes. So wrong records are found even where
    the digests are right. Lengths stated in a file are not trusted, and only regular files are
    opened. Row numbers count within the split; at most 1,000 faults of a shard are listed.
    """
    return list(_faults(folder, manifest_lib.load(folder)))


def verify_sources(folder: str, sources: str) -> list[Fault]:
    """Returns a fault for each file of `sources` that is missing or differs from the packed one."""
    manifest = manifest_lib.load(folder)
    opened, tree = record_set_lib.RecordSet(folder, manifest), trees.open_tree(sources)
    faults = []
    for split in manifest.splits:
        with contextlib.suppress(manifest_lib.ManifestError):  # `verify` reports it
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
        digest = digests[file]
        if isinstance(digest, str):
            yield Fault(tree.path, f"{split}: {digest}", row, key)
        elif digest != index.source_sha256[row].tobytes():
            yield Fault(tree.path, f"{split}: its SHA-256 differs from the index's", row, key)


def _source_digest(tree: trees.Tree, file: str) -> bytes | str:
    try:
        return hashlib.sha256(tree.read(file)).digest()
    except decode.ImageError as error:
        return str(error)


def _faults(folder: str, manifest: manifest_lib.Manifest) -> Iterator[Fault]:
    known = {manifest.rejects.file}
    fault = _file_fault(folder, manifest.rejects)
    if fault:
        yield Fault(manifest.rejects.file, fault)
    for split in manifest.splits.values():
        known |= {shard.file for shard in (*split.shards, split.index)}
        yield from _split_faults(folder, split, manifest)
    for name in sorted(os.listdir(folder)):
        if name not in known and sharding.is_file_name(name):
            yield Fault(name, "is not part of this record set")


def _split_faults(
    folder: str, split: manifest_lib.Split, manifest: manifest_lib.Manifest
) -> Iterator[Fault]:
    index, index_fault = None, _file_fault(folder, split.index)
    if not index_fault:
        try:
            index = index_lib.load(folder, split)
            index_fault = record_set_lib.index_fault(index, split, manifest)
        except manifest_lib.ManifestError as error:
            index_fault = str(error)
    if index_fault:
        yield Fault(split.index.file, index_fault)
    for number, shard in enumerate(split.shards):
        fault = _file_fault(folder, shard)
        if fault:
            yield Fault(shard.file, fault)
        if index is None or index_fault:
            continue  # nothing to compare the records with
        rows = np.flatnonzero(index.shard == number)
        path = os.path.join(folder, shard.file)
        with contextlib.suppress(OSError), _opened(path) as file:  # an error is a fault above
            yield from _limited(_record_faults(file, shard, index, rows, manifest), shard)


def _limited(faults: Iterator[Fault], shard: manifest_lib.Shard) -> Iterator[Fault]:
    for number, fault in enumerate(faults):
        if number == _MAX_FAULTS:
            yield Fault(shard.file, "has more faults; the rest was not checked")
            return
        yield fault


def _opened(path: str) -> BinaryIO:
    """Opens a file if it is regular; a pipe could block, and a link could lead anywhere."""
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
    """Compares the records of a shard with the rows of the index, in order."""
    expected = {int(index.checksum[row]): int(row) for row in rows}
    by_offset = {int(index.offset[row]): int(row) for row in rows}
    seen: set[int] = set()
    max_bytes = min(manifest.image_bytes, _MAX_IMAGE) + _MAX_METADATA
    for offset, result in _records(file, sorted(by_offset), max_bytes):
        row = by_offset.get(offset)
        if isinstance(result, tfrecord.Damage):
            yield _fault(shard, index, row, f"damaged at byte {offset}: {result.reason}")
            seen |= set() if row is None else {row}
            continue
        checksum = tfrecord.checksum(result)
        if row is None or index.checksum[row] != checksum:  # moved, or not of this set
            row = expected.get(checksum)
        if row is None:
            yield Fault(shard.file, f"holds a foreign record at byte {offset}{_key_in(result)}")
        elif row in seen:
            yield _fault(shard, index, row, f"occurs again at byte {offset}")
        else:
            seen.add(row)
            what = _content_fault(result, index, row, manifest)
            if what:
                yield _fault(shard, index, row, what)
    for row in sorted(set(rows.tolist()) - seen):
        yield _fault(shard, index, row, "is missing")


def _content_fault(
    payload: bytes, index: index_lib.Index, row: int, manifest: manifest_lib.Manifest
) -> str:
    """Returns how a record differs from its row of the index, empty if it is equal."""
    try:
        example = _decoded(payload, index, row, manifest)
        decode.decode(example.image, manifest.encoding, manifest.image_size)
    except ValueError as error:
        return f"cannot be read: {_cut(str(error))}"
    except (LookupError, StopIteration):
        return "cannot be read: not a tf.train.Example"
    label, domain = int(index.label[row]), manifest.domains[index.domain[row]]
    if example.key != index.keys[row]:
        return f"has the key {_cut(os.fsdecode(example.key))!r}"
    if example.label != label:
        return f"has the label {example.label}, the index says {label}"
    if os.fsdecode(example.domain) != domain:
        return f"has the domain {_cut(os.fsdecode(example.domain))!r}, the index says {domain!r}"
    return ""


def _decoded(
    payload: bytes, index: index_lib.Index, row: int, manifest: manifest_lib.Manifest
) -> schema.Example:
    """Returns the example of a record, by encoding the expected one where that gives its bytes.

    Encoding takes a quarter of the time of decoding. It can succeed for raw pixels, which are the
    last bytes, of images without a group, whose name the index does not hold.
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
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} ..."


def _records(
    file: BinaryIO, offsets: list[int], max_bytes: int
) -> Iterator[tuple[int, bytes | tfrecord.Damage]]:
    """Yields what `tfrecord.scan` does; resumes at the next known offset after a damaged header."""
    start: int | None = 0
    while start is not None:
        last = start
        result: bytes | tfrecord.Damage = b""
        for last, result in _scan(file, start, max_bytes):
            yield last, result
        lost = isinstance(result, tfrecord.Damage) and result.length == 0
        later = [offset for offset in offsets if last < offset < os.fstat(file.fileno()).st_size]
        start = later[0] if lost and later else None


def _scan(
    file: BinaryIO, start: int, max_bytes: int
) -> Iterator[tuple[int, bytes | tfrecord.Damage]]:
    """Yields what `tfrecord.scan` does for a file that may not fit into memory."""
    size = os.fstat(file.fileno()).st_size
    window = max(_WINDOW, max_bytes + tfrecord.FRAME_BYTES)
    while start < size:
        data = os.pread(file.fileno(), window, start)
        is_last = start + len(data) >= size
        next_start = start + len(data)
        for offset, result in tfrecord.scan(data):
            if isinstance(result, tfrecord.Damage):
                is_cut = result.length == 0 and not is_last
                if is_cut and offset:  # it extends beyond the window: the next one begins with it
                    next_start = start + offset
                    break
                reason = result.reason
                if is_cut:
                    reason = f"{reason.partition(' but ')[0]}, at most {max_bytes} are possible"
                result = tfrecord.Damage(start + offset, result.length, reason)
                if result.length == 0:
                    yield start + offset, result
                    return
            yield start + offset, result
        start = next_start


def _fault(shard: manifest_lib.Shard, index: index_lib.Index, row: int | None, what: str) -> Fault:
    return Fault(shard.file, what, row, None if row is None else index.key(row))
