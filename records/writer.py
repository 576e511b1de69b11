"""Shards, whole or not at all, written by several processes. Nothing here imports TensorFlow."""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

from records import files, images, manifest, schema, sources, tfrecord

_PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that comes when the parent is gone
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
        rows: (position in the job's entries, offset, payload length) for each record.
        rejects: the files that could not be used.
    """

    shard: manifest.Shard | None
    rows: tuple[tuple[int, int, int], ...]
    rejects: tuple[Reject, ...]


def write_shard(job: ShardJob, advance: Callable[[int], None]) -> WrittenShard:
    """Decodes the images of one shard and writes it whole.

    A shard is about 64 MiB, so it is put together in memory and written in one go.

    Args:
        job: what to write.
        advance: called now and then with the number of files done since the last call.
    """
    records: list[bytes] = []
    rows: list[tuple[int, int, int]] = []
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
            rows.append((position, offset, len(payload)))
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
    with workers(num_workers, len(source_images), "reading", show_progress) as run:
        return [digest for chunk in run(_digest_chunk, chunks) for digest in chunk]


def write_shards(
    jobs: Sequence[ShardJob], *, num_workers: int, show_progress: bool
) -> list[WrittenShard]:
    """Writes all shards and returns what became of each, in the order of the jobs."""
    total = sum(len(job.entries) for job in jobs)
    with workers(num_workers, total, "writing", show_progress) as run:
        return list(run(write_shard, jobs))


def _read_unchanged(entry: Entry) -> bytes:
    data = read_source(entry.source.path)
    if hashlib.sha256(data).digest() != entry.sha256:
        raise images.ImageError("changed_during_build", "its bytes differ from the first reading")
    return data


def _digest_chunk(
    chunk: Sequence[sources.SourceImage], advance: Callable[[int], None]
) -> list[bytes | None]:
    digests: list[bytes | None] = []
    for image in chunk:
        try:
            digests.append(hashlib.sha256(read_source(image.path)).digest())
        except images.ImageError:
            digests.append(None)
    advance(len(chunk))
    return digests


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_done: Any = None  # in a worker: the shared count of finished files


def _start_worker(done: Any, parent: int) -> None:
    global _done
    _done = done
    # Without its parent a worker would wait for ever, or write into the folder of the next build.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        os._exit(1)
    # Native decoders write about damaged files to the screen; the reject says it by name instead.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _advance(count: int) -> None:
    _done.value += count


def _call(function: Callable[[Any, Callable[[int], None]], Any], item: Any) -> Any:
    return function(item, _advance)


@contextlib.contextmanager
def workers(
    num_workers: int, total: int, title: str, show_progress: bool
) -> Iterator[Callable[..., Iterable[Any]]]:
    """Gives a function that maps `function(item, advance)` over items in worker processes.

    Results come in the order of the items. A bar counts to `total` as workers call `advance`.

    Raises:
        BuildError: if a worker dies.
    """
    context = multiprocessing.get_context("spawn")
    # No lock: a worker killed while it held one would stop all others for ever. Two workers that
    # count at the same instant may lose a few files, of the bar only.
    done = context.RawValue("q", 0)

    def run(
        function: Callable[[_Item, Callable[[int], None]], _Result], items: Iterable[_Item]
    ) -> Iterable[_Result]:
        futures = [pool.submit(_call, function, item) for item in items]
        pending = set(futures)
        while pending:
            finished, pending = concurrent.futures.wait(
                pending, 0.2, concurrent.futures.FIRST_EXCEPTION
            )
            bar.update(done.value - bar.n)
            for future in finished:
                future.result()
        bar.update(total - bar.n)
        return [future.result() for future in futures]

    others = set(multiprocessing.active_children())
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, context, initializer=_start_worker, initargs=(done, os.getpid())
    )
    off = None if show_progress else True  # None: off where standard error is no terminal
    bar = tqdm(total=total, desc=title, unit=" files", disable=off, mininterval=0)
    try:
        yield run
    except concurrent.futures.process.BrokenProcessPool:
        # The pool forgets a worker that was being started just then and would wait for it for ever.
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise BuildError(
            "a worker process died (killed, or out of memory); nothing is lost: run it again"
        ) from None
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
