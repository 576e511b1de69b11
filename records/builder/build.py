"""The build, read from top to bottom: read, plan, write, index, manifest, switch."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from records.builder import decode_cache, staging
from records.builder import layout as plan_lib
from records.builder.layout import SplitOptions
from records.builder.shard_writer import (
    BuildError,
    Reject,
    ShardTask,
    WrittenShard,
    write_rejects,
    write_shard,
)
from records.common import atomic, byte_strings, worker_pool
from records.common.byte_strings import Strings, raw, text
from records.format import index as index_lib
from records.format import manifest, record_set, sharding
from records.image import decode, near_duplicates
from records.source import listing as sources

_SPARE = 1 << 20  # bytes for index and manifest, when the free space is looked at


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How a record set is made; two builds with equal options and sources are equal to the byte.

    Attributes:
        policy: how pixels are made.
        encoding: how they stand in a record, see `images.ENCODINGS`.
        splits: how images are parted.
    """

    policy: decode.ImagePolicy = dataclasses.field(default_factory=decode.ImagePolicy)
    encoding: str = "raw"
    splits: SplitOptions = dataclasses.field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        if self.encoding not in decode.ENCODINGS:
            raise ValueError(f"encoding must be one of {decode.ENCODINGS}, got {self.encoding!r}")

    def pixel_settings(self) -> dict[str, Any]:
        """Returns what the pixels depend on, as it stands in the manifest."""
        policy = dataclasses.asdict(self.policy)
        return {
            "image_size": policy.pop("size"),
            **policy,
            "filter": decode.FILTER.name.lower(),
            "encoding": self.encoding,
            **decode.VERSIONS,
        }

    def settings(self, listing: sources.Listing) -> dict[str, Any]:
        """Returns all options as they stand in the manifest."""
        parted = dataclasses.asdict(self.splits)
        given = {"given": listing.split_names} if parted.pop("given") else {}
        return _as_json(
            {
                **self.pixel_settings(),
                "splits": {**given, **parted.pop("ratios")},
                **parted,
                "labels": dict(listing.settings),
                "boxes": listing.box is not None,
            }
        )


@dataclasses.dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        manifest: of the finished set.
        label_conflicts: groups of keys with equal bytes and different labels.
        resumed: finished chunks and shards that a build before had left, of how many.
        repaired: names of finished shards that were damaged and written anew.
        fresh: False if the folder already held exactly this set, so nothing was written.
    """

    manifest: manifest.Manifest
    label_conflicts: tuple[tuple[str, ...], ...] = ()
    resumed: tuple[int, int] = (0, 0)
    repaired: tuple[str, ...] = ()
    fresh: bool = True


def build(
    listing: sources.Listing,
    output: str,
    options: BuildOptions,
    *,
    num_workers: int,
    show_progress: bool = True,
    replace: bool = False,
    restart: bool = False,
) -> Built:
    """Packs the images of a listing into a record set.

    A build that was killed is gone on with by the same call; its work lies in `output.building`.

    Args:
        listing: what to pack and what was left out.
        output: the folder to write: new, empty, or the same set.
        options: how.
        num_workers: processes; the result does not depend on it.
        show_progress: draw a bar on standard error.
        replace: `output` may hold another set, which stays readable until the new one is whole.
        restart: begin anew where a build was killed.

    Raises:
        BuildError: if `output` holds another record set or other files, another build writes into
            it, no image can be used, or the splits cannot be made as wanted.
        WorkerDiedError: if worker processes are killed again and again.
        OSError: if the disk is full or cannot be written.
    """
    output = os.path.realpath(output)
    settings = options.settings(listing)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    how = _How(options, num_workers, show_progress)
    with staging.held(output) as folder:
        staging.check_output(output, replace=replace)
        existing = None if replace else _existing_set(output, settings)
        if existing:
            _check_sources(output, existing, _sources_sha256(listing, how))
            _clear_own(folder, settings)
            return Built(existing, fresh=False)
        plan_lib.given_splits(listing, options.splits)  # its faults before anything is read
        pixels = options.pixel_settings()
        staging.begin(folder, {"pixels": pixels, "all": settings}, restart=restart)
        _check_space(folder, len(listing), options)
        spooled = _read(listing, folder, how)
        with worker_pool.Crew(
            num_workers
        ) as crew:  # now: later a fork would keep what the plan took
            plan = plan_lib.make(listing, spooled.contents, options.splits)
            _release(listing, spooled.contents)
            parts = _parts(plan, spooled)
            written = _write(listing, spooled, parts, folder, crew, show_progress)
        result = _finish(listing, plan, spooled, parts, written, folder, options)
        staging.switch(folder, output, replace=replace)
        staging.clear(folder)
    kept = spooled.num_kept + sum(done.state == "kept" for done in written)
    return Built(
        manifest=result,
        label_conflicts=plan.conflicts,
        resumed=(kept, len(spooled.paths) + len(written)),
        repaired=tuple(done.shard.file for done in written if done.state == "repaired"),
    )


@dataclasses.dataclass(frozen=True)
class _How:
    """What every stage is told."""

    options: BuildOptions
    num_workers: int
    show_progress: bool


@dataclasses.dataclass
class _Spooled:
    """What reading has told, and where the images are.

    Attributes:
        contents: by image.
        ends: integers [n], where each image ends in its chunk.
        chunk_size: images in each chunk but the last.
        paths: of the chunks.
        rejects: (position, reason, detail) of the images that cannot be used.
        notes: (position, note) of what was done to others.
        num_kept: chunks that a build before had made.
    """

    contents: plan_lib.Contents
    ends: np.ndarray
    chunk_size: int
    paths: list[str]
    rejects: list[tuple[int, str, str]] = dataclasses.field(default_factory=list)
    notes: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    num_kept: int = 0

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Returns the bytes of these images, int64."""
        return self.ends[rows].astype(np.int64) - self.starts(rows)

    def starts(self, rows: np.ndarray) -> np.ndarray:
        """Returns where these images begin in their chunks, int64."""
        return np.where(rows % self.chunk_size == 0, 0, self.ends[rows - 1]).astype(np.int64)


def _clear_own(folder: str, settings: Mapping[str, Any]) -> None:
    """Removes what the build of the finished set has left, and no other unfinished build."""
    left = staging.settings_of_left(folder)
    if left and left.get("all") == settings:
        staging.clear(folder)


def _existing_set(output: str, settings: Mapping[str, Any]) -> manifest.Manifest | None:
    """Returns the set in `output` if its settings are these, None if there is none.

    Raises:
        BuildError: if it is another one, with the settings that differ, or it is damaged.
    """
    if not os.path.exists(os.path.join(output, manifest.FILE_NAME)):
        return None
    existing = manifest.load(output)
    differing = staging.difference(existing.settings, settings)
    if differing:
        raise _another_set(output, differing)
    try:
        record_set.open_set(output)
    except manifest.ManifestError as error:
        raise BuildError(
            f"{output} holds this record set, but damaged ({error}); build it again with --replace"
        ) from None
    return existing


def _check_sources(output: str, existing: manifest.Manifest, sources_sha256: str) -> None:
    if existing.sources_sha256 != sources_sha256:
        raise _another_set(output, ["the source images differ"])


def _another_set(output: str, differing: Sequence[str]) -> BuildError:
    return BuildError(
        f"{output} already holds another record set ({'; '.join(differing)});"
        " choose another --output, or put the new one in its place with --replace"
    )


def _check_space(folder: str, num_images: int, options: BuildOptions) -> None:
    """Refuses a build that cannot end for want of space.

    Raises:
        BuildError: if the disk is too full for the images twice, in chunks and in shards.
    """
    if options.encoding != "raw":  # nobody knows before
        return
    wanted = 2 * num_images * options.policy.size**2 * 3 + _SPARE
    there = sum(
        os.path.getsize(os.path.join(at, name))
        for at, _, names in os.walk(folder)
        for name in names
    )
    free = shutil.disk_usage(folder).free
    if free + there < wanted:
        raise BuildError(
            f"{folder}: about {wanted / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free;"
            " make room or choose another --output"
        )


def _read(listing: sources.Listing, folder: str, how: _How) -> _Spooled:
    """Reads and decodes every image.

    Raises:
        BuildError: if none can be used.
    """
    count = len(listing)
    width = near_duplicates.FINGERPRINT_BYTES if how.options.splits.near_duplicates else 0
    contents = plan_lib.Contents(
        usable=np.zeros(count, bool),
        sha256=byte_strings.zeros((count, 32), np.uint8, folder),
        fingerprints=byte_strings.zeros((count, width), np.uint8, folder),
    )
    step = decode_cache.size(count)
    paths = [""] * -(-count // step)
    # An encoded image is hardly ever larger than twice its pixels.
    narrow = 2 * step * how.options.policy.size**2 * 3 < 1 << 32
    ends = np.zeros(count, np.uint32 if narrow else np.int64)
    result = _Spooled(contents, ends, step, paths)
    with worker_pool.Crew(how.num_workers) as crew:
        for number, chunk in crew.run(
            decode_cache.make,
            _chunk_tasks(listing, folder, how.options),
            total=count,
            title="reading",
            unit="images",
            show_progress=how.show_progress,
            retry=decode_cache.after_death,
        ):
            first = number * step
            rows = slice(first, first + len(chunk.ends))
            contents.usable[rows] = np.diff(chunk.ends, prepend=0) > 0
            contents.sha256[rows] = chunk.sha256
            contents.fingerprints[rows] = chunk.fingerprints
            result.ends[rows] = chunk.ends
            result.paths[number] = chunk.path
            result.rejects += [(first + at, why, detail) for at, why, detail in chunk.rejects]
            result.notes += [(first + at, note) for at, note in chunk.notes]
            result.num_kept += not chunk.fresh
            _release(listing, contents)
    if not contents.usable.any():
        position, _, detail = min(result.rejects)
        raise BuildError(
            f"none of {count} images can be used; the first,"
            f" {text(listing.keys[position])!r}: {detail}"
        )
    return result


def _chunk_tasks(
    listing: sources.Listing, folder: str, options: BuildOptions
) -> Iterator[decode_cache.Task]:
    return decode_cache.tasks(
        listing,
        os.path.join(folder, staging.CHUNKS),
        options.policy,
        options.encoding,
        fingerprints=options.splits.near_duplicates > 0,
    )


def _sources_sha256(listing: sources.Listing, how: _How) -> str:
    """Returns the digest of the sources, reading but not decoding them."""
    with worker_pool.Crew(how.num_workers) as crew:
        digests = dict(
            crew.run(
                decode_cache.digests,
                _chunk_tasks(listing, "", how.options),
                total=len(listing),
                title="comparing",
                unit="images",
                show_progress=how.show_progress,
            )
        )
    return _digest(listing, np.concatenate([digests[number] for number in sorted(digests)]))


def _digest(listing: sources.Listing, sha256: np.ndarray) -> str:
    """Identifies the input: what each image is called, what it counts as, and its bytes."""
    names = (listing.class_names, listing.domains, listing.split_names)
    excluded = [dataclasses.astuple(exclusion) for exclusion in listing.excluded]
    whole = hashlib.sha256(json.dumps([names, excluded]).encode())
    for strings in (listing.keys, listing.group_names):
        whole.update(strings.blob)
        whole.update(strings.ends.tobytes())
    # The boxes stand in the keys.
    for column in (listing.label, listing.domain, listing.group, listing.split, sha256):
        whole.update(column.tobytes())
    return whole.hexdigest()


def _release(listing: sources.Listing, contents: plan_lib.Contents) -> None:
    """Lets go of the memory of what lies in files."""
    listing.keys.release()
    listing.file_keys.release()
    byte_strings.release(contents.sha256)
    byte_strings.release(contents.fingerprints)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A shard to be: its split, its file name and the positions of its images, in row order."""

    split: str
    file: str
    rows: np.ndarray


def _parts(plan: plan_lib.Plan, spooled: _Spooled) -> list[_Part]:
    """Returns the shards of a plan."""
    parts = []
    for split, rows in plan.rows.items():
        if not len(rows):
            continue
        num_shards = sharding.num_shards(len(rows), int(spooled.lengths(rows).mean()))
        start = 0
        for shard_index, end in enumerate(sharding.boundaries(len(rows), num_shards)):
            name = sharding.file_name(split, shard_index, num_shards)
            parts.append(_Part(split, name, rows[start:end]))
            start = end
    return parts


def _write(
    listing: sources.Listing,
    spooled: _Spooled,
    parts: Sequence[_Part],
    folder: str,
    crew: worker_pool.Crew,
    show_progress: bool,
) -> list[WrittenShard]:
    """Writes every shard; returns them in the order of the parts."""
    done = dict(
        crew.run(
            write_shard,
            (_shard_task(listing, spooled, part, folder) for part in parts),
            total=sum(len(part.rows) for part in parts),
            title="writing",
            unit="images",
            show_progress=show_progress,
        )
    )
    return [done[number] for number in range(len(parts))]


def _shard_task(listing: sources.Listing, spooled: _Spooled, part: _Part, folder: str) -> ShardTask:
    rows = part.rows
    domains = [domain.encode("utf-8", "surrogateescape") for domain in listing.domains]
    groups = listing.group[rows].tolist()
    task = ShardTask(
        path=os.path.join(folder, staging.SET, part.file),
        journal=os.path.join(folder, staging.JOURNAL, f"{part.file}.json"),
        keys=listing.keys.take(rows),
        groups=Strings.of(listing.group_names[g] if g >= 0 else b"" for g in groups),
        domains=Strings.of(domains[d] for d in listing.domain[rows].tolist()),
        labels=listing.label[rows],
        chunks=tuple(spooled.paths),
        chunk=rows // spooled.chunk_size,
        start=spooled.starts(rows),
        length=spooled.lengths(rows),
    )
    _release(listing, spooled.contents)
    return task


def _finish(
    listing: sources.Listing,
    plan: plan_lib.Plan,
    spooled: _Spooled,
    parts: Sequence[_Part],
    written: Sequence[WrittenShard],
    folder: str,
    options: BuildOptions,
) -> manifest.Manifest:
    """Writes what stands beside the shards, the manifest last, and takes away what does not."""
    folder = os.path.join(folder, staging.SET)
    sha256 = spooled.contents.sha256
    rejects = _rejects(listing, plan, spooled)
    split_entries = {}
    for name, rows in plan.rows.items():
        shards = [done for part, done in zip(parts, written, strict=True) if part.split == name]
        split_entries[name] = index_lib.write(
            folder,
            name,
            _index(listing, plan, rows, sha256, shards),
            [done.shard for done in shards],
            len(listing.class_names),
        )
    result = manifest.Manifest(
        class_names=listing.class_names,
        domains=listing.domains,
        image_size=options.policy.size,
        encoding=options.encoding,
        splits=split_entries,
        accounting=_accounting(listing, rejects, split_entries.values()),
        rejects=write_rejects(folder, rejects),
        reasons=dict(sorted(Counter(reject.reason for reject in rejects).items())),
        settings=options.settings(listing),
        sources_sha256=_digest(listing, sha256),
        attributes=dict(listing.attributes),
        notes=dict(sorted(Counter(n for at, n in spooled.notes if plan.group[at] >= 0).items())),
    )
    _remove_others(folder, result)
    atomic.write_whole(os.path.join(folder, manifest.FILE_NAME), manifest.to_json(result))
    return result


def _remove_others(folder: str, result: manifest.Manifest) -> None:
    """Removes shards that a killed build of another plan, or the set before, has left."""
    parts = [part for split in result.splits.values() for part in (*split.shards, split.index)]
    ours = {part.file for part in (*parts, result.rejects)}
    for name in os.listdir(folder):
        if name not in ours:
            os.remove(os.path.join(folder, name))


def _rejects(
    listing: sources.Listing, plan: plan_lib.Plan, spooled: _Spooled
) -> tuple[Reject, ...]:
    """Returns every image and file that is not in the set, in the order of keys."""
    images_out = [
        Reject(text(listing.keys[at]), listing.class_names[listing.label[at]], why, detail)
        for at, why, detail in (*spooled.rejects, *plan.dropped)
    ]
    files_out = [Reject(e.key, e.label, e.reason, e.detail) for e in listing.excluded]
    every = (*images_out, *files_out)
    return tuple(sorted(every, key=lambda reject: (raw(reject.key), reject.reason)))


def _index(
    listing: sources.Listing,
    plan: plan_lib.Plan,
    rows: np.ndarray,
    sha256: np.ndarray,
    shards: Sequence[WrittenShard],
) -> index_lib.Columns:
    """Returns what makes each column of a split's index, see `index.Index`."""

    def joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)

    def keys() -> Strings:
        return listing.keys.take(rows)

    sizes = [len(shard.length) for shard in shards]
    return {
        "shard": lambda: np.repeat(np.arange(len(shards), dtype=np.int32), sizes),
        "offset": lambda: joined([shard.offset for shard in shards], np.int64),
        "length": lambda: joined([shard.length for shard in shards], np.int64),
        "checksum": lambda: joined([shard.checksum for shard in shards], np.uint32),
        "label": lambda: listing.label[rows],
        "domain": lambda: listing.domain[rows],
        "group": lambda: plan.group[rows].astype(np.int64),
        "source_sha256": lambda: sha256[rows],
        "key_bytes": lambda: np.frombuffer(keys().blob, np.uint8),
        "key_ends": lambda: keys().ends.astype(np.int64),
    }


def _accounting(
    listing: sources.Listing, rejects: Sequence[Reject], written_splits: Collection[manifest.Split]
) -> dict[str, dict[str, int]]:
    """Counts every file by class, each number from its own source, and checks that none was lost.

    Raises:
        BuildError: if found is not written + quarantined + excluded: a fault of this program.
    """
    names = listing.class_names
    # A line of a CSV about no file is a reject, but nothing was found.
    there = [exclusion for exclusion in listing.excluded if exclusion.reason != "missing_file"]
    excluded = Counter(exclusion.label for exclusion in there)
    listed = np.bincount(listing.label, minlength=len(names)).tolist()
    found = Counter(dict(zip(names, listed, strict=True))) + excluded
    rejected = Counter(reject.label for reject in rejects if reject.reason != "missing_file")
    quarantined = rejected - excluded
    written = {
        name: sum(split.class_counts[label] for split in written_splits)
        for label, name in enumerate(names)
    }
    table = {
        label: {
            "found": found[label],
            "written": written.get(label, 0),
            "quarantined": quarantined[label],
            "excluded": excluded[label],
        }
        for label in sorted({*names, *excluded})
    }
    for label, counts in table.items():
        if counts["found"] * 2 != sum(counts.values()):
            raise BuildError(f"files of class {label!r} do not add up: {counts}")
    return table


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Returns settings as they come back from a manifest, so that the two can be compared."""
    return json.loads(json.dumps(value))
