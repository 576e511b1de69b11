"""Packs a tree of images into a record set.

    python -m records.build_main --source=photos --output=photos.records

The first folder level names the class. `--source` may also be a zip or a tar. Labels from the end
of the file name (`x_01.jpg`), with names for them: add

    --labels=suffix --label_map=01=worn,02=worn,03=unworn

From a CSV, one line to one image, or to a folder of images: add

    --labels=photos/labels.csv

Add --dry_run to see what would be written.
"""

import codecs
import ctypes
import os
import time
from collections.abc import Iterator, Sequence

from absl import flags

from records import (
    build,
    cli,
    dry_run,
    images,
    labels,
    manifest,
    plan,
    sources,
    splits,
    trees,
    workers,
    writer,
)

_SOURCE = flags.DEFINE_string("source", None, "Folder, zip or tar that holds the images.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write: new, empty, or this same set.")
_LABELS = flags.DEFINE_string(
    "labels",
    "folder",
    "`folder` (the first folder level names the class), `suffix` (what follows the last _ of the"
    " file name does), `pattern` (see --label_pattern) or the path of a CSV, from here or from"
    " within --source.",
)
_LABEL_PATTERN = flags.DEFINE_string(
    "label_pattern",
    "",
    "Regular expression searched in the path, as (?P<label>cat|dog)_; its groups are `label` or the"
    " --attributes, and `group`, `domain`, `split`. With a CSV it adds to what a line says.",
)
_LABEL_MAP = flags.DEFINE_string(
    "label_map",
    "",
    "What labels become: from=to,... or a CSV with the columns from,to. `age:03-Sep=3-9` is about"
    " the attribute age; labels that are not named are an error unless *=* is.",
)
_ATTRIBUTES = flags.DEFINE_list(
    "attributes", [], "CSV columns or pattern groups whose combination is the class: mask,gender."
)
_BANDS = flags.DEFINE_multi_string(
    "bands", [], "Part a number into bands: age=30,60 gives <30, 30-<60, >=60; may be repeated."
)
_CLASSES = flags.DEFINE_list(
    "classes", [], "The classes there may be, in label order; any other is an error."
)
_OVERRIDES = flags.DEFINE_string(
    "overrides", "", "CSV with the columns path,label: the class an image has instead."
)
_EXCLUSIONS = flags.DEFINE_string(
    "exclusions", "", "CSV with the column path, and reason if wanted: files to leave out."
)
_EXCLUDE = flags.DEFINE_multi_string(
    "exclude", [], "Shell pattern of paths inside --source to leave out; may be repeated."
)
_PATH_COLUMN = flags.DEFINE_string(
    "path_column", "path", "CSV column: file inside --source, or a folder whose files it is about."
)
_PATH_MATCH = flags.DEFINE_enum(
    "path_match",
    "path",
    ("path", "name"),
    "name: only the last part of the paths counts, in the CSV and in --source.",
)
_LABEL_COLUMN = flags.DEFINE_string("label_column", "label", "CSV column: name of the class.")
_GROUP_COLUMN = flags.DEFINE_string(
    "group_column",
    "group",
    "CSV column, need not be there if not named: a group stays in one split.",
)
_DOMAIN_COLUMN = flags.DEFINE_string(
    "domain_column", "domain", "CSV column, need not be there if not named: where an image is from."
)
_SPLIT_COLUMN = flags.DEFINE_string(
    "split_column", "split", "CSV column, need not be there if not named: for --splits=given."
)
_BOX_COLUMNS = flags.DEFINE_list(
    "box_columns", [], "CSV columns left,top,right,bottom, in pixels: the part to cut out."
)
_BOX_MARGIN = flags.DEFINE_float(
    "box_margin", 0.0, "Share of its width and height by which a box is widened on each side."
)
_ALLOW_MISSING = flags.DEFINE_bool(
    "allow_missing", False, "Lines of the CSV may name files that are not there; they are counted."
)
_CSV_ENCODING = flags.DEFINE_string(
    "csv_encoding",
    "",
    "Encoding of the CSV, such as cp949; never guessed: UTF-8, or UTF-16 with a byte order mark.",
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 64, "Height and width of the images, in pixels.")
_RESIZE = flags.DEFINE_enum(
    "resize", "stretch", images.RESIZE_MODES, "How an image that is not square becomes square."
)
_MAX_IMAGE_MB = flags.DEFINE_integer(
    "max_image_mb", 200, "Images that need more MiB than this to be decoded are quarantined."
)
_ENCODING = flags.DEFINE_enum(
    "encoding",
    "raw",
    images.ENCODINGS,
    "How pixels stand in a record: raw is uint8 and the fastest to read, png smaller, jpeg smaller"
    " still and lossy; --dry_run says what each costs.",
)
_SPLITS = flags.DEFINE_string(
    "splits",
    "train=0.7,validation=0.15,test=0.15",
    "Shares name=share,...; folds=10; given (by the first folder level, the CSV or the pattern);"
    " given,validation=0.1 takes a share out of the given train.",
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
    plan.ON_FAULT,
    "When a group or equal images stand in two given splits: refuse, drop them from the one that"
    " is trained on, or keep them.",
)
_ON_CONFLICT = flags.DEFINE_enum(
    "on_conflict", "keep", plan.ON_FAULT, "When equal images have different labels."
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", 0, "Processes; 0 is one for each core. The result does not depend on it."
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
    source = cli.require("source", _SOURCE.value)
    if not os.path.exists(source):
        raise cli.UsageError(f"--source must be an existing folder, zip or tar, got {source!r}")
    if output and os.path.isdir(source) and _is_inside(output, source):
        raise cli.UsageError(f"--output must not lie inside --source, got {output!r}")
    _give_memory_back()
    started = time.monotonic()
    listing = sources.list_images(trees.open_tree(source), _rule(), _classes(), _selection())
    if _DRY_RUN.value:
        _print_dry_run(listing, dry_run.dry_run(listing, options), options, started)
        return cli.DONE
    built = build.build(
        listing,
        output,
        options,
        num_workers=_num_workers(),
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


def _is_inside(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([path, folder]) == folder


def _num_workers() -> int:
    return _NUM_WORKERS.value or os.cpu_count() or 1


def _options() -> build.BuildOptions:
    cli.at_least(0, _NUM_WORKERS)
    try:
        codecs.lookup(_CSV_ENCODING.value or "utf-8")
        given, ratios = splits.parse(_SPLITS.value)
        return build.BuildOptions(
            policy=images.ImagePolicy(
                size=_IMAGE_SIZE.value,
                resize=_RESIZE.value,
                box_margin=_BOX_MARGIN.value,
                memory_limit=_MAX_IMAGE_MB.value,
            ),
            encoding=_ENCODING.value,
            splits=plan.SplitOptions(
                ratios=ratios,
                given=given,
                near_duplicates=_NEAR_DUPLICATES.value,
                on_leak=_ON_LEAK.value,
                on_conflict=_ON_CONFLICT.value,
                seed=_SEED.value,
            ),
        )
    except (ValueError, LookupError) as error:
        raise cli.UsageError(str(error)) from None


def _rule() -> labels.Rule:
    of_csv = (
        *(_PATH_COLUMN, _PATH_MATCH, _LABEL_COLUMN, _GROUP_COLUMN, _DOMAIN_COLUMN, _SPLIT_COLUMN),
        *(_BOX_COLUMNS, _BOX_MARGIN, _CSV_ENCODING, _ALLOW_MISSING),
    )
    given = splits.parse(_SPLITS.value)[0]
    by_name = {
        "folder": lambda: labels.by_folder(given_splits=given),
        "suffix": lambda: labels.by_suffix(given_splits=given),
        "pattern": lambda: labels.by_pattern(cli.require("label_pattern", _LABEL_PATTERN.value)),
    }
    if _LABELS.value in by_name:
        for holder in of_csv:
            if holder.present:
                raise cli.UsageError(f"--{holder.name} needs a CSV, and --labels names none")
        if _LABEL_PATTERN.present and _LABELS.value != "pattern":
            raise cli.UsageError("--label_pattern needs --labels=pattern or a CSV")
        try:
            return by_name[_LABELS.value]()
        except sources.SourceError as error:
            raise cli.UsageError(str(error)) from None
    places = [_LABELS.value, os.path.join(_SOURCE.value or "", _LABELS.value)]
    path = next(filter(os.path.isfile, places), None)
    if path is None:
        raise cli.UsageError(
            f"--labels must be {', '.join(by_name)} or a CSV file, and there is no file"
            f" {_LABELS.value!r}, here or in --source"
        )
    rule = labels.by_csv(path, _columns(), encoding=_CSV_ENCODING.value)
    pattern = _LABEL_PATTERN.value
    return labels.with_pattern(rule, pattern) if pattern else rule


def _columns() -> labels.CsvColumns:
    if len(_BOX_COLUMNS.value) not in (0, 4):
        raise cli.UsageError(f"--box_columns must name four columns, got {_BOX_COLUMNS.value}")
    if _ATTRIBUTES.value and _LABEL_COLUMN.present:
        raise cli.UsageError("--label_column has no effect where --attributes name the columns")
    in_pattern = [name for name in _ATTRIBUTES.value if f"(?P<{name}>" in _LABEL_PATTERN.value]
    may_miss = (_GROUP_COLUMN, _DOMAIN_COLUMN, _SPLIT_COLUMN)
    return labels.CsvColumns(
        path=_PATH_COLUMN.value,
        label="" if "(?P<label>" in _LABEL_PATTERN.value else _LABEL_COLUMN.value,
        group=_GROUP_COLUMN.value,
        domain=_DOMAIN_COLUMN.value,
        split=_SPLIT_COLUMN.value,
        box=tuple(_BOX_COLUMNS.value),
        attributes=tuple(name for name in _ATTRIBUTES.value if name not in in_pattern),
        required=tuple(holder.value for holder in may_miss if holder.present),
        by_name=_PATH_MATCH.value == "name",
    )


def _classes() -> labels.Classes:
    try:
        return labels.Classes(
            value_map=labels.parse_map(_LABEL_MAP.value) if _LABEL_MAP.value else {},
            bands=labels.parse_bands(_BANDS.value),
            attributes=tuple(_ATTRIBUTES.value),
            names=tuple(_CLASSES.value),
        )
    except ValueError as error:
        raise cli.UsageError(str(error)) from None


def _selection() -> sources.Selection:
    for holder in (_OVERRIDES, _EXCLUSIONS):
        if holder.value and not os.path.isfile(holder.value):
            raise cli.UsageError(f"--{holder.name} must be a CSV file, got {holder.value!r}")
    return sources.Selection(
        exclude=tuple(_EXCLUDE.value),
        exclusions=_EXCLUSIONS.value,
        overrides=_OVERRIDES.value,
        allow_missing=_ALLOW_MISSING.value,
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
    minutes = total / would.reads / _num_workers() / 60
    shards = ", ".join(f"{name} {n:,}" for name, n in would.num_shards.items())
    print(
        f"{total:,} images of {size}x{size}, {options.encoding}, about {minutes:.1f} min with"
        f" {_num_workers()} processes; shards: {shards}; nothing was written"
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
        writer.BuildError,
        workers.WorkerDiedError,
        OSError,
        again="goes on",
    )
