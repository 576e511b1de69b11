"""Every image decoded once, in the order of the source, into chunks that outlive a killed build.

What an image is can only be known by reading it, and where it goes depends on all the others (equal
bytes must share a split). So images are read, hashed, decoded and encoded in one pass into chunk
files beside the output; shards are then put together from these without opening a source again. A
chunk is named after everything that makes it: a build that goes on takes the chunks whose names it
would give itself, and cannot take one of other sources or settings.
"""

import dataclasses
import errno
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Sequence

import google_crc32c
import numpy as np

from records.common import atomic, worker_pool
from records.common.byte_strings import Strings, text
from records.image import decode, near_duplicates
from records.source import trees
from records.source.listing import Listing

_CHUNKS = 256  # at most about so many, which also bounds the files that are open at a time
_LEAST = 128  # images of a chunk
_BUFFER = 1 << 20  # 1 MiB
_STEP = 32  # images between two moves of the bar
_POSITION = struct.Struct("<q")
_VERSION = 1  # of what stands in a chunk; another one is made anew


@dataclasses.dataclass(frozen=True)
class Task:
    """A chunk to be made.

    Attributes:
        folder: where chunks are written.
        number: of the chunk.
        tree: path of the tree.
        keys: of the files.
        stamps: uint32 [n], see `trees.Entry`.
        spans: int64 [n, 5] or None.
        boxes: float64 [n, 4] or None.
        policy: how pixels are made.
        encoding: how they are stored.
        fingerprints: whether fingerprints for near duplicates are wanted.
        suspect: position at which a worker died, -1 for none.
    """

    folder: str
    number: int
    tree: str
    keys: Strings
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
        said = [_VERSION, repr(self.policy), self.encoding, self.fingerprints, decode.VERSIONS]
        whole = hashlib.sha256(json.dumps(said).encode())
        whole.update(self.keys.blob)
        for column in (self.keys.ends, self.stamps, self.spans, self.boxes):
            whole.update(b"\0" if column is None else column.tobytes())
        return f"{self.number:05d}-{whole.hexdigest()[:24]}"

    def path(self, kind: str) -> str:
        """Returns the path of a file of the chunk: `images`, `facts`, `position`, `crashed`."""
        return os.path.join(self.folder, f"{self.name}.{kind}")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What is known about the images of a chunk.

    Attributes:
        path: of the file that holds the encoded images, one after the other.
        sha256: uint8 [n, 32], of the bytes of the file; zeros where it could not be read.
        ends: int64 [n], where each image ends in the file; one that is not usable has no bytes.
        fingerprints: uint8 [n, F], or [n, 0] if not wanted.
        rejects: (position, reason, detail) of the images that cannot be used.
        notes: (position, note) of what was done to others.
        fresh: False if a build before had made it.
    """

    path: str
    sha256: np.ndarray
    ends: np.ndarray
    fingerprints: np.ndarray
    rejects: tuple[tuple[int, str, str], ...]
    notes: tuple[tuple[int, str], ...]
    fresh: bool


def size(num_images: int) -> int:
    """Returns the number of images in each chunk but the last."""
    return max(_LEAST, -(-num_images // _CHUNKS))


def tasks(
    listing: Listing,
    folder: str,
    policy: decode.ImagePolicy,
    encoding: str,
    *,
    fingerprints: bool,
) -> Iterator[Task]:
    """Yields the chunks that hold all images of a listing, in its order."""
    step = size(len(listing))
    for number, start in enumerate(range(0, len(listing), step)):
        part = slice(start, start + step)
        yield Task(
            folder=folder,
            number=number,
            tree=listing.tree.path,
            keys=listing.file_keys[part],
            stamps=listing.stamp[part],
            spans=None if listing.span is None else listing.span[part],
            boxes=None if listing.box is None else listing.box[part],
            policy=policy,
            encoding=encoding,
            fingerprints=fingerprints,
        )


def make(task: Task, advance: worker_pool.Advance) -> Chunk:
    """Makes a chunk, or takes the finished one that is there."""
    done = _load(task)
    if done:
        advance(len(task.keys), len(done.rejects))
        return done
    sha256 = np.zeros((len(task.keys), 32), np.uint8)
    ends = np.zeros(len(task.keys), np.int64)
    rejects: list[tuple[int, str, str]] = []
    notes: list[tuple[int, str]] = []
    prints = [np.zeros((0, near_duplicates.FINGERPRINT_BYTES), np.uint8)]
    pixels: list[np.ndarray] = []
    crc = said = end = 0
    with (
        atomic.naming(task.path("images")),
        open(task.path("images.part"), "wb", _BUFFER) as out,
    ):
        for position, (data, decoded) in enumerate(read_each(task)):
            if data is not None:
                sha256[position] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
            if isinstance(decoded, decode.ImageError):
                rejects.append((position, decoded.reason, str(decoded)))
            else:
                encoded = decode.encode(decoded.pixels, task.encoding)
                out.write(encoded)
                crc = google_crc32c.extend(crc, encoded)
                end += len(encoded)
                notes += [(position, note) for note in decoded.notes]
                pixels += [decoded.pixels] * task.fingerprints
            ends[position] = end
            if position % _STEP == _STEP - 1:
                prints, pixels = [*prints, *_fingerprints(pixels)], []
                advance(_STEP, len(rejects) - said)
                said = len(rejects)
    prints += _fingerprints(pixels)
    advance(len(task.keys) % _STEP, len(rejects) - said)
    facts: dict[str, np.ndarray] = {
        "sha256": sha256,
        "ends": ends,
        "fingerprints": _by_position(np.concatenate(prints), ends, task.fingerprints),
        "crc": np.array(crc),
        "said": np.frombuffer(
            json.dumps([rejects, notes]).encode("utf-8", "surrogateescape"), "u1"
        ),
    }
    return _save(task, facts)


def read_each(task: Task) -> Iterator[tuple[bytes | None, decode.Decoded | decode.ImageError]]:
    """Yields the bytes of each file (None: unreadable), and its image or why it cannot be used.

    Where it stands is kept on file meanwhile, for `after_death`.

    Raises:
        OSError: if there is no memory for an image: another time there may be enough.
    """
    crashed = _crashed(task)
    # Unbuffered where the worker stands: it must be on file when a decoder takes the worker down.
    with open(task.path("position"), "wb", 0) as at:
        for position, key in enumerate(task.keys):
            os.pwrite(at.fileno(), _POSITION.pack(position), 0)
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
    """Returns the task to try again after a worker died of it.

    An image at which a second worker dies is left out as `crashed_decoder`.
    """
    try:
        with open(task.path("position"), "rb") as file:
            (position,) = _POSITION.unpack(file.read())
        os.remove(task.path("position"))  # the next worker may die before it writes its own
    except (OSError, struct.error):
        return task
    if position != task.suspect:
        return dataclasses.replace(task, suspect=position)
    crashed = json.dumps([*_crashed(task), position]).encode()
    atomic.write_unsynced(task.path("crashed"), crashed)  # on file, for the next build too
    return task


def _crashed(task: Task) -> list[int]:
    """Returns the positions at which two workers died one after the other."""
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
    """Returns the part of the image at a position that is to be kept, None for all of it."""
    if task.boxes is None:
        return None
    left, top, right, bottom = task.boxes[position].tolist()
    return left, top, right, bottom


def _fingerprints(pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [near_duplicates.fingerprints(np.stack(pixels))] if pixels else []


def _by_position(prints: np.ndarray, ends: np.ndarray, wanted: bool) -> np.ndarray:
    """Returns a fingerprint for every position, zeros where there is no image."""
    if not wanted:
        return np.zeros((len(ends), 0), np.uint8)
    result = np.zeros((len(ends), prints.shape[1]), np.uint8)
    result[np.diff(ends, prepend=0) > 0] = prints
    return result


def _save(task: Task, facts: dict[str, np.ndarray]) -> Chunk:
    """Gives the files of a chunk their names, the facts last.

    Nothing is synced: what a power cut takes is noticed by its checksum and made again.
    """
    with atomic.naming(task.path("facts")), open(task.path("facts.part"), "wb") as out:
        np.savez(out, **facts)  # type: ignore[arg-type]
    os.replace(task.path("images.part"), task.path("images"))
    os.replace(task.path("facts.part"), task.path("facts"))
    os.remove(task.path("position"))
    return _chunk(task, facts, fresh=True)


def _load(task: Task) -> Chunk | None:
    """Returns the finished chunk of this name, None if there is none or it is damaged."""
    try:
        with np.load(task.path("facts"), allow_pickle=False) as archive:
            facts = {name: archive[name] for name in archive.files}
        crc = 0
        with open(task.path("images"), "rb") as file:
            while piece := file.read(1 << 20):
                crc = google_crc32c.extend(crc, piece)
        if crc != facts["crc"] or file_end(facts["ends"]) != os.path.getsize(task.path("images")):
            return None
        return _chunk(task, facts, fresh=False)
    except Exception:  # whatever is wrong with it, it can be made again
        return None


def file_end(ends: np.ndarray) -> int:
    """Returns where the last image ends."""
    return int(ends[-1]) if len(ends) else 0


def _chunk(task: Task, facts: dict[str, np.ndarray], *, fresh: bool) -> Chunk:
    rejects, notes = json.loads(facts["said"].tobytes().decode("utf-8", "surrogateescape"))
    return Chunk(
        path=task.path("images"),
        sha256=facts["sha256"],
        ends=facts["ends"],
        fingerprints=facts["fingerprints"],
        rejects=tuple((position, reason, detail) for position, reason, detail in rejects),
        notes=tuple((position, note) for position, note in notes),
        fresh=fresh,
    )
