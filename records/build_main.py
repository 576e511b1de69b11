"""Packs a tree of images into a record set.

    python -m records.build_main --source=photos --output=photos.records

The first folder level names the class. With a CSV instead, one line to one image:

    python -m records.build_main --source=photos --labels=photos/labels.csv --output=photos.records
"""

import codecs
import os
import time
from collections.abc import Sequence

from absl import flags

from records import build, cli, images, manifest, sources, splits, workers, writer

_SOURCE = flags.DEFINE_string("source", None, "Folder that holds the images.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write: new, empty, or this same set.")
_LABELS = flags.DEFINE_string(
    "labels", "folder", "`folder` (the first folder level names the class) or the path of a CSV."
)
_PATH_COLUMN = flags.DEFINE_string("path_column", "path", "CSV column: file inside --source.")
_LABEL_COLUMN = flags.DEFINE_string("label_column", "label", "CSV column: name of the class.")
_GROUP_COLUMN = flags.DEFINE_string(
    "group_column",
    "group",
    "CSV column, need not be there if not named: a group stays in one split.",
)
_DOMAIN_COLUMN = flags.DEFINE_string(
    "domain_column", "domain", "CSV column, need not be there if not named: where an image is from."
)
_CSV_ENCODING = flags.DEFINE_string(
    "csv_encoding", "utf-8-sig", "Encoding of the CSV, such as cp949; never guessed."
)
_EXCLUDE = flags.DEFINE_multi_string(
    "exclude", [], "Shell pattern of paths inside --source to leave out; may be repeated."
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 64, "Height and width of the images, in pixels.")
_RESIZE = flags.DEFINE_enum(
    "resize", "stretch", images.RESIZE_MODES, "How an image that is not square becomes square."
)
_ENCODING = flags.DEFINE_enum(
    "encoding", "raw", build.ENCODINGS, "How pixels stand in a record: raw is uint8, undecoded."
)
_SPLITS = flags.DEFINE_string(
    "splits", "train=0.7,validation=0.15,test=0.15", "Shares of the splits, name=share,..."
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", 0, "Processes; 0 is one for each core. The result does not depend on it."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the splits and of the order of rows.")


def main(arguments: Sequence[str]) -> int:
    """Lists, builds, and says what became of every file."""
    cli.no_arguments(arguments)
    options = _options()
    output = cli.require("output", _OUTPUT.value)
    source = cli.require_folder("source", _SOURCE.value)
    if _is_inside(output, source):
        raise cli.UsageError(f"--output must not lie inside --source, got {output!r}")
    started = time.monotonic()
    listing = _listing(source)
    built = build.build(
        listing, output, options, num_workers=_NUM_WORKERS.value or os.cpu_count() or 1
    )
    _report(built, output, started)
    return cli.DONE


def _is_inside(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([path, folder]) == folder


def _options() -> build.BuildOptions:
    cli.at_least(0, _NUM_WORKERS)
    try:
        codecs.lookup(_CSV_ENCODING.value)
        return build.BuildOptions(
            policy=images.ImagePolicy(_IMAGE_SIZE.value, _RESIZE.value),
            encoding=_ENCODING.value,
            ratios=splits.parse_ratios(_SPLITS.value),
            seed=_SEED.value,
        )
    except (ValueError, LookupError) as error:
        raise cli.UsageError(str(error)) from None


def _listing(source: str) -> sources.Listing:
    of_csv = (_PATH_COLUMN, _LABEL_COLUMN, _GROUP_COLUMN, _DOMAIN_COLUMN, _CSV_ENCODING)
    if _LABELS.value == "folder":
        for holder in of_csv:
            if holder.present:
                raise cli.UsageError(f"--{holder.name} needs a CSV, and --labels names none")
        return sources.from_folders(source, exclude=_EXCLUDE.value)
    if not os.path.isfile(_LABELS.value):
        raise cli.UsageError(f"--labels must be `folder` or a CSV file, got {_LABELS.value!r}")
    columns = sources.CsvColumns(
        path=_PATH_COLUMN.value,
        label=_LABEL_COLUMN.value,
        group=_GROUP_COLUMN.value,
        domain=_DOMAIN_COLUMN.value,
        required=tuple(h.value for h in (_GROUP_COLUMN, _DOMAIN_COLUMN) if h.present),
    )
    return sources.from_csv(
        source,
        _LABELS.value,
        columns=columns,
        encoding=_CSV_ENCODING.value,
        exclude=_EXCLUDE.value,
    )


def _report(built: build.Built, output: str, started: float) -> None:
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
    for keys in built.label_conflicts[:5]:
        print(f"  equal bytes, different labels: {' = '.join(map(repr, keys))}")
    if len(built.label_conflicts) > 5:
        print(f"  and {len(built.label_conflicts) - 5:,} more such groups")
    sizes = ", ".join(f"{name} {split.count:,}" for name, split in result.splits.items())
    print(f"splits: {sizes}")
    for name, split in result.splits.items():
        bare = [c for c, n in zip(result.class_names, split.class_counts, strict=True) if not n]
        if bare:
            named = cli.printable(", ".join(bare[:5])) + ", ..." * (len(bare) > 5)
            print(
                f"  WARNING: {name} has no image of {named} (too few images, or groups too large)"
            )
    seconds = time.monotonic() - started
    written = totals[1]
    verb = f"written in {seconds:.1f} s, {written / seconds:,.0f} images/s"
    megabytes = sum(s.bytes for split in result.splits.values() for s in split.shards) / 1e6
    print(
        f"{written:,} images of {result.image_size}x{result.image_size}, {megabytes:,.1f} MB, "
        f"{verb if built.fresh else 'there already, nothing to do'}: {output}"
    )


if __name__ == "__main__":
    cli.run(
        main,
        sources.SourceError,
        manifest.ManifestError,
        writer.BuildError,
        workers.WorkerDiedError,
        OSError,
    )
