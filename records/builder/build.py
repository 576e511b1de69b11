"""The build, from top to bottom: read, plan, write, index, manifest, switch."""

import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from records.builder import accounting, decode_cache, layout, staging
from records.builder.decode_cache import DecodedImages
from records.builder.shard_writer import BuildError, ShardTask, WrittenShard, write_shard
from records.common import atomic, checks, worker_pool
from records.common.byte_strings import raw, text
from records.format import index as index_lib
from records.format import manifest, record_set, sharding
from records.image import decode
from records.source.listing import Listing

_SPARE = 1 << 20  # bytes for index and manifest, when the free space is checked


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How a record set is made; equal options and sources give equal bytes."""

    policy: decode.ImagePolicy = dataclasses.field(default_factory=decode.ImagePolicy)
    encoding: str = "raw"
    splits: layout.SplitOptions = dataclasses.field(default_factory=layout.SplitOptions)

    def __post_init__(self) -> None:
        checks.one_of("encoding", self.encoding, decode.ENCODINGS)

    def pixel_settings(self) -> dict[str, Any]:
        """Returns the options that the pixels depend on, as the manifest holds them."""
        policy = dataclasses.asdict(self.policy)
        return {
            "image_size": policy.pop("size"),
            **policy,
            "filter": decode.FILTER.name.lower(),
            "encoding": self.encoding,
            **decode.VERSIONS,
        }

    def settings(self, listing: Listing) -> dict[str, Any]:
        """Returns all options as the manifest holds them."""
        split_settings = dataclasses.asdict(self.splits)
        given = {"given": listing.split_names} if split_settings.pop("given") else {}
        result = {
            **self.pixel_settings(),
            "splits": {**given, **split_settings.pop("ratios")},
            **split_settings,
            "labels": dict(listing.settings),
            "boxes": listing.box is not None,
        }
        return json.loads(json.dumps(result))  # comparable with those read from a manifest


@dataclasses.dataclass(frozen=True)
class Built:
    """The result of a build.

    Attributes:
        label_conflicts: groups of keys with equal bytes and different labels.
        resumed: chunks and shards reused from an interrupted build, and their total number.
        repaired: names of shards of an interrupted build that were damaged and written again.
        fresh: False if the folder already held exactly this set, so nothing was written.
    """

    manifest: manifest.Manifest
    label_conflicts: tuple[tuple[str, ...], ...] = ()
    resumed: tuple[int, int] = (0, 0)
    repaired: tuple[str, ...] = ()
    fresh: bool = True


def build(
    listing: Listing,
    output: str,
    options: BuildOptions,
    *,
    num_workers: int,
    show_progress: bool = True,
    replace: bool = False,
    restart: bool = False,
) -> Built:
    """Packs the images of a listing into a record set.

    The same call resumes a build that was killed, from its files in `output.building`.

    Args:
        output: the folder to write: new, empty, or the same set.
        num_workers: processes; the result does not depend on it.
        replace: `output` may hold another set, which stays readable until the new one is complete.
        restart: discard the files of an interrupted build instead of resuming it.

    Raises:
        BuildError: if `output` holds another record set or other files, another build writes into
            it, no image can be used, or the splits cannot be made as asked.
        WorkerDiedError: if too many worker processes are killed.
        OSError: if the disk is full or cannot be written.
    """
    output = os.path.realpath(output)
    settings = options.settings(listing)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with (
        staging.locked(output) as folder,
        worker_pool.WorkerPool(num_workers, show_progress=show_progress) as pool,
    ):
        staging.check_output(output, replace=replace)
        existing = None if replace else _existing_set(output, settings)
        if existing:
            _check_sources(output, existing, listing, options, pool)
            left = staging.settings_of_left(folder)
            if left and left.get("all") == settings:  # of a build of this set, not of another one
                staging.clear(folder)
            return Built(existing, fresh=False)
        layout.given_splits(listing, options.splits)  # raises before anything is read
        pixels = options.pixel_settings()
        staging.begin(folder, {"pixels": pixels, "all": settings}, restart=restart)
        _check_space(folder, len(listing), options)
        # All images are read before any is assigned: equal bytes must share a split.
        images = _read(listing, folder, options, pool)
        plan = layout.make(listing, images, options.splits)
        shards = _planned_shards(plan, images)
        written = _write(listing, images, shards, folder, pool)
        result = _finish(listing, plan, images, shards, written, folder, options)
        # The only moment at which a reader sees a change.
        staging.switch(folder, output, replace=replace)
        staging.clear(folder)
    num_reused = images.num_reused + sum(shard.state == "reused" for shard in written)
    return Built(
        manifest=result,
        label_conflicts=plan.conflicts,
        resumed=(num_reused, len(images.paths) + len(written)),
        repaired=tuple(shard.shard.file for shard in written if shard.state == "repaired"),
    )


def _existing_set(output: str, settings: Mapping[str, Any]) -> manifest.Manifest | None:
    """Returns the set in `output`, if any; raises a BuildError if its settings differ."""
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
            f"{output} holds this record set, but it is damaged ({error}); rebuild it with"
            " --replace"
        ) from None
    return existing


def _check_sources(
    output: str,
    existing: manifest.Manifest,
    listing: Listing,
    options: BuildOptions,
    pool: worker_pool.WorkerPool,
) -> None:
    """Raises a BuildError unless the existing set was made from this source; decodes nothing."""
    digests = pool.run(
        decode_cache.digests,
        decode_cache.tasks(listing, "", options.policy, options.encoding, fingerprints=False),
        total=len(listing),
        title="comparing",
        unit="images",
    )
    sha256 = np.concatenate(worker_pool.in_order(digests))
    if accounting.sources_digest(listing, sha256) != existing.sources_sha256:
        raise _another_set(output, ["the source images differ"])


def _another_set(output: str, differing: Sequence[str]) -> BuildError:
    return BuildError(
        f"{output} already holds another record set ({'; '.join(differing)});"
        " choose another --output, or replace it with --replace"
    )


def _check_space(folder: str, num_images: int, options: BuildOptions) -> None:
    """Raises a BuildError if the disk cannot hold the images twice, in the cache and in shards."""
    if options.encoding != "raw":  # the size of encoded images is not known yet
        return
    needed = 2 * num_images * options.policy.size**2 * 3 + _SPARE
    paths = (os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)
    used = sum(map(os.path.getsize, paths))
    free = shutil.disk_usage(folder).free
    if free + used < needed:
        raise BuildError(
            f"{folder}: about {needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free;"
            " free some space or choose another --output"
        )


def _read(
    listing: Listing, folder: str, options: BuildOptions, pool: worker_pool.WorkerPool
) -> DecodedImages:
    """Reads and decodes every image, or raises a BuildError if none can be used."""
    images = decode_cache.fill(
        listing,
        os.path.join(folder, staging.CHUNKS),
        options.policy,
        options.encoding,
        fingerprints=options.splits.near_duplicates > 0,
        pool=pool,
    )
    if not images.usable.any():
        position, _, detail = images.skipped[0]
        raise BuildError(
            f"none of {len(listing)} images can be used; the first,"
            f" {text(listing.keys[position])!r}: {detail}"
        )
    return images


@dataclasses.dataclass(frozen=True)
class _PlannedShard:
    """A shard to write; `rows` are the positions of its images in the listing."""

    split: str
    file: str
    rows: np.ndarray


def _planned_shards(plan: layout.Plan, images: DecodedImages) -> list[_PlannedShard]:
    result = []
    for split, rows in plan.rows.items():
        if not len(rows):
            continue
        num_shards = sharding.num_shards(len(rows), int(images.length[rows].mean()))
        start = 0
        for shard_index, end in enumerate(sharding.boundaries(len(rows), num_shards)):
            name = sharding.file_name(split, shard_index, num_shards)
            result.append(_PlannedShard(split, name, rows[start:end]))
            start = end
    return result


def _write(
    listing: Listing,
    images: DecodedImages,
    shards: Sequence[_PlannedShard],
    folder: str,
    pool: worker_pool.WorkerPool,
) -> list[WrittenShard]:
    """Writes every shard; returns them in the order planned."""
    written = pool.run(
        write_shard,
        (_shard_task(listing, images, shard, folder) for shard in shards),
        total=sum(len(shard.rows) for shard in shards),
        title="writing",
        unit="images",
    )
    return worker_pool.in_order(written)


def _shard_task(
    listing: Listing, images: DecodedImages, shard: _PlannedShard, folder: str
) -> ShardTask:
    rows = shard.rows
    domains = [raw(domain) for domain in listing.domains]
    groups = [*listing.group_names, b""]  # the last, -1, of images without a group
    return ShardTask(
        path=os.path.join(folder, staging.SET, shard.file),
        journal=os.path.join(folder, staging.JOURNAL, f"{shard.file}.json"),
        keys=[listing.keys[row] for row in rows.tolist()],
        groups=[groups[group] for group in listing.group[rows].tolist()],
        domains=[domains[domain] for domain in listing.domain[rows].tolist()],
        labels=listing.label[rows],
        chunks=images.paths,
        chunk=rows // images.chunk_size,
        start=images.start[rows],
        length=images.length[rows],
    )


def _finish(
    listing: Listing,
    plan: layout.Plan,
    images: DecodedImages,
    shards: Sequence[_PlannedShard],
    written: Sequence[WrittenShard],
    folder: str,
    options: BuildOptions,
) -> manifest.Manifest:
    """Writes rejects, indexes and, last, the manifest; removes files that are not of the set."""
    folder = os.path.join(folder, staging.SET)
    omitted = accounting.omitted_files(listing, (*images.skipped, *plan.excluded))
    splits = {}
    planned = list(zip(shards, written, strict=True))
    for name, rows in plan.rows.items():
        of_split = [done for shard, done in planned if shard.split == name]
        splits[name] = index_lib.write(
            folder,
            name,
            _index(listing, plan, images, rows, of_split),
            [done.shard for done in of_split],
            len(listing.class_names),
        )
    result = manifest.Manifest(
        class_names=listing.class_names,
        domains=listing.domains,
        image_size=options.policy.size,
        encoding=options.encoding,
        splits=splits,
        accounting=accounting.table(listing, omitted, splits.values()),
        rejects=accounting.write_omitted(folder, omitted),
        reasons=accounting.reasons(omitted),
        settings=options.settings(listing),
        sources_sha256=accounting.sources_digest(listing, images.sha256),
        attributes=dict(listing.attributes),
        notes=dict(sorted(Counter(n for at, n in images.notes if plan.group[at] >= 0).items())),
    )
    _remove_others(folder, result)
    # The manifest is last: without it the folder is not a record set.
    atomic.write_whole(os.path.join(folder, manifest.FILE_NAME), manifest.to_json(result))
    return result


def _remove_others(folder: str, result: manifest.Manifest) -> None:
    """Removes files left by an interrupted build that had another plan."""
    files = [file for split in result.splits.values() for file in (*split.shards, split.index)]
    ours = {file.file for file in (*files, result.rejects)}
    for name in os.listdir(folder):
        if name not in ours:
            os.remove(os.path.join(folder, name))


def _index(
    listing: Listing,
    plan: layout.Plan,
    images: DecodedImages,
    rows: np.ndarray,
    shards: Sequence[WrittenShard],
) -> index_lib.Index:
    """Returns the index of a split whose rows are these positions of the listing."""

    def joined(columns: list[np.ndarray], dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype), *columns]).astype(dtype, copy=False)

    sizes = [len(shard.length) for shard in shards]
    return index_lib.Index(
        shard=np.repeat(np.arange(len(shards), dtype=np.int32), sizes),
        offset=joined([shard.offset for shard in shards], np.int64),
        length=joined([shard.length for shard in shards], np.int64),
        checksum=joined([shard.checksum for shard in shards], np.uint32),
        label=listing.label[rows],
        domain=listing.domain[rows],
        group=plan.group[rows].astype(np.int64),
        source_sha256=images.sha256[rows],
        keys=[listing.keys[row] for row in rows.tolist()],
    )
