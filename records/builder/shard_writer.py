"""Writes shards atomically from the decode cache. Nothing here imports TensorFlow."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator

import numpy as np

from records.common import atomic, errors, worker_pool
from records.common.byte_strings import pack
from records.format import example, manifest, tfrecord

_BUFFER = 4 << 20  # 4 MiB: bytes joined before they are written
_STEP = 256  # records between two updates of the progress bar


class BuildError(errors.DatapipeError, RuntimeError):
    """The build cannot be done as asked."""


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A shard to write: its path and its records, row by row.

    Attributes:
        journal: path of the file that states that the shard is finished.
        labels: int32 [n].
        chunks: paths of the files that hold the encoded images.
        chunk: int32 [n], position in `chunks`.
        start, length: int64 [n], of the image in its chunk.
    """

    path: str
    journal: str
    keys: list[bytes]
    groups: list[bytes]
    domains: list[bytes]
    labels: np.ndarray
    chunks: tuple[str, ...]
    chunk: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def identity(self) -> str:
        """Digest of everything that the bytes of the shard depend on.

        The names of chunks are digests themselves, so they stand for the bytes of the chunks.
        """
        names = [os.path.basename(path) for path in self.chunks]
        digest = hashlib.sha256(json.dumps([os.path.basename(self.path), names]).encode())
        for strings in (self.keys, self.groups, self.domains):
            block, ends = pack(strings)
            digest.update(block)
            digest.update(ends.tobytes())
        for column in (self.labels, self.chunk, self.start, self.length):
            digest.update(column.tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """A finished shard.

    Attributes:
        shard: its manifest entry.
        length: int64 [n], bytes of each payload.
        checksum: uint32 [n], of each payload.
        state: `written`, `reused` from an interrupted build, or `repaired` if that was damaged.
    """

    shard: manifest.Shard
    length: np.ndarray
    checksum: np.ndarray
    state: str = "written"

    @property
    def offset(self) -> np.ndarray:
        """Where each record begins, int64 [n]."""
        ends = np.cumsum(self.length + tfrecord.FRAME_BYTES)
        return np.concatenate([[0], ends[:-1]])


def write_shard(task: ShardTask, advance: worker_pool.Advance) -> WrittenShard:
    """Writes a shard, or reuses the finished one if its digest agrees."""
    identity = task.identity()
    left = _left(task, identity)
    if left and left.state == "reused":
        advance(len(task.keys), 0)
        return left
    state = left.state if left else "written"
    lengths, checksums = np.zeros(len(task.keys), np.int64), np.zeros(len(task.keys), np.uint32)

    def records() -> Iterator[bytes]:
        for row, payload in enumerate(_payloads(task)):
            record = tfrecord.frame(payload)
            lengths[row], checksums[row] = len(payload), tfrecord.framed_checksum(record)
            yield record
            if row % _STEP == _STEP - 1:
                advance(_STEP, 0)

    # The folder is synced once, before it is renamed.
    sha256 = atomic.write_stream(task.path, _pieces(records()), sync_folder=False)
    advance(len(task.keys) % _STEP, 0)
    size = int(lengths.sum()) + len(lengths) * tfrecord.FRAME_BYTES
    shard = manifest.Shard(os.path.basename(task.path), len(lengths), size, sha256)
    content = {
        "identity": identity,
        "shard": dataclasses.asdict(shard),
        "length": lengths.tolist(),
        "checksum": checksums.tolist(),
    }
    # Unsynced: if a power cut loses the journal, the shard is written again.
    atomic.write_unsynced(task.journal, atomic.json_bytes(content))
    return WrittenShard(shard, lengths, checksums, state)


def _left(task: ShardTask, identity: str) -> WrittenShard | None:
    """Returns the shard that an interrupted build has written, None if it is another one.

    Its state is `repaired` if it is damaged and must be written again.
    """
    try:
        with open(task.journal, encoding="utf-8") as file:
            content = json.load(file)
        shard = manifest.Shard(**content["shard"])
        if content["identity"] != identity:
            return None
        state = "reused" if atomic.sha256_of(task.path) == shard.sha256 else "repaired"
        lengths = np.array(content["length"], np.int64)
        return WrittenShard(shard, lengths, np.array(content["checksum"], np.uint32), state)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whatever the damage, the shard can be written again


def _payloads(task: ShardTask) -> Iterator[bytes]:
    """Yields the serialized example of each row."""
    opened = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in task.chunks]
    try:
        numbers = (task.labels, task.chunk, task.start, task.length)
        columns = (task.keys, task.groups, task.domains, *(array.tolist() for array in numbers))
        for key, group, domain, label, chunk, start, length in zip(*columns, strict=True):
            image = os.pread(opened[chunk], length, start)
            if len(image) != length:
                raise BuildError(f"{task.chunks[chunk]} was truncated while the build was running")
            yield example.encode(example.Example(key, label, image, group, domain))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _pieces(records: Iterator[bytes]) -> Iterator[bytes]:
    """Yields records joined into pieces of a few MiB."""
    piece: list[bytes] = []
    size = 0
    for record in records:
        piece.append(record)
        size += len(record)
        if size >= _BUFFER:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)
