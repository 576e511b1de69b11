"""Measures every image of a record set or source in one pass by worker processes.

A source is measured at the pixels that a build would store, so its measurements are those of the
record set.
"""

import dataclasses
import hashlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import threadpoolctl

from records.builder import accounting, decode_cache, layout
from records.common import errors, worker_pool
from records.common.byte_strings import text
from records.format import index as index_lib
from records.format import manifest as manifest_lib
from records.format.record_set import RecordSet
from records.image import decode, near_duplicates, statistics
from records.inspect import leaks, row_table
from records.source.listing import Listing
from records.surveying.image_table import Headers, ImageTable

_BATCH_BYTES = 8 << 20  # of pixels that are measured together: 64 MiB as float64
_MAX_BATCH = 256  # images of a record set measured together
_MAX_SOURCE_BATCH = 32  # images of a source, also between two updates of the progress bar
_TASK_ROWS = 2048

_Measured = tuple[np.ndarray, np.ndarray]  # statistics float64 [n, 3], fingerprints uint8 [n, F]


class MeasureError(errors.DatapipeError, RuntimeError):
    """No image can be measured, or one cannot be read a second time."""


def batch_size(image_size: int, limit: int) -> int:
    """Returns how many images a worker measures together, in 1..limit."""
    return max(1, min(limit, _BATCH_BYTES // (image_size**2 * 3)))


def _measure_pixels(images: np.ndarray) -> _Measured:
    """Measures uint8 [n, size, size, 3] in a worker process."""
    with threadpoolctl.threadpool_limits(1, "blas"):  # each core has its worker already
        return statistics.measure(images), near_duplicates.fingerprints(images)


def _by_key(keys: Sequence[bytes]) -> tuple[list[bytes], np.ndarray]:
    """Returns the keys in ascending order, and their rows before."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return [keys[row] for row in order], np.array(order)


# --- record sets ---


def measure_records(
    opened: RecordSet, splits: Sequence[str], *, num_workers: int, show_progress: bool = True
) -> ImageTable:
    """Returns the measured images of some splits of a record set.

    Raises:
        MeasureError: if there are no rows.
        ManifestError, DamagedRecordError: if the record set is damaged.
        WorkerDiedError: if too many worker processes are killed.
    """
    every = row_table.rows_of(opened, splits)
    if not len(every):
        raise MeasureError(f"no image in {', '.join(splits)} of {opened.folder}")
    tasks = _row_tasks(opened, splits)
    with worker_pool.WorkerPool(num_workers, show_progress=show_progress) as pool:
        results = pool.run(_measure_rows, tasks, total=len(every), title="measuring", unit="images")
        parts = worker_pool.in_order(results)
    info, is_whole = opened.manifest, set(splits) == set(opened.manifest.splits)
    keys, order = _by_key(every.raw_keys)
    rows = every.take(order)
    return ImageTable(
        origin="records",
        path=opened.folder,
        keys=keys,
        columns=leaks.columns_of(rows),
        domain=rows.column("domain"),
        statistics=np.concatenate([part[0] for part in parts])[order],
        fingerprints=np.concatenate([part[1] for part in parts])[order],
        headers=None,
        class_names=info.class_names,
        split_names=tuple(splits),
        given_splits=isinstance(info.settings.get("splits", {}).get("given"), list),
        only_split="" if is_whole else ", ".join(splits),
        domains=info.domains,
        image_size=info.image_size,
        omitted=_omitted(opened) if is_whole else (),
        notes=info.notes if is_whole else {},
        warnings=(),
        pixels=rows.pixels,
    )


def _omitted(opened: RecordSet) -> tuple[accounting.OmittedFile, ...]:
    try:
        return accounting.read_omitted(opened.folder)
    except (ValueError, TypeError) as error:
        path = os.path.join(opened.folder, manifest_lib.REJECTS_NAME)
        raise manifest_lib.ManifestError(f"{path} is damaged: {error}") from None


@dataclasses.dataclass(frozen=True)
class _RowTask:
    """Rows of a split, as a view of the record set that has only these."""

    records: RecordSet
    split: str


def _row_tasks(opened: RecordSet, splits: Sequence[str]) -> Iterator[_RowTask]:
    fields = [field.name for field in dataclasses.fields(index_lib.Index)]
    for name in splits:
        index = opened.index(name)
        for start in range(0, len(index), _TASK_ROWS):
            rows = slice(start, start + _TASK_ROWS)
            part = index_lib.Index(**{field: getattr(index, field)[rows] for field in fields})
            yield _RowTask(RecordSet(opened.folder, opened.manifest, {name: part}), name)


def _measure_rows(task: _RowTask, advance: worker_pool.Advance) -> _Measured:
    measured = []
    size = batch_size(task.records.manifest.image_size, _MAX_BATCH)
    for batch in task.records.pixel_batches(task.split, size):
        measured.append(_measure_pixels(batch))
        advance(len(batch), 0)
    return np.concatenate([m[0] for m in measured]), np.concatenate([m[1] for m in measured])


# --- sources ---


@dataclasses.dataclass(frozen=True)
class _MeasuredFiles:
    """The measurements of the files of a task.

    Attributes:
        sha256: uint8 [n, 32], of every file.
        usable: int64 [u], positions of the files that can be decoded.
        statistics: float64 [u, 3].
        fingerprints: uint8 [u, F].
        headers: of the u images.
        skipped: (position, reason, detail) of the other files.
        notes: of all images.
    """

    sha256: np.ndarray
    usable: np.ndarray
    statistics: np.ndarray
    fingerprints: np.ndarray
    headers: tuple[decode.Header, ...]
    skipped: tuple[tuple[int, str, str], ...]
    notes: tuple[str, ...]


def measure_source(
    listing: Listing,
    policy: decode.ImagePolicy,
    *,
    given_splits: bool,
    num_workers: int,
    show_progress: bool = True,
) -> ImageTable:
    """Returns the measured images of a source, as a build would make them.

    Args:
        given_splits: whether the source gives the split of each image.
        num_workers: processes; the result does not depend on it.

    Raises:
        MeasureError: if no file can be used; names the first.
        BuildError: if `given_splits` and a split is missing.
        WorkerDiedError: if too many worker processes are killed.
        OSError: if there is no memory for an image.
    """
    split = np.zeros(len(listing), np.int64)
    if given_splits:
        split = layout.given_splits(listing, layout.SplitOptions(ratios={}, given=True))
    with (
        tempfile.TemporaryDirectory(prefix="datapipe-") as folder,
        worker_pool.WorkerPool(num_workers, show_progress=show_progress) as pool,
    ):
        results = pool.run(
            _measure_files,
            decode_cache.tasks(listing, folder, policy, "raw", fingerprints=True),
            total=len(listing),
            title="measuring",
            unit="images",
            retry=decode_cache.after_death,
        )
        parts = worker_pool.in_order(results)
    return _source_table(listing, policy, parts, split, given_splits)


def _source_table(
    listing: Listing,
    policy: decode.ImagePolicy,
    parts: Sequence[_MeasuredFiles],
    split: np.ndarray,
    given_splits: bool,
) -> ImageTable:
    step = decode_cache.size(len(listing))
    rows = np.concatenate([number * step + part.usable for number, part in enumerate(parts)])
    if not len(rows):
        key, (_, _, detail) = text(listing.keys[0]), parts[0].skipped[0]
        raise MeasureError(
            f"none of {len(listing)} images can be used; the first, {key!r}: {detail}"
        )
    skipped = [
        (number * step + position, reason, detail)
        for number, part in enumerate(parts)
        for position, reason, detail in part.skipped
    ]
    # Sorted, because the boxes of a file are in the order of the CSV.
    keys, order = _by_key([listing.keys[row] for row in rows.tolist()])
    rows = rows[order]
    sha256 = np.concatenate([part.sha256 for part in parts])[rows]
    # An image without a group is a group of its own.
    group = np.where(listing.group < 0, -1 - np.arange(len(listing)), listing.group)[rows]
    return ImageTable(
        origin="source",
        path=listing.tree.name or listing.tree.path,
        keys=keys,
        columns=leaks.Columns(
            split=split[rows],
            label=listing.label[rows],
            group=group,
            source=sha256,
            content=leaks.contents(sha256, keys, boxes=listing.box is not None),
        ),
        domain=np.asarray(listing.domain)[rows],
        statistics=np.concatenate([part.statistics for part in parts])[order],
        fingerprints=np.concatenate([part.fingerprints for part in parts])[order],
        headers=_headers([header for part in parts for header in part.headers], order),
        class_names=listing.class_names,
        split_names=listing.split_names if given_splits else (),
        given_splits=given_splits,
        only_split="",
        domains=listing.domains,
        image_size=policy.size,
        omitted=accounting.omitted_files(listing, skipped),
        notes=dict(sorted(Counter(note for part in parts for note in part.notes).items())),
        warnings=listing.warnings,
        pixels=lambda i: _read_again(listing, policy, int(rows[i])),
    )


def _measure_files(task: decode_cache.Task, advance: worker_pool.Advance) -> _MeasuredFiles:
    sha256 = np.zeros((len(task.keys), 32), np.uint8)
    usable: list[int] = []
    headers: list[decode.Header] = []
    skipped: list[tuple[int, str, str]] = []
    notes: list[str] = []
    measured = [_measure_pixels(np.empty((0, 1, 1, 3), np.uint8))]
    step = batch_size(task.policy.size, _MAX_SOURCE_BATCH)
    files = enumerate(decode_cache.read_each(task))
    for start in range(0, len(task.keys), step):
        pixels, num_skipped = [], len(skipped)
        for position, (data, decoded) in itertools.islice(files, step):
            if data is not None:
                sha256[position] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
            if isinstance(decoded, decode.ImageError):
                skipped.append((position, decoded.reason, str(decoded)))
                continue
            usable.append(position)
            headers.append(_header(data or b"", task.policy, decode_cache.box(task, position)))
            notes += decoded.notes
            pixels.append(decoded.pixels)
        if pixels:
            measured.append(_measure_pixels(np.stack(pixels)))
        advance(min(step, len(task.keys) - start), len(skipped) - num_skipped)
    return _MeasuredFiles(
        sha256=sha256,
        usable=np.array(usable, np.int64),
        statistics=np.concatenate([m[0] for m in measured]),
        fingerprints=np.concatenate([m[1] for m in measured]),
        headers=tuple(headers),
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _header(data: bytes, policy: decode.ImagePolicy, box: decode.Box | None) -> decode.Header:
    try:
        return decode.header(data, policy, box)
    except decode.ImageError:
        if box is None:
            raise
    # A PNG may state a rotation after its pixels, which its header does not show. The box refers to
    # the upright image, so its transpose is tried.
    left, top, right, bottom = box
    stored = decode.header(data, policy, (top, left, bottom, right))
    return dataclasses.replace(stored, width=stored.height, height=stored.width)


def _headers(headers: Sequence[decode.Header], order: np.ndarray) -> Headers:
    kinds = sorted({(header.format, header.mode) for header in headers})
    kind = np.array([kinds.index((header.format, header.mode)) for header in headers])
    size = np.array([(header.width, header.height) for header in headers], np.int64)
    return Headers(size[order], kind[order], tuple(kinds))


def _read_again(listing: Listing, policy: decode.ImagePolicy, row: int) -> np.ndarray:
    try:
        return decode.preprocess(listing.read(row), policy, listing.box_of(row))
    except decode.ImageError as error:
        key = text(listing.keys[row])
        raise MeasureError(f"{key!r} changed since it was measured: {error}") from None
