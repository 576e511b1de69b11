"""Every image of a source, measured in one pass by worker processes, as a build would make it."""

import dataclasses
import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence

import numpy as np

from records.builder import decode_cache, layout, shard_writer
from records.common import worker_pool
from records.common.byte_strings import raw, text
from records.image import decode
from records.inspect import leaks
from records.source import trees
from records.source.listing import Listing
from records.surveying import measure

_STEP = 32  # images measured together, and between two moves of the bar, at most


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What is known of the files of a chunk.

    Attributes:
        sha256: uint8 [n, 32], of every file.
        usable: int64 [u], positions of those that hold an image.
        looks: float64 [u, 3].
        prints: uint8 [u, F].
        headers: of each.
        rejects: (position, reason, detail) of the others.
        notes: what was done to the images.
    """

    sha256: np.ndarray
    usable: np.ndarray
    looks: np.ndarray
    prints: np.ndarray
    headers: tuple[decode.Header, ...]
    rejects: tuple[tuple[int, str, str], ...]
    notes: tuple[str, ...]


def gather(
    listing: Listing,
    policy: decode.ImagePolicy,
    *,
    given_splits: bool,
    num_workers: int,
    show_progress: bool = True,
) -> measure.Gathered:
    """Returns what the images of a source look like, as a build would make them.

    Args:
        listing: the files.
        policy: how their pixels are made.
        given_splits: whether the source says the split of each image.
        num_workers: processes; the result does not depend on it.
        show_progress: draw a bar on standard error.

    Raises:
        GatheringError: if no file can be used, with the first of them.
        BuildError: if splits are to be given and are not.
        WorkerDiedError: if worker processes are killed again and again.
        OSError: if there is no memory for an image.
    """
    split = np.zeros(len(listing), np.int64)
    if given_splits:
        split = layout.given_splits(listing, layout.SplitOptions(ratios={}, given=True))
    with (
        tempfile.TemporaryDirectory(prefix="datapipe-") as folder,
        worker_pool.Crew(num_workers) as crew,
    ):
        parts = measure.in_order(
            crew.run(
                measure_files,
                decode_cache.tasks(listing, folder, policy, "raw", fingerprints=True),
                total=len(listing),
                title="measuring",
                unit="images",
                show_progress=show_progress,
                retry=decode_cache.after_death,
            )
        )
    return _gathered(listing, policy, parts, split, given_splits=given_splits)


def measure_files(task: decode_cache.Task, advance: worker_pool.Advance) -> _Measured:
    """Returns what is known of the files of a chunk."""
    sha256 = np.zeros((len(task.keys), 32), np.uint8)
    usable: list[int] = []
    headers: list[decode.Header] = []
    rejects: list[tuple[int, str, str]] = []
    notes: list[str] = []
    measured, pixels = [measure.measure(_stacked([]))], []
    step, said = measure.batch_size(task.policy.size, _STEP), 0
    for position, (data, found) in enumerate(decode_cache.read_each(task)):
        if data is not None:
            sha256[position] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
        if isinstance(found, decode.ImageError):
            rejects.append((position, found.reason, str(found)))
        else:
            usable.append(position)
            headers.append(_header(data or b"", task.policy, decode_cache.box(task, position)))
            notes += found.notes
            pixels.append(found.pixels)
        if position % step == step - 1:
            measured, pixels = [*measured, measure.measure(_stacked(pixels))], []
            advance(step, len(rejects) - said)
            said = len(rejects)
    measured.append(measure.measure(_stacked(pixels)))
    advance(len(task.keys) % step, len(rejects) - said)
    return _Measured(
        sha256=sha256,
        usable=np.array(usable, np.int64),
        looks=np.concatenate([m[0] for m in measured]),
        prints=np.concatenate([m[1] for m in measured]),
        headers=tuple(headers),
        rejects=tuple(rejects),
        notes=tuple(notes),
    )


def _header(data: bytes, policy: decode.ImagePolicy, box: decode.Box | None) -> decode.Header:
    """Returns what a file that can be read says of itself."""
    try:
        return decode.header(data, policy, box)
    except decode.ImageError:
        if box is None:
            raise
    # It says only after its pixels that it lies on its side, and the box is one of it upright.
    left, top, right, bottom = box
    lying = decode.header(data, policy, (top, left, bottom, right))
    return dataclasses.replace(lying, width=lying.height, height=lying.width)


def _stacked(pixels: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(pixels) if pixels else np.empty((0, 1, 1, 3), np.uint8)


def _gathered(
    listing: Listing,
    policy: decode.ImagePolicy,
    parts: Sequence[_Measured],
    split: np.ndarray,
    *,
    given_splits: bool,
) -> measure.Gathered:
    step = decode_cache.size(len(listing))
    rows = np.concatenate([number * step + part.usable for number, part in enumerate(parts)])
    rejects = [
        (number * step + position, reason, detail)
        for number, part in enumerate(parts)
        for position, reason, detail in part.rejects
    ]
    if not len(rows):
        position, _, detail = min(rejects)
        raise measure.GatheringError(
            f"none of {len(listing)} images can be used; the first,"
            f" {text(listing.keys[position])!r}: {detail}"
        )
    # The boxes of a file come in the order of the CSV.
    keys, order = measure.by_key(listing.keys.take(rows))
    rows = rows[order]
    sha256 = np.concatenate([part.sha256 for part in parts])[rows]
    # An image that belongs to no group is one of its own.
    group = np.where(listing.group < 0, -1 - np.arange(len(listing)), listing.group)[rows]
    return measure.Gathered(
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
        looks=np.concatenate([part.looks for part in parts])[order],
        prints=np.concatenate([part.prints for part in parts])[order],
        headers=_headers([header for part in parts for header in part.headers], order),
        class_names=listing.class_names,
        split_names=listing.split_names if given_splits else (),
        given_splits=given_splits,
        only_split="",
        domains=listing.domains,
        image_size=policy.size,
        rejects=_rejects(listing, rejects),
        notes=dict(sorted(Counter(note for part in parts for note in part.notes).items())),
        warnings=listing.warnings,
        pixels=lambda at: _pixels(listing, policy, int(rows[at])),
    )


def _headers(found: Sequence[decode.Header], order: np.ndarray) -> measure.Headers:
    kinds = sorted({(header.format, header.mode) for header in found})
    numbers = {kind: number for number, kind in enumerate(kinds)}
    kind = np.array([numbers[header.format, header.mode] for header in found])
    size = np.array([(header.width, header.height) for header in found], np.int64)
    return measure.Headers(size[order], kind[order], tuple(kinds))


def _rejects(
    listing: Listing, unusable: Sequence[tuple[int, str, str]]
) -> tuple[shard_writer.Reject, ...]:
    """Returns every file that is not measured, in the order of keys, as a build names them."""
    every = [
        shard_writer.Reject(
            text(listing.keys[at]), listing.class_names[listing.label[at]], why, detail
        )
        for at, why, detail in unusable
    ]
    every += [shard_writer.Reject(e.key, e.label, e.reason, e.detail) for e in listing.excluded]
    return tuple(sorted(every, key=lambda reject: (raw(reject.key), reject.reason)))


def _pixels(listing: Listing, policy: decode.ImagePolicy, row: int) -> np.ndarray:
    span = None if listing.span is None else trees.Span(*listing.span[row].tolist())
    box = None if listing.box is None else listing.box[row].tolist()
    try:
        data = trees.read(listing.tree.path, listing.file_keys[row], span)
        return decode.preprocess(data, policy, box)
    except decode.ImageError as error:
        key = text(listing.keys[row])
        raise measure.GatheringError(f"{key!r} was changed meanwhile: {error}") from None
