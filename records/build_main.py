"""Packs a tree of images into a record set.

    python -m records.build_main --source=photos --output=photos.records

The first folder level names the class. `--source` may also be a zip or a tar. Labels from the end
of the file name (`x_01.jpg`), with names for them: add

    --labels=suffix --label_map=01=worn,02=worn,03=unworn

From a CSV, one line to one image, or to a folder of images: add

    --labels=photos/labels.csv

Add --dry_run to see what would be written.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from absl import flags

from records.builder import accounting, build, dry_run
from records.builder import flags as build_flags
from records.common import cli
from records.format import manifest
from records.source import flags as source_flags
from records.source import listing as sources

_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the record set: new, empty, or one with this same set."
)
_SEED = flags.DEFINE_integer("seed", 0, "Random seed of the splits and of the order of rows.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Count and estimate; write nothing.")

_LABELS = ("labels", "label_pattern", "label_map", "attributes", "bands", "classes", "overrides")
_CSV = (
    *("path_column", "path_match", "label_column", "group_column", "domain_column"),
    *("split_column", "box_columns", "box_margin", "csv_encoding", "allow_missing"),
)
GROUPS = {
    "input and output": ["source", "output", "exclude", "exclusions"],
    "labels": _LABELS,
    "CSV of labels": _CSV,
    "splits": ["splits", "near_duplicates", "on_leak", "on_conflict", "seed"],
    "images": ["image_size", "resize", "encoding", "max_image_mb"],
    "running": ["dry_run", "replace", "restart", "num_workers"],
}


def main(arguments: Sequence[str]) -> int:
    """Lists, builds, and says what became of every file."""
    cli.no_arguments(arguments)
    options = build_flags.options(_SEED.value)
    cli.require("source", flags.FLAGS.source)
    output = "" if _DRY_RUN.value else cli.require("output", _OUTPUT.value)
    source_flags.source()
    if output:
        source_flags.check_outside(output)
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
        replace=build_flags.REPLACE.value,
        restart=build_flags.RESTART.value,
    )
    _report(built, listing, output, started)
    return cli.DONE


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
    failed, sampled = would.skipped
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
        yield f"  warning: {warning}"


def _report(built: build.Built, listing: sources.Listing, output: str, started: float) -> None:
    result = built.manifest
    columns = accounting.COLUMNS
    rows: list[Sequence[object]] = [("class", *columns.values())]
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
        print(f"  warning: {line}")
    sizes = ", ".join(f"{name} {split.count:,}" for name, split in result.splits.items())
    print(f"splits: {sizes}")
    done, parts = built.resumed
    if done:
        print(f"resumed an interrupted build: {done} of {parts} parts reused")
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
    cli.run(main, groups=GROUPS, again="resume the build")
