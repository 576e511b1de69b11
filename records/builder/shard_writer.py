"""Shards, whole or not at all, put together from chunks. Nothing here imports TensorFlow."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence

import numpy as np

from records.common import atomic, errors, worker_pool
from records.common.byte_strings import Strings
from records.format import example, manifest, tfrecord

_PIECE = 4 << 20  # 4 MiB: bytes put together before they are written
_STEP = 256  # records between two moves of the bar


class BuildError(errors.DatapipeError, RuntimeError):
    """The build cannot go on."""


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A shard to be written: where, and what its records hold, row by row.

    Attributes:
        path: of the shard.
        journal: path of the file that says the shard is finished.
        keys, groups, domains: byte strings of each row.
        labels: int32 [n].
        chunks: paths of the files that hold the encoded images.
        chunk: int32 [n], which of them.
        start, length: int64 [n], where the image stands in it.
    """

    path: str
    journal: str
    keys: Strings
    groups: Strings
    domains: Strings
    labels: np.ndarray
    chunks: tuple[str, ...]
    chunk: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def identity(self) -> str:
        """Digest of everything that the bytes of the shard depend on.

        The name of a chunk stands for what is in it.
        """
        names = [os.path.basename(path) for path in self.chunks]
        whole = hashlib.sha256(json.dumps([os.path.basename(self.path), names]).encode())
        for strings in (self.keys, self.groups, self.domains):
            whole.update(strings.blob)
            whole.update(strings.ends.tobytes())
        for column in (self.labels, self.chunk, self.start, self.length):
            whole.update(column.tobytes())
        return whole.hexdigest()


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """A finished shard.

    Attributes:
        shard: its entry for the manifest.
        length: int64 [n], bytes of each payload.
        checksum: uint32 [n], of each payload.
        state: `written`, `kept` from a build before, or `repaired` if that one was damaged.
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
    """Writes a shard whole, or takes the finished one that is there if its bytes are as written."""
    identity = task.identity()
    left = _left(task, identity)
    if left and left.state == "kept":
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

    sha256 = atomic.write_stream(task.path, _pieces(records()), sync_folder=False)
    advance(len(task.keys) % _STEP, 0)
    size = int(lengths.sum()) + len(lengths) * tfrecord.FRAME_BYTES
    shard = manifest.Shard(os.path.basename(task.path), len(lengths), size, sha256)
    said = {
        "identity": identity,
        "shard": dataclasses.asdict(shard),
        "length": lengths.tolist(),
        "checksum": checksums.tolist(),
    }
    atomic.write_unsynced(task.journal, atomic.json_bytes(said))
    return WrittenShard(shard, lengths, checksums, state)


def _left(task: ShardTask, identity: str) -> WrittenShard | None:
    """Returns the shard that a build before has written, if it is this one.

    Its state is `kept`, or `repaired` if it is damaged and must be.
    """
    try:
        with open(task.journal, encoding="utf-8") as file:
            said = json.load(file)
        shard = manifest.Shard(**said["shard"])
        if said["identity"] != identity:
            return None
        state = "kept" if atomic.sha256_of(task.path) == shard.sha256 else "repaired"
        lengths = np.array(said["length"], np.int64)
        return WrittenShard(shard, lengths, np.array(said["checksum"], np.uint32), state)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whatever is wrong with it, it can be written again


def _payloads(task: ShardTask) -> Iterator[bytes]:
    """Yields the serialized example of each row."""
    opened = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in task.chunks]
    try:
        places = zip(task.chunk.tolist(), task.start.tolist(), task.length.tolist(), strict=True)
        columns = zip(task.keys, task.labels.tolist(), task.groups, task.domains, strict=True)
        for (chunk, start, length), (key, label, group, domain) in zip(
            places, columns, strict=True
        ):
            image = os.pread(opened[chunk], length, start)
            if len(image) != length:
                raise BuildError(f"{task.chunks[chunk]} was cut while the build was running")
            yield example.encode(
                example.Example(key=key, label=label, image=image, group=group, domain=domain)
            )
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _pieces(records: Iterator[bytes]) -> Iterator[bytes]:
    """Yields records joined into pieces of some MiB."""
    piece: list[bytes] = []
    size = 0
    for record in records:
        piece.append(record)
        size += len(record)
        if size >= _PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)


def read_rejects(folder: str) -> tuple["Reject", ...]:
    """Returns the files that a record set does not hold, with their reasons."""
    with open(os.path.join(folder, manifest.REJECTS_NAME), encoding="utf-8") as file:
        return tuple(Reject(**json.loads(line)) for line in file)


@dataclasses.dataclass(frozen=True)
class Reject:
    """A file that stays out, with the reason to count by and what exactly was wrong."""

    key: str
    label: str
    reason: str
    detail: str


def write_rejects(folder: str, rejects: Sequence[Reject]) -> manifest.Shard:
    """Writes `rejects.jsonl`, a line for each file that stays out."""
    lines = (atomic.json_bytes(dataclasses.asdict(reject)) for reject in rejects)
    path = os.path.join(folder, manifest.REJECTS_NAME)
    sha256 = atomic.write_stream(path, itertools.chain(lines, [b""]))
    return manifest.Shard(manifest.REJECTS_NAME, len(rejects), os.path.getsize(path), sha256)
