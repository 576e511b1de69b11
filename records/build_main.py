"""Packs a tree of images into a record set.

    python -m records.build_main --source=photos --output=photos.records

The first folder level names the class. `--source` may also be a zip or a tar. Labels from the end
of the file name (`x_01.jpg`), with names for them: add

    --labels=suffix --label_map=01=worn,02=worn,03=unworn

From a CSV, one line to one image, or to a folder of images: add

    --labels=photos/labels.csv

Add --dry_run to see what would be written.
"""

import ctypes
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from absl import flags

from records.builder import build, dry_run, layout, shard_writer
from records.common import cli, worker_pool
from records.format import manifest
from records.image import decode
from records.source import flags as source_flags
from records.source import listing as sources
from records.source import trees

flags.adopt_module_key_flags(source_flags)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write: new, empty, or this same set.")
_ENCODING = flags.DEFINE_enum(
    "encoding",
    "raw",
    decode.ENCODINGS,
    "How pixels stand in a record: raw is uint8 and the fastest to read, png smaller, jpeg smaller"
    " still and lossy; --dry_run says what each costs.",
)
_NEAR_DUPLICATES = flags.DEFINE_float(
    "near_duplicates",
    0.0,
    "Images that look the same to within this distance stay in one split, as those with equal bytes"
    " always do; 0.15 suits photographs, 0 leaves it.",
)
_ON_LEAK = flags.DEFINE_enum(
    "on_leak",
    "refuse",
    layout.ON_FAULT,
    "When a group or equal images stand in two given splits: refuse, drop them from the one that"
    " is trained on, or keep them.",
)
_ON_CONFLICT = flags.DEFINE_enum(
    "on_conflict", "keep", layout.ON_FAULT, "When equal images have different labels."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the splits and of the order of rows.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Count and estimate; write nothing.")
_REPLACE = flags.DEFINE_bool(
    "replace", False, "Put the new set in the place of another one, in one step, when it is whole."
)
_RESTART = flags.DEFINE_bool(
    "restart", False, "Begin anew instead of going on with a build that was stopped."
)


def main(arguments: Sequence[str]) -> int:
    """Lists, builds, and says what became of every file."""
    cli.no_arguments(arguments)
    options = _options()
    output = "" if _DRY_RUN.value else cli.require("output", _OUTPUT.value)
    source_flags.source()
    if output:
        source_flags.check_outside(output)
    _give_memory_back()
    started = time.monotonic()
    listing = source_flags.listing()
    if _DRY_RUN.value:
        _print_dry_run(listing, dry_run.dry_run(listing, options), options, started)
        return cli.DONE
    built = build.build(
        listing,
        output,
        options,
        num_workers=source_flags.num_workers(),
        replace=_REPLACE.value,
        restart=_RESTART.value,
    )
    _report(built, listing, output, started)
    return cli.DONE


def _give_memory_back() -> None:
    """Lets glibc return freed columns to the system at once.

    Once a large array is freed, it otherwise keeps what later ones take: a quarter of the peak for
    145,800 images.
    """
    threshold = 128 << 10  # 128 KiB
    for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        ctypes.CDLL(None).mallopt(parameter, threshold)


def _options() -> build.BuildOptions:
    source_flags.check()
    given, ratios = source_flags.parted()
    return cli.checked(
        lambda: build.BuildOptions(
            policy=source_flags.policy(),
            encoding=_ENCODING.value,
            splits=layout.SplitOptions(
                ratios=ratios,
                given=given,
                near_duplicates=_NEAR_DUPLICATES.value,
                on_leak=_ON_LEAK.value,
                on_conflict=_ON_CONFLICT.value,
                seed=_SEED.value,
            ),
        )
    )


def _print_dry_run(
    listing: sources.Listing,
    would: dry_run.DryRun,
    options: build.BuildOptions,
    started: float,
) -> None:
    print(cli.counts_table(listing.class_names, would.counts))
    found = ", ".join(f"{name or 'none'} {n:,}" for name, n in would.extensions.items())
    print(f"extensions: {cli.printable(found)}")
    for line in _left_out(listing):
        print(line)
    total, size = len(listing), options.policy.size
    failed, sampled = would.unusable
    print(f"of {sampled} images tried, {failed} cannot be decoded")
    rows: list[Sequence[object]] = [
        ("encoding", "bytes an image", "MB in all", "decoded images/s, 1 core")
    ]
    for name, estimate in would.estimates.items():
        megabytes = f"{estimate.image_bytes * total / 1e6:,.1f}"
        rows.append((name, int(estimate.image_bytes), megabytes, int(estimate.decodes)))
    print(cli.table(rows))
    minutes = total / would.reads / source_flags.num_workers() / 60
    shards = ", ".join(f"{name} {n:,}" for name, n in would.num_shards.items())
    print(
        f"{total:,} images of {size}x{size}, {options.encoding}, about {minutes:.1f} min with"
        f" {source_flags.num_workers()} processes; shards: {shards}; nothing was written"
        f" ({time.monotonic() - started:.1f} s)"
    )
    print("counts of shares are as if every image can be used and no two have equal bytes")


def _left_out(listing: sources.Listing) -> Iterator[str]:
    reasons: dict[str, int] = {}
    for exclusion in listing.excluded:
        reasons[exclusion.reason] = reasons.get(exclusion.reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        yield f"  {count:,} x {reason}"
    for warning in listing.warnings:
        yield f"  WARNING: {warning}"


def _report(built: build.Built, listing: sources.Listing, output: str, started: float) -> None:
    result = built.manifest
    columns = ("found", "written", "quarantined", "excluded")
    rows: list[Sequence[object]] = [("class", *columns)]
    for label, counts in result.accounting.items():
        rows.append((label or "(no class)", *(counts[column] for column in columns)))
    totals = [sum(counts[column] for counts in result.accounting.values()) for column in columns]
    print(cli.table([*rows, ("total", *totals)]))
    for reason, count in result.reasons.items():
        print(f"  {count:,} x {reason}")
    if result.reasons:
        print(f"  each by name in {os.path.join(output, manifest.REJECTS_NAME)}")
    for note, count in result.notes.items():
        print(f"  {count:,} x {note}, in the set")
    for label, count in Counter(listing.settings.get("overrides", {}).values()).items():
        print(f"  {cli.printable(label)} is the class of {count:,} by --overrides")
    for line in _warnings(built, listing):
        print(f"  WARNING: {line}")
    sizes = ", ".join(f"{name} {split.count:,}" for name, split in result.splits.items())
    print(f"splits: {sizes}")
    done, parts = built.resumed
    if done:
        print(f"gone on with a build that was stopped: {done} of {parts} parts were there")
    seconds = time.monotonic() - started
    megabytes = sum(s.bytes for split in result.splits.values() for s in split.shards) / 1e6
    verb = f"written in {seconds:.1f} s, {totals[1] / seconds:,.0f} images/s"
    print(
        f"{totals[1]:,} images of {result.image_size}x{result.image_size}, {megabytes:,.1f} MB, "
        f"{verb if built.fresh else 'there already, nothing to do'}: {output}"
    )


def _warnings(built: build.Built, listing: sources.Listing) -> Iterator[str]:
    yield from listing.warnings
    for name in built.repaired:
        yield f"{name}, finished before, was damaged and written again"
    for keys in built.label_conflicts[:5]:
        yield f"equal bytes, different labels: {' = '.join(map(repr, keys))}"
    if len(built.label_conflicts) > 5:
        yield f"and {len(built.label_conflicts) - 5:,} more such groups"
    names = built.manifest.class_names
    for name, split in built.manifest.splits.items():
        bare = [c for c, n in zip(names, split.class_counts, strict=True) if not n]
        if bare:
            named = cli.printable(", ".join(bare[:5])) + ", ..." * (len(bare) > 5)
            yield f"{name} has no image of {named}"


if __name__ == "__main__":
    cli.run(
        main,
        sources.SourceError,
        trees.TreeError,
        manifest.ManifestError,
        shard_writer.BuildError,
        worker_pool.WorkerDiedError,
        OSError,
        again="goes on",
    )
