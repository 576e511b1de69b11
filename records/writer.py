"""Shards, whole or not at all, written by several processes. Nothing here imports TensorFlow."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence

from records import files, images, manifest, schema, sources, tfrecord, workers

_PROGRESS_STEP = 32  # files a worker finishes before it moves the bar


class BuildError(RuntimeError):
    """The build cannot go on."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image on its way into a shard: its source, label number and the digest of its bytes."""

    source: sources.SourceImage
    label: int
    sha256: bytes


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """A shard to be written: where, what, how."""

    path: str
    entries: tuple[Entry, ...]
    policy: images.ImagePolicy


@dataclasses.dataclass(frozen=True)
class Reject:
    """A file that stays out, with the reason to count by and what exactly was wrong."""

    key: str
    label: str
    reason: str
    detail: str


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """A finished shard.

    Attributes:
        shard: its entry for the manifest; None if no image was left to write.
        rows: (position in the job's entries, offset, payload length, checksum) for each record.
        rejects: the files that could not be used.
    """

    shard: manifest.Shard | None
    rows: tuple[tuple[int, int, int, int], ...]
    rejects: tuple[Reject, ...]


def write_shard(job: ShardJob, advance: workers.Advance) -> WrittenShard:
    """Decodes the images of one shard and writes it whole.

    A shard is about 64 MiB, so it is put together in memory and written in one go.

    Args:
        job: what to write.
        advance: called now and then with the number of files done since the last call.
    """
    records: list[bytes] = []
    rows: list[tuple[int, int, int, int]] = []
    rejects: list[Reject] = []
    offset = 0
    for position, entry in enumerate(job.entries):
        try:
            pixels = images.preprocess(_read_unchanged(entry), job.policy)
        except images.ImageError as error:
            rejects.append(Reject(entry.source.key, entry.source.label, error.reason, str(error)))
        else:
            payload = schema.encode(
                schema.Example(
                    key=os.fsencode(entry.source.key),
                    label=entry.label,
                    image=pixels.tobytes(),
                    group=(entry.source.group or "").encode("utf-8", "surrogateescape"),
                    domain=entry.source.domain.encode("utf-8", "surrogateescape"),
                )
            )
            records.append(tfrecord.frame(payload))
            rows.append((position, offset, len(payload), tfrecord.checksum(payload)))
            offset += len(records[-1])
        if (position + 1) % _PROGRESS_STEP == 0:
            advance(_PROGRESS_STEP)
    advance(len(job.entries) % _PROGRESS_STEP)
    if not records:
        return WrittenShard(None, (), tuple(rejects))
    sha256 = files.write_whole(job.path, b"".join(records))
    name = os.path.basename(job.path)
    shard = manifest.Shard(file=name, records=len(rows), bytes=offset, sha256=sha256)
    return WrittenShard(shard, tuple(rows), tuple(rejects))


def read_source(path: str) -> bytes:
    """Returns the bytes of a source file.

    Raises:
        ImageError: `unreadable`, if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise images.ImageError("unreadable", error.strerror or str(error)) from None


def content_digests(
    source_images: Sequence[sources.SourceImage], *, num_workers: int, show_progress: bool
) -> list[bytes | None]:
    """Returns the SHA-256 of each file's bytes, in order; None where a file cannot be read."""
    size = 256
    chunks = [source_images[at : at + size] for at in range(0, len(source_images), size)]
    done = workers.run(
        _digest_chunk,
        chunks,
        num_workers=num_workers,
        total=len(source_images),
        title="reading",
        show_progress=show_progress,
    )
    return [digest for chunk in done for digest in chunk]


def write_shards(
    jobs: Sequence[ShardJob], *, num_workers: int, show_progress: bool
) -> list[WrittenShard]:
    """Writes all shards and returns what became of each, in the order of the jobs."""
    return workers.run(
        write_shard,
        jobs,
        num_workers=num_workers,
        total=sum(len(job.entries) for job in jobs),
        title="writing",
        show_progress=show_progress,
    )


def _read_unchanged(entry: Entry) -> bytes:
    data = read_source(entry.source.path)
    if hashlib.sha256(data).digest() != entry.sha256:
        raise images.ImageError("changed_during_build", "its bytes differ from the first reading")
    return data


def _digest_chunk(
    chunk: Sequence[sources.SourceImage], advance: workers.Advance
) -> list[bytes | None]:
    digests: list[bytes | None] = []
    for image in chunk:
        try:
            digests.append(hashlib.sha256(read_source(image.path)).digest())
        except images.ImageError:
            digests.append(None)
    advance(len(chunk))
    return digests
