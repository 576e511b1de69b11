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
import PIL

from records import files, images, manifest, record_set, sharding, sources, spool, staging, workers
from records import index as index_lib
from records import plan as plan_lib
from records.columns import Strings
from records.plan import SplitOptions
from records.writer import BuildError, Reject, ShardTask, WrittenShard, write_rejects, write_shard

_SPARE = 1 << 20  # bytes for index and manifest, when the free space is looked at


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How a record set is made; two builds with equal options and sources are equal to the byte.

    Attributes:
        policy: how pixels are made.
        encoding: how they stand in a record, see `images.ENCODINGS`.
        splits: how images are parted.
    """

    policy: images.ImagePolicy = dataclasses.field(default_factory=images.ImagePolicy)
    encoding: str = "raw"
    splits: SplitOptions = dataclasses.field(default_factory=SplitOptions)

    def __post_init__(self) -> None:
        if self.encoding not in images.ENCODINGS:
            raise ValueError(f"encoding must be one of {images.ENCODINGS}, got {self.encoding!r}")

    def pixel_settings(self) -> dict[str, Any]:
        """Returns what the pixels depend on, as it stands in the manifest."""
        policy = dataclasses.asdict(self.policy)
        return {
            "image_size": policy.pop("size"),
            **policy,
            "filter": images.FILTER.name.lower(),
            "encoding": self.encoding,
            "pillow": PIL.__version__,
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
    staging.check_output(output, replace=replace)
    existing = None if replace else _existing_set(output, options.settings(listing))
    os.makedirs(os.path.dirname(output), exist_ok=True)
    pixels = options.pixel_settings()
    # The crew first: a worker that was forked under the lock would hold it, too.
    with workers.Crew(num_workers) as crew, staging.held(output, pixels, restart=restart) as folder:
        if existing:
            _check_sources(output, existing, _sources_sha256(listing, crew, options, show_progress))
            return Built(existing, fresh=False)
        _check_space(folder, len(listing), options)
        chunks = _read(listing, folder, options, crew, show_progress)
        contents = _contents(listing, chunks)
        plan = plan_lib.make(listing, contents, options.splits)
        tasks = _Tasks(listing, plan, contents, chunks, folder, options)
        written = crew.run(
            write_shard,
            tasks,
            total=sum(map(len, plan.rows.values())),
            title="writing",
            unit="images",
            show_progress=show_progress,
        )
        result = _finish(listing, plan, chunks, tasks, written, options)
        staging.switch(folder, output)
    kept = sum(not chunk.fresh for chunk in chunks) + sum(w.state == "kept" for w in written)
    return Built(
        manifest=result,
        label_conflicts=plan.conflicts,
        resumed=(kept, len(chunks) + len(written)),
        repaired=tuple(w.shard.file for w in written if w.state == "repaired"),
    )


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
    a_pixel = {"raw": 3.0, "png": 1.0, "jpeg": 0.2}[options.encoding]  # bytes; at the least
    wanted = int(2 * num_images * options.policy.size**2 * a_pixel) + _SPARE
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


def _read(
    listing: sources.Listing,
    folder: str,
    options: BuildOptions,
    crew: workers.Crew,
    show_progress: bool,
) -> list[spool.Chunk]:
    return crew.run(
        spool.make,
        _chunk_tasks(listing, folder, options),
        total=len(listing),
        title="reading",
        unit="images",
        show_progress=show_progress,
        retry=spool.after_death,
    )


def _chunk_tasks(
    listing: sources.Listing, folder: str, options: BuildOptions
) -> Iterator[spool.Task]:
    return spool.tasks(
        listing,
        os.path.join(folder, staging.CHUNKS),
        options.policy,
        options.encoding,
        fingerprints=options.splits.near_duplicates > 0,
    )


def _sources_sha256(
    listing: sources.Listing, crew: workers.Crew, options: BuildOptions, show_progress: bool
) -> str:
    """Returns the digest of the sources, reading but not decoding them."""
    digests = crew.run(
        spool.digests,
        _chunk_tasks(listing, "", options),
        total=len(listing),
        title="comparing",
        unit="images",
        show_progress=show_progress,
    )
    return _digest(listing, np.concatenate(digests))


def _digest(listing: sources.Listing, sha256: np.ndarray) -> str:
    """Identifies the input: what each image is called, what it counts as, and its bytes."""
    whole = hashlib.sha256()
    for image, digest in zip(listing.images, sha256, strict=True):
        said = json.dumps([image.key, image.label, image.group, image.domain, image.split])
        whole.update(said.encode() + b"\0" + digest.tobytes() + b"\n")
    for exclusion in listing.excluded:
        whole.update(json.dumps(dataclasses.astuple(exclusion)).encode() + b"\n")
    return whole.hexdigest()


def _contents(listing: sources.Listing, chunks: Sequence[spool.Chunk]) -> plan_lib.Contents:
    """Returns what reading has told.

    Raises:
        BuildError: if no image can be used.
    """
    usable = np.concatenate([np.diff(chunk.ends, prepend=0) > 0 for chunk in chunks])
    if not usable.any():
        position, _, detail = chunks[0].rejects[0]
        raise BuildError(
            f"none of {len(listing)} images can be used; the first,"
            f" {os.fsdecode(listing.keys[position])!r}: {detail}"
        )
    return plan_lib.Contents(
        usable=usable,
        sha256=np.concatenate([chunk.sha256 for chunk in chunks]),
        fingerprints=np.concatenate([chunk.fingerprints for chunk in chunks]),
    )


class _Tasks:
    """The shards of a plan, made one at a time: their rows are named, not held."""

    def __init__(
        self,
        listing: sources.Listing,
        plan: plan_lib.Plan,
        contents: plan_lib.Contents,
        chunks: Sequence[spool.Chunk],
        folder: str,
        options: BuildOptions,
    ):
        self._listing, self._sha256, self._folder = listing, contents.sha256, folder
        sizes = [len(chunk.ends) for chunk in chunks]
        self._paths = tuple(chunk.path for chunk in chunks)
        self._chunk = np.repeat(np.arange(len(chunks)), sizes)
        ends = np.concatenate([chunk.ends for chunk in chunks])
        lengths = np.concatenate([np.diff(chunk.ends, prepend=0) for chunk in chunks])
        self._start, self._length = ends - lengths, lengths
        self.parts: list[tuple[str, str, np.ndarray]] = []  # split, file name, positions
        for split, rows in plan.rows.items():
            self._divide(split, rows, options)

    def _divide(self, split: str, rows: np.ndarray, options: BuildOptions) -> None:
        if not len(rows):
            return
        num_shards = sharding.num_shards(len(rows), int(self._length[rows].mean()))
        start = 0
        for shard_index, end in enumerate(sharding.boundaries(len(rows), num_shards)):
            name = sharding.file_name(split, shard_index, num_shards)
            self.parts.append((split, name, rows[start:end]))
            start = end

    def __iter__(self) -> Iterator[ShardTask]:
        listing = self._listing
        domains = [domain.encode("utf-8", "surrogateescape") for domain in listing.domains]
        for _, name, rows in self.parts:
            groups = listing.group[rows].tolist()
            yield ShardTask(
                path=os.path.join(self._folder, staging.SET, name),
                journal=os.path.join(self._folder, staging.JOURNAL, f"{name}.json"),
                keys=listing.keys.take(rows),
                groups=Strings.of(listing.group_names[g] if g >= 0 else b"" for g in groups),
                domains=Strings.of(domains[d] for d in listing.domain[rows].tolist()),
                labels=listing.label[rows].astype(np.int64),
                chunks=self._paths,
                chunk=self._chunk[rows],
                start=self._start[rows],
                length=self._length[rows],
                sha256=self._sha256[rows],
            )


def _finish(
    listing: sources.Listing,
    plan: plan_lib.Plan,
    chunks: Sequence[spool.Chunk],
    tasks: _Tasks,
    written: Sequence[WrittenShard],
    options: BuildOptions,
) -> manifest.Manifest:
    """Writes what stands beside the shards, the manifest last, and takes away what does not."""
    folder = os.path.dirname(next(iter(tasks)).path)
    sha256 = np.concatenate([chunk.sha256 for chunk in chunks])
    rejects = _rejects(listing, plan, chunks)
    split_entries = {}
    for name, rows in plan.rows.items():
        shards = [
            done for (split, *_), done in zip(tasks.parts, written, strict=True) if split == name
        ]
        index = _index(listing, plan, rows, sha256, shards)
        entries = [done.shard for done in shards]
        split_entries[name] = index_lib.write(
            folder, name, index, entries, len(listing.class_names)
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
        notes=_notes(plan, chunks),
    )
    _remove_others(folder, result)
    files.write_whole(os.path.join(folder, manifest.FILE_NAME), manifest.to_json(result))
    return result


def _remove_others(folder: str, result: manifest.Manifest) -> None:
    """Removes shards that a killed build of another plan, or the set before, has left."""
    parts = [part for split in result.splits.values() for part in (*split.shards, split.index)]
    ours = {part.file for part in (*parts, result.rejects)}
    for name in os.listdir(folder):
        if name not in ours:
            os.remove(os.path.join(folder, name))


def _rejects(
    listing: sources.Listing, plan: plan_lib.Plan, chunks: Sequence[spool.Chunk]
) -> tuple[Reject, ...]:
    """Returns every image and file that is not in the set, in the order of keys."""
    unusable: list[tuple[int, str, str]] = []
    first = 0
    for chunk in chunks:
        unusable += [(first + at, reason, detail) for at, reason, detail in chunk.rejects]
        first += len(chunk.ends)
    images_out = [
        Reject(os.fsdecode(listing.keys[at]), listing.class_names[listing.label[at]], why, detail)
        for at, why, detail in (*unusable, *plan.dropped)
    ]
    files_out = [Reject(e.key, e.label, e.reason, e.detail) for e in listing.excluded]
    every = (*images_out, *files_out)
    return tuple(sorted(every, key=lambda reject: (os.fsencode(reject.key), reject.reason)))


def _notes(plan: plan_lib.Plan, chunks: Sequence[spool.Chunk]) -> dict[str, int]:
    """Counts what was done to images that are in the set."""
    counts: Counter[str] = Counter()
    first = 0
    for chunk in chunks:
        counts.update(note for at, note in chunk.notes if plan.group[first + at] >= 0)
        first += len(chunk.ends)
    return dict(sorted(counts.items()))


def _index(
    listing: sources.Listing,
    plan: plan_lib.Plan,
    rows: np.ndarray,
    sha256: np.ndarray,
    shards: Sequence[WrittenShard],
) -> index_lib.Index:
    def joined(columns: Sequence[np.ndarray], dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype), *columns]).astype(dtype)

    return index_lib.Index(
        shard=np.repeat(np.arange(len(shards)), [len(s.length) for s in shards]).astype(np.int32),
        offset=joined([shard.offset for shard in shards], np.int64),
        length=joined([shard.length for shard in shards], np.int64),
        checksum=joined([shard.checksum for shard in shards], np.uint32),
        label=listing.label[rows],
        domain=listing.domain[rows],
        group=plan.group[rows],
        source_sha256=sha256[rows],
        keys=listing.keys.take(rows),
    )


def _accounting(
    listing: sources.Listing, rejects: Sequence[Reject], written_splits: Collection[manifest.Split]
) -> dict[str, dict[str, int]]:
    """Counts every file by class, each number from its own source, and checks that none was lost.

    Raises:
        BuildError: if found is not written + quarantined + excluded: a fault of this program.
    """
    names = listing.class_names
    excluded = Counter(exclusion.label for exclusion in listing.excluded)
    listed = np.bincount(listing.label, minlength=len(names)).tolist()
    found = Counter(dict(zip(names, listed, strict=True))) + excluded
    quarantined = Counter(reject.label for reject in rejects) - excluded
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
