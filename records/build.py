"""The build, read from top to bottom: list, digest, split, order, write, index, manifest."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL

from records import files, images, manifest, record_set, sharding, sources, splits, writer
from records import index as index_lib

ENCODINGS = ("raw",)
_MARKER = f"{files.TEMPORARY_PREFIX}build"  # stands in the folder while a build is unfinished


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How a record set is made; two builds with equal options and sources are equal to the byte.

    Attributes:
        policy: how pixels are made.
        encoding: how they stand in a record; `raw` is uint8 [size, size, 3].
        ratios: share of the images for each split.
        seed: of the split and of the order of rows.
    """

    policy: images.ImagePolicy = dataclasses.field(default_factory=images.ImagePolicy)
    encoding: str = "raw"
    ratios: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: dict(splits.DEFAULT_RATIOS)
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {ENCODINGS}, got {self.encoding!r}")
        splits.check_ratios(self.ratios)

    def settings(self) -> dict[str, Any]:
        """Returns the options as they stand in the manifest."""
        return {
            "image_size": self.policy.size,
            "resize": self.policy.resize,
            "filter": images.FILTER.name.lower(),
            "encoding": self.encoding,
            "pillow": PIL.__version__,
            "splits": dict(self.ratios),
            "seed": self.seed,
        }


@dataclasses.dataclass(frozen=True)
class Built:
    """What a build did.

    Attributes:
        manifest: of the finished set.
        rejects: every file that is not in it, with its reason.
        label_conflicts: groups of keys with equal bytes and different labels.
        fresh: False if the folder already held exactly this set, so nothing was written.
    """

    manifest: manifest.Manifest
    rejects: tuple[writer.Reject, ...]
    label_conflicts: tuple[tuple[str, ...], ...]
    fresh: bool = True


def build(
    listing: sources.Listing,
    output: str,
    options: BuildOptions,
    *,
    num_workers: int,
    show_progress: bool = True,
) -> Built:
    """Packs the images of a listing into a record set.

    Args:
        listing: what to pack and what was left out.
        output: the folder to write, new or empty, or the same set.
        options: how.
        num_workers: processes; the result does not depend on it.
        show_progress: draw a bar on standard error.

    Raises:
        BuildError: if `output` holds another record set or other files, another build writes into
            it, or no image can be used.
        WorkerDiedError: if a worker process is killed or crashes.
    """
    digests = writer.content_digests(
        listing.images, num_workers=num_workers, show_progress=show_progress
    )
    sources_sha256 = _sources_digest(listing, digests)
    conflicts = _label_conflicts(listing.images, digests)
    existing = _existing_set(output, options, sources_sha256)
    if existing:
        return Built(existing, read_rejects(output), conflicts, fresh=False)

    work = _plan(listing, digests, options)
    jobs = _jobs(output, work.by_split, options)
    with _sole_builder(output):
        written = writer.write_shards(
            [job for _, job in jobs], num_workers=num_workers, show_progress=show_progress
        )
        rejects = _rejects(listing, digests, written)
        if not any(result.rows for result in written):
            raise writer.BuildError(
                f"none of {len(listing.images)} images can be used; the first,"
                f" {rejects[0].key!r}: {rejects[0].detail}"
            )
        rejects_entry = _write_rejects(output, rejects)
        split_entries = _write_indexes(output, work, jobs, written)
        result = manifest.Manifest(
            class_names=work.class_names,
            domains=work.domains,
            image_size=options.policy.size,
            encoding=options.encoding,
            splits=split_entries,
            accounting=_accounting(listing, rejects, work.class_names, split_entries.values()),
            rejects=rejects_entry,
            reasons=dict(sorted(Counter(reject.reason for reject in rejects).items())),
            settings=options.settings(),
            sources_sha256=sources_sha256,
        )
        path = os.path.join(output, manifest.FILE_NAME)
        files.write_whole(path, manifest.to_json(result))
    return Built(result, rejects, conflicts)


def read_rejects(folder: str) -> tuple[writer.Reject, ...]:
    """Returns the files that a record set does not hold, with their reasons."""
    with open(os.path.join(folder, manifest.REJECTS_NAME), encoding="utf-8") as file:
        return tuple(writer.Reject(**json.loads(line)) for line in file)


def _sources_digest(listing: sources.Listing, digests: Sequence[bytes | None]) -> str:
    """Identifies the input: what each image is called, what it counts as, and its bytes."""
    whole = hashlib.sha256()
    for image, digest in zip(listing.images, digests, strict=True):
        said = json.dumps([image.key, image.label, image.group, image.domain])
        whole.update(said.encode() + b"\0" + (digest or b"unreadable") + b"\n")
    for exclusion in listing.excluded:
        whole.update(json.dumps(dataclasses.astuple(exclusion)).encode() + b"\n")
    return whole.hexdigest()


def _label_conflicts(
    source_images: Sequence[sources.SourceImage], digests: Sequence[bytes | None]
) -> tuple[tuple[str, ...], ...]:
    same: dict[bytes, list[sources.SourceImage]] = {}
    for image, digest in zip(source_images, digests, strict=True):
        if digest is not None:
            same.setdefault(digest, []).append(image)
    return tuple(
        tuple(image.key for image in group)
        for group in same.values()
        if len({image.label for image in group}) > 1
    )


def _existing_set(
    output: str, options: BuildOptions, sources_sha256: str
) -> manifest.Manifest | None:
    """Returns the set in `output` if it is the one to be built, None if there is none.

    Raises:
        BuildError: if it is another one, with the settings that differ, or it is damaged.
    """
    if not os.path.exists(os.path.join(output, manifest.FILE_NAME)):
        return None
    existing, settings = manifest.load(output), options.settings()
    differing = [
        f"{name} is {existing.settings.get(name)!r}, wanted {settings[name]!r}"
        for name in settings
        if existing.settings.get(name) != settings[name]
    ]
    if existing.sources_sha256 != sources_sha256:
        differing.append("the source images differ")
    if differing:
        raise writer.BuildError(
            f"{output} already holds another record set ({'; '.join(differing)});"
            " choose another --output or remove it"
        )
    try:
        record_set.open_set(output)
    except manifest.ManifestError as error:
        raise writer.BuildError(
            f"{output} holds this record set, but damaged ({error}); remove it and build again"
        ) from None
    return existing


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is decided before anything is written."""

    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    groups: Mapping[str, int]  # by key
    by_split: Mapping[str, Sequence[writer.Entry]]  # in row order


def _plan(
    listing: sources.Listing, digests: Sequence[bytes | None], options: BuildOptions
) -> _Plan:
    class_names = sorted({image.label for image in listing.images})
    numbers = {name: label for label, name in enumerate(class_names)}
    entries = [
        writer.Entry(image, numbers[image.label], digest)
        for image, digest in zip(listing.images, digests, strict=True)
        if digest is not None
    ]
    if not entries:
        raise writer.BuildError(
            f"none of {len(listing.images)} files can be read, such as {listing.images[0].path!r}"
        )
    groups = _group_numbers(entries)
    return _Plan(
        class_names=tuple(class_names),
        domains=tuple(sorted({entry.source.domain for entry in entries})),
        groups=groups,
        by_split=_split_and_order(entries, groups, options),
    )


def _rejects(
    listing: sources.Listing,
    digests: Sequence[bytes | None],
    written: Sequence[writer.WrittenShard],
) -> tuple[writer.Reject, ...]:
    """Returns every file that is not in the set, in the order of keys."""
    unreadable = [
        writer.Reject(image.key, image.label, "unreadable", "the file cannot be read")
        for image, digest in zip(listing.images, digests, strict=True)
        if digest is None
    ]
    excluded = [writer.Reject(e.key, e.label, e.reason, "left out") for e in listing.excluded]
    unusable = [reject for result in written for reject in result.rejects]
    every = (*unreadable, *excluded, *unusable)
    return tuple(sorted(every, key=lambda reject: os.fsencode(reject.key)))


def _group_numbers(entries: Sequence[writer.Entry]) -> dict[str, int]:
    """Returns a group number for each key: given groups joined with exact duplicates."""
    numbers = splits.merge_groups(
        [entry.source.group for entry in entries], [entry.sha256 for entry in entries]
    )
    return {entry.source.key: int(number) for entry, number in zip(entries, numbers, strict=True)}


def _split_and_order(
    entries: Sequence[writer.Entry], groups: Mapping[str, int], options: BuildOptions
) -> dict[str, list[writer.Entry]]:
    """Returns the entries of each split in the order of their rows, a salted hash of the key."""
    keys = [os.fsencode(entry.source.key) for entry in entries]
    assigned = splits.assign(
        np.array([entry.label for entry in entries]),
        np.array([groups[entry.source.key] for entry in entries]),
        keys,
        options.ratios,
        seed=options.seed,
    )
    salt = f"order {options.seed}"
    order = sorted(range(len(entries)), key=lambda i: sharding.key_hash(keys[i], salt))
    return {
        name: [entries[i] for i in order if assigned[i] == number]
        for number, name in enumerate(options.ratios)
    }


@contextlib.contextmanager
def _sole_builder(output: str) -> Iterator[None]:
    """Holds the output folder for one build; a marker file in it says that its files are ours.

    The folder is new, empty, or left by a build that did not end: then its files are removed.

    Raises:
        BuildError: if the folder holds anything else, or another build holds it.
    """
    os.makedirs(output, exist_ok=True)
    path = os.path.join(output, _MARKER)
    names = sorted(os.listdir(output))
    foreign = [name for name in names if _MARKER not in names or not _is_ours(name)]
    if foreign:
        raise writer.BuildError(
            f"{output} holds {foreign[0]!r} and is no unfinished build; choose an empty folder"
        )
    with open(path, "w") as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise writer.BuildError(f"another build is writing into {output}") from None
        # Between the look and the lock another build may have ended, and taken its marker away.
        if not os.path.exists(path) or os.path.exists(os.path.join(output, manifest.FILE_NAME)):
            raise writer.BuildError(f"another build has just ended in {output}; run this again")
        for name in names:
            if name != _MARKER:
                os.remove(os.path.join(output, name))
        yield
        os.remove(path)


def _is_ours(name: str) -> bool:
    return (
        sharding.is_shard_name(name)
        or name.startswith(files.TEMPORARY_PREFIX)
        or name.endswith(".index.npz")
        or name == manifest.REJECTS_NAME
    )


def _jobs(
    output: str, by_split: Mapping[str, Sequence[writer.Entry]], options: BuildOptions
) -> list[tuple[str, writer.ShardJob]]:
    jobs = []
    example_bytes = options.policy.size**2 * 3
    for split, entries in by_split.items():
        if not entries:
            continue
        num_shards = sharding.num_shards(len(entries), example_bytes)
        start = 0
        for shard_index, end in enumerate(sharding.boundaries(len(entries), num_shards)):
            path = os.path.join(output, sharding.file_name(split, shard_index, num_shards))
            jobs.append((split, writer.ShardJob(path, tuple(entries[start:end]), options.policy)))
            start = end
    return jobs


def _write_indexes(
    output: str,
    work: _Plan,
    jobs: Sequence[tuple[str, writer.ShardJob]],
    written: Sequence[writer.WrittenShard],
) -> dict[str, manifest.Split]:
    """Writes the index of each split and returns the splits as they stand in the manifest."""
    result = {}
    for name in work.by_split:
        of_split = [
            (job, done)
            for (split, job), done in zip(jobs, written, strict=True)
            if split == name and done.shard is not None
        ]
        shards = [done.shard for _, done in of_split if done.shard is not None]
        index = _index(of_split, work)
        result[name] = index_lib.write(output, name, index, shards, len(work.class_names))
    return result


def _index(
    written: Sequence[tuple[writer.ShardJob, writer.WrittenShard]], work: _Plan
) -> index_lib.Index:
    rows = [
        (shard_index, offset, length, checksum, job.entries[position])
        for shard_index, (job, done) in enumerate(written)
        for position, offset, length, checksum in done.rows
    ]
    entries = [entry for *_, entry in rows]
    domains = {name: number for number, name in enumerate(work.domains)}
    sha256 = np.frombuffer(b"".join(entry.sha256 for entry in entries), np.uint8)
    return index_lib.Index(
        shard=np.array([row[0] for row in rows], np.int32),
        offset=np.array([row[1] for row in rows], np.int64),
        length=np.array([row[2] for row in rows], np.int64),
        checksum=np.array([row[3] for row in rows], np.uint32),
        label=np.array([entry.label for entry in entries], np.int32),
        domain=np.array([domains[entry.source.domain] for entry in entries], np.int32),
        group=np.array([work.groups[entry.source.key] for entry in entries], np.int64),
        source_sha256=sha256.reshape(-1, 32),
        keys=tuple(os.fsencode(entry.source.key) for entry in entries),
    )


def _write_rejects(output: str, rejects: Sequence[writer.Reject]) -> manifest.Shard:
    data = b"".join(files.json_bytes(dataclasses.asdict(reject)) for reject in rejects)
    sha256 = files.write_whole(os.path.join(output, manifest.REJECTS_NAME), data)
    return manifest.Shard(manifest.REJECTS_NAME, len(rejects), len(data), sha256)


def _accounting(
    listing: sources.Listing,
    rejects: Sequence[writer.Reject],
    class_names: Sequence[str],
    written_splits: Collection[manifest.Split],
) -> dict[str, dict[str, int]]:
    """Counts every file by class, each number from its own source, and checks that none was lost.

    Raises:
        BuildError: if found is not written + quarantined + excluded: a fault of this program.
    """
    out = {exclusion.key for exclusion in listing.excluded}
    excluded = Counter(exclusion.label for exclusion in listing.excluded)
    found = Counter(image.label for image in listing.images) + excluded
    quarantined = Counter(reject.label for reject in rejects if reject.key not in out)
    written = Counter(
        {
            name: sum(split.class_counts[label] for split in written_splits)
            for label, name in enumerate(class_names)
        }
    )
    table = {
        label: {
            "found": found[label],
            "written": written[label],
            "quarantined": quarantined[label],
            "excluded": excluded[label],
        }
        for label in sorted({*class_names, *excluded})
    }
    for label, counts in table.items():
        if counts["found"] * 2 != sum(counts.values()):
            raise writer.BuildError(f"files of class {label!r} do not add up: {counts}")
    return table
