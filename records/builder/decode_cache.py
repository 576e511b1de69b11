"""The decode cache of a build: every image read and decoded once, into files beside the output.

The split of an image depends on the bytes of all others, as equal bytes must share one. So one pass
reads, hashes, decodes and encodes all images into chunk files, from which shards are assembled
without opening the source again. Hashing first and decoding later would read the large originals
twice from a disk or network, and an iterator or compressed tar can be read only once; the cache
costs twice the space of the small decoded images.

A chunk is named by a digest of everything that its bytes depend on, so a resumed build reuses
chunks by name and never takes one of other sources or settings.
"""

import dataclasses
import errno
import hashlib
import json
import os
import struct
from collections.abc import Iterator

import google_crc32c
import numpy as np

from records.common import atomic, worker_pool
from records.common.byte_strings import pack, text
from records.image import decode, near_duplicates
from records.source import trees
from records.source.listing import Listing

_MAX_CHUNKS = 256  # approximately; bounds the number of open files
_MIN_IMAGES = 128  # of a chunk
_BUFFER = 1 << 20  # 1 MiB
_STEP = 32  # images between two updates of the progress bar
_POSITION = struct.Struct("<q")
_VERSION = 1  # of the content of a chunk; chunks of another version are made again


@dataclasses.dataclass(frozen=True)
class Task:
    """A chunk to make.

    Attributes:
        folder: where chunks are written.
        number: position of the chunk among all.
        tree: path of the source.
        keys: names of the files.
        stamps: uint32 [n], see `trees.Entry`.
        spans: int64 [n, 5] or None.
        boxes: float64 [n, 4] or None.
        fingerprints: whether to compute fingerprints for near duplicates.
        suspect: position at which a worker died, -1 for none.
    """

    folder: str
    number: int
    tree: str
    keys: list[bytes]
    stamps: np.ndarray
    spans: np.ndarray | None
    boxes: np.ndarray | None
    policy: decode.ImagePolicy
    encoding: str
    fingerprints: bool
    suspect: int = -1

    @property
    def name(self) -> str:
        """Digest of everything that the chunk depends on."""
        settings = [_VERSION, repr(self.policy), self.encoding, self.fingerprints, decode.VERSIONS]
        digest = hashlib.sha256(json.dumps(settings).encode())
        names, ends = pack(self.keys)
        digest.update(names)
        for column in (ends, self.stamps, self.spans, self.boxes):
            digest.update(b"\0" if column is None else column.tobytes())
        return f"{self.number:05d}-{digest.hexdigest()[:24]}"

    def path(self, kind: str) -> str:
        """Returns the path of a file of the chunk: `images`, `facts`, `position`, `crashed`."""
        return os.path.join(self.folder, f"{self.name}.{kind}")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A finished chunk.

    Attributes:
        path: of the file of the encoded images, one after the other.
        sha256: uint8 [n, 32], of the source file; zeros where it could not be read.
        ends: int64 [n], where each image ends in the file; a skipped one has no bytes.
        fingerprints: uint8 [n, F], or [n, 0] if not computed; zeros for a skipped image.
        skipped: (position, reason, detail) of the images that cannot be used.
        notes: (position, note) of what was done to the others.
        reused: whether an interrupted build had made it.
    """

    path: str
    sha256: np.ndarray
    ends: np.ndarray
    fingerprints: np.ndarray
    skipped: tuple[tuple[int, str, str], ...]
    notes: tuple[tuple[int, str], ...]
    reused: bool


@dataclasses.dataclass(frozen=True)
class DecodedImages:
    """The images of a listing in the cache; fields not described are those of `Chunk`.

    Attributes:
        paths: of the chunks.
        chunk_size: images in each chunk but the last.
        start: int64 [n], where the image begins in its chunk.
        length: int64 [n], its bytes; 0 for a skipped image.
        num_reused: chunks that an interrupted build had made.
    """

    paths: tuple[str, ...]
    chunk_size: int
    start: np.ndarray
    length: np.ndarray
    sha256: np.ndarray
    fingerprints: np.ndarray
    skipped: tuple[tuple[int, str, str], ...]
    notes: tuple[tuple[int, str], ...]
    num_reused: int

    @property
    def usable(self) -> np.ndarray:
        """Whether each image could be decoded, bool [n]."""
        return self.length > 0


def fill(
    listing: Listing,
    folder: str,
    policy: decode.ImagePolicy,
    encoding: str,
    *,
    fingerprints: bool,
    pool: worker_pool.WorkerPool,
) -> DecodedImages:
    """Reads and decodes every image of a listing into chunks in `folder`."""
    step = size(len(listing))
    results = pool.run(
        make,
        tasks(listing, folder, policy, encoding, fingerprints=fingerprints),
        total=len(listing),
        title="reading",
        unit="images",
        retry=after_death,
    )
    chunks = worker_pool.in_order(results)
    length = np.concatenate([np.diff(chunk.ends, prepend=0) for chunk in chunks])
    firsts = list(zip(range(0, len(listing), step), chunks, strict=True))
    return DecodedImages(
        paths=tuple(chunk.path for chunk in chunks),
        chunk_size=step,
        start=np.concatenate([chunk.ends for chunk in chunks]) - length,
        length=length,
        sha256=np.concatenate([chunk.sha256 for chunk in chunks]),
        fingerprints=np.concatenate([chunk.fingerprints for chunk in chunks]),
        skipped=tuple(
            (first + at, reason, detail)
            for first, chunk in firsts
            for at, reason, detail in chunk.skipped
        ),
        notes=tuple((first + at, note) for first, chunk in firsts for at, note in chunk.notes),
        num_reused=sum(chunk.reused for chunk in chunks),
    )


def size(num_images: int) -> int:
    """Returns the number of images in each chunk but the last."""
    # Never depends on the number of workers: a build may resume with another one.
    return max(_MIN_IMAGES, -(-num_images // _MAX_CHUNKS))


def tasks(
    listing: Listing, folder: str, policy: decode.ImagePolicy, encoding: str, *, fingerprints: bool
) -> Iterator[Task]:
    """Yields the chunks that hold all images of a listing, in its order."""
    step = size(len(listing))
    for number, start in enumerate(range(0, len(listing), step)):
        rows = slice(start, start + step)
        yield Task(
            folder=folder,
            number=number,
            tree=listing.tree.path,
            keys=list(listing.file_keys[rows]),
            stamps=listing.stamp[rows],
            spans=None if listing.span is None else listing.span[rows],
            boxes=None if listing.box is None else listing.box[rows],
            policy=policy,
            encoding=encoding,
            fingerprints=fingerprints,
        )


def make(task: Task, advance: worker_pool.Advance) -> Chunk:
    """Makes a chunk, or reuses the finished one."""
    cached = _load(task)
    if cached:
        advance(len(task.keys), len(cached.skipped))
        return cached
    count, width = len(task.keys), near_duplicates.FINGERPRINT_BYTES if task.fingerprints else 0
    sha256, prints = np.zeros((count, 32), np.uint8), np.zeros((count, width), np.uint8)
    lengths = np.zeros(count, np.int64)
    skipped: list[tuple[int, str, str]] = []
    notes: list[tuple[int, str]] = []
    waiting: dict[int, np.ndarray] = {}  # pixels by position, until their fingerprints are made
    crc = num_reported = 0
    with atomic.naming(task.path("images")), open(task.path("images.part"), "wb", _BUFFER) as out:
        for position, (data, result) in enumerate(read_each(task)):
            if data is not None:
                sha256[position] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
            if isinstance(result, decode.ImageError):
                skipped.append((position, result.reason, str(result)))
            else:
                encoded = decode.encode(result.pixels, task.encoding)
                out.write(encoded)
                crc = google_crc32c.extend(crc, encoded)
                lengths[position] = len(encoded)
                notes += [(position, note) for note in result.notes]
                if task.fingerprints:
                    waiting[position] = result.pixels
            if (position + 1) % _STEP == 0 or position + 1 == count:
                if waiting:  # computed together, by matrix products
                    batch = np.stack(list(waiting.values()))
                    prints[list(waiting)] = near_duplicates.fingerprints(batch)
                waiting.clear()
                advance(position % _STEP + 1, len(skipped) - num_reported)
                num_reported = len(skipped)
    facts: dict[str, np.ndarray] = {
        "sha256": sha256,
        "ends": np.cumsum(lengths),
        "fingerprints": prints,
        "crc": np.array(crc),
        "said": np.frombuffer(json.dumps([skipped, notes]).encode(), np.uint8),
    }
    return _save(task, facts)


def read_each(task: Task) -> Iterator[tuple[bytes | None, decode.Decoded | decode.ImageError]]:
    """Yields the bytes of each file (None: unreadable), and its image or why it cannot be used.

    The current position is kept in a file, for `after_death`.

    Raises:
        OSError: if there is no memory for an image, which another run may have.
    """
    crashed = _crashed(task)
    # Unbuffered: the position must be in the file when a decoder crashes the worker.
    with open(task.path("position"), "wb", 0) as file:
        for position, key in enumerate(task.keys):
            os.pwrite(file.fileno(), _POSITION.pack(position), 0)
            data = None
            try:
                data = _read(task, position, key)
                if position in crashed:
                    raise decode.ImageError("crashed_decoder", "its decoder took two workers down")
                yield data, decode.read(data, task.policy, box(task, position))
            except decode.ImageError as error:
                if error.reason == "out_of_memory":
                    raise OSError(errno.ENOMEM, str(error), text(key)) from None
                yield data, error


def after_death(task: Task) -> Task:
    """Returns the task to retry after a worker died over it.

    An image at which two workers died is then skipped as `crashed_decoder`.
    """
    try:
        with open(task.path("position"), "rb") as file:
            (position,) = _POSITION.unpack(file.read())
        os.remove(task.path("position"))  # the next worker may die before it writes one
    except (OSError, struct.error):
        return task
    if position != task.suspect:
        return dataclasses.replace(task, suspect=position)
    crashed = json.dumps([*_crashed(task), position]).encode()
    atomic.write_unsynced(task.path("crashed"), crashed)  # in a file, for the next build too
    return task


def _crashed(task: Task) -> list[int]:
    """Returns the positions at which two workers died."""
    try:
        with open(task.path("crashed"), "rb") as file:
            return json.load(file)
    except (OSError, ValueError):
        return []


def digests(task: Task, advance: worker_pool.Advance) -> np.ndarray:
    """Returns the SHA-256 of each file of a chunk, uint8 [n, 32]; zeros where it is unreadable."""
    result = np.zeros((len(task.keys), 32), np.uint8)
    for position, key in enumerate(task.keys):
        try:
            data = _read(task, position, key)
        except decode.ImageError:
            continue
        result[position] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
    advance(len(task.keys), 0)
    return result


def _read(task: Task, position: int, key: bytes) -> bytes:
    span = None if task.spans is None else trees.Span(*task.spans[position].tolist())
    return trees.read(task.tree, key, span)


def box(task: Task, position: int) -> decode.Box | None:
    """Returns the box to crop from the image at a position, None for all of it."""
    if task.boxes is None:
        return None
    left, top, right, bottom = task.boxes[position].tolist()
    return left, top, right, bottom


def _save(task: Task, facts: dict[str, np.ndarray]) -> Chunk:
    """Renames the files of a chunk to their final names, the facts last.

    Nothing is synced: a chunk damaged by a power cut fails its checksum and is made again.
    """
    with atomic.naming(task.path("facts")), open(task.path("facts.part"), "wb") as out:
        np.savez(out, **facts)  # type: ignore[arg-type]
    os.replace(task.path("images.part"), task.path("images"))
    os.replace(task.path("facts.part"), task.path("facts"))
    os.remove(task.path("position"))
    return _chunk(task, facts, reused=False)


def _load(task: Task) -> Chunk | None:
    """Returns the finished chunk, None if there is none or it is damaged."""
    try:
        with np.load(task.path("facts"), allow_pickle=False) as archive:
            facts = {name: archive[name] for name in archive.files}
        crc = num_bytes = 0
        with open(task.path("images"), "rb") as file:
            while piece := file.read(_BUFFER):
                crc = google_crc32c.extend(crc, piece)
                num_bytes += len(piece)
        if crc != facts["crc"] or num_bytes != facts["ends"][-1]:
            return None
        return _chunk(task, facts, reused=True)
    except Exception:  # whatever the damage, the chunk can be made again
        return None


def _chunk(task: Task, facts: dict[str, np.ndarray], *, reused: bool) -> Chunk:
    skipped, notes = json.loads(facts["said"].tobytes())
    return Chunk(
        path=task.path("images"),
        sha256=facts["sha256"],
        ends=facts["ends"],
        fingerprints=facts["fingerprints"],
        skipped=tuple((position, reason, detail) for position, reason, detail in skipped),
        notes=tuple((position, note) for position, note in notes),
        reused=reused,
    )
