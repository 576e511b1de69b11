"""Looks into a record set, checks it, compares it, and writes it in other forms.

What is in it; one row as JSON; a picture with a line of images for each class:

    python -m records.inspect_main show --records=photos.records
    python -m records.inspect_main show --records=photos.records --split=test --row=7
    python -m records.inspect_main show --records=photos.records --contact_sheet=photos.png

Whether each byte and record is as written, and the sources are still those it was made from:

    python -m records.inspect_main verify --records=photos.records --sources=photos

What a set is like, or a source before it is packed: classes, looks, sizes, copies, what is odd:

    python -m records.inspect_main survey --records=photos.records --output=survey
    python -m records.inspect_main survey --source=photos --output=survey

Photographs among drawings, or drawings among photographs, found without labels:

    python -m records.inspect_main cluster --records=photos.records --output=clusters

Images that stand in two splits or under two labels, equal or nearly:

    python -m records.inspect_main audit --records=photos.records --output=findings.csv

In what two sets differ:

    python -m records.inspect_main diff --records=photos.records --other=photos2.records

The set as one file and back, as PNG images, for TensorFlow Datasets, for NVIDIA DALI:

    python -m records.inspect_main export --records=photos.records --format=tar --output=photos.tar
    python -m records.inspect_main import --archive=photos.tar --records=photos.records
"""

import contextlib
import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

from records.builder import shard_writer
from records.cluster import command as cluster_command
from records.common import atomic, cli, errors, outputs, worker_pool
from records.export import export, tar, tfds
from records.format import manifest, record_set, rows
from records.image import near_duplicates
from records.inspect import contact_sheet, diff, leaks, verify
from records.source import flags as source_flags
from records.source import listing, trees
from records.surveying import command as survey_command
from records.surveying import measure

flags.adopt_module_key_flags(source_flags)
flags.adopt_module_key_flags(cluster_command)
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", None, "show, survey, cluster: only this split.")
_ROWS = flags.DEFINE_integer("rows", 3, "show: how many rows of each split to list.")
_ROW = flags.DEFINE_integer("row", None, "show: print this row of --split as JSON.")
_CONTACT_SHEET = flags.DEFINE_string(
    "contact_sheet", None, "show: PNG to write, a line of images for each class of --split."
)
_SOURCES = flags.DEFINE_string(
    "sources", None, "verify: the folder or archive of the images, to be read again."
)
_DISTANCE = flags.DEFINE_float(
    "distance",
    near_duplicates.DISTANCE,
    "audit, survey: how far near duplicates may be apart; 0 is equal thumbnails, 0.25 finds slight"
    " crops.",
)
_LINES = flags.DEFINE_integer("lines", 10, "audit, diff: how many of each kind to list.")
_OTHER = flags.DEFINE_string("other", None, "diff: folder of the record set to compare with.")
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "export: the new file or folder to write; audit: CSV of all findings; survey: folder for"
    " survey.html and survey.json; cluster: new folder for clusters.html and its tables.",
)
_FORMAT = flags.DEFINE_enum("format", None, list(export.FORMATS), "export: the form to write.")
_ARCHIVE = flags.DEFINE_string("archive", None, "import: the tar that export wrote.")

_MOST_FAULTS = 20  # lines for one file


def main(arguments: Sequence[str]) -> int:
    """Runs the one command that was named."""
    if len(arguments) != 1 or arguments[0] not in _COMMANDS:
        raise cli.UsageError(f"name one of {', '.join(_COMMANDS)}, got {' '.join(arguments)!r}")
    command, own_flags = _COMMANDS[arguments[0]]
    for holder in (flag for _, of_one in _COMMANDS.values() for flag in of_one):
        if holder.present and holder.name not in _names(own_flags):
            owners = [
                name for name, (_, of_one) in _COMMANDS.items() if holder.name in _names(of_one)
            ]
            raise cli.UsageError(f"--{holder.name} belongs to {' and '.join(owners)}")
    return command()


def _names(holders: Sequence[flags.FlagHolder]) -> list[str]:
    return [holder.name for holder in holders]


def _opened() -> record_set.RecordSet:
    return record_set.open_set(cli.require_folder("records", _RECORDS.value))


# --- show ---


def _show() -> int:
    cli.at_least(0, _ROWS)
    opened = _opened()
    names = list(opened.manifest.splits)
    if _SPLIT.value:
        names = [cli.one_of("split", _SPLIT.value, names)]
    if _ROW.value is not None:
        return _show_row(opened)
    if _CONTACT_SHEET.value:
        return _write_contact_sheet(opened, names[0], _CONTACT_SHEET.value)
    _print_set(opened.manifest, opened.folder, names)
    for name in names:
        for row in range(min(_ROWS.value, len(opened.index(name)))):
            print(rows.line(opened, name, row))
    return cli.DONE


def _show_row(opened: record_set.RecordSet) -> int:
    split = cli.require("split", _SPLIT.value)
    count = len(opened.index(split))
    if not 0 <= _ROW.value < count:
        raise cli.UsageError(f"--row must lie in 0..{count - 1}, got {_ROW.value}")
    said = atomic.json_bytes(rows.facts(opened, split, _ROW.value), indent=1)
    print(said.decode(), end="")
    return cli.DONE


def _write_contact_sheet(opened: record_set.RecordSet, split: str, path: str) -> int:
    if not path.lower().endswith(".png"):
        raise cli.UsageError(f"--contact_sheet must end in .png, got {path!r}")
    out = io.BytesIO()
    contact_sheet.contact_sheet(opened, split).save(out, "PNG")
    atomic.write_whole(path, out.getvalue())
    counts = opened.manifest.split(split).class_counts
    for line, (name, count) in enumerate(zip(opened.manifest.class_names, counts, strict=True), 1):
        print(f"line {line}: {cli.printable(name)} ({count:,} images in {split})")
    print(path)
    return cli.DONE


def _print_set(info: manifest.Manifest, folder: str, names: Sequence[str]) -> None:
    counts: list[Sequence[object]] = [("class", *names)]
    for label, class_name in enumerate(info.class_names):
        counts.append((class_name, *(info.split(name).class_counts[label] for name in names)))
    counts.append(("total", *(info.split(name).count for name in names)))
    counts.append(("shards", *(len(info.split(name).shards) for name in names)))
    settings = ", ".join(f"{name} {value}" for name, value in info.settings.items())
    print(cli.printable(f"{folder}: {settings}"))
    print(f"digest {info.digest}")
    for name, values in info.attributes.items():
        print(cli.printable(f"attribute {name}: {', '.join(values)}"))
    print(cli.table(counts))
    for reason, count in info.reasons.items():
        print(f"  left out: {count:,} x {reason}")
    for note, count in info.notes.items():
        print(f"  noted: {count:,} x {note}")


# --- verify ---


def _verify() -> int:
    folder = cli.require_folder("records", _RECORDS.value)
    faults = verify.verify(folder)
    if _SOURCES.value:
        faults += verify.verify_sources(folder, _SOURCES.value)
    by_file: dict[str, list[verify.Fault]] = {}
    for fault in faults:
        by_file.setdefault(fault.file, []).append(fault)
    for file, of_file in by_file.items():
        for fault in of_file[:_MOST_FAULTS]:
            print(f"FAULT {fault}")
        if len(of_file) > _MOST_FAULTS:
            print(f"FAULT {file}: and {len(of_file) - _MOST_FAULTS:,} more")
    info = manifest.load(folder)
    shards = [shard for split in info.splits.values() for shard in split.shards]
    megabytes = sum(shard.bytes for shard in shards) / 1e6
    whole = f"{len(shards)} shards, {sum(s.records for s in shards):,} records, {megabytes:,.1f} MB"
    if faults:
        print(f"of {whole}: {len(faults):,} fault{'s' * (len(faults) > 1)}")
        return cli.FAILED
    print(f"{whole}: every byte is as written")
    if _SOURCES.value:
        print(f"{_SOURCES.value}: every file is the one that was packed")
    return cli.DONE


# --- audit ---


def _audit() -> int:
    cli.at_least(0, _LINES)
    distance = _distance()
    opened = _opened()
    counts: Counter[str] = Counter()
    with _findings_table(_OUTPUT.value) as write:
        for finding in leaks.findings(opened, distance):
            counts[finding.kind] += 1
            write(finding)
            if counts[finding.kind] <= _LINES.value:
                sides = " = ".join(map(_place, (finding.left, finding.right)))
                print(f"{finding.kind}: {sides}")
    print(cli.table([("found", "pairs"), *((what, counts[k]) for k, what in leaks.KINDS.items())]))
    return cli.FAILED if any(counts[kind] for kind in leaks.FAULTS) else cli.DONE


def _distance() -> float:
    if not 0 <= _DISTANCE.value < 1:
        raise cli.UsageError(f"--distance must be at least 0 and below 1, got {_DISTANCE.value}")
    return _DISTANCE.value


def _place(place: leaks.Place) -> str:
    return cli.printable(f"{place.split} {place.row} {place.class_name} {place.key!r}")


@contextlib.contextmanager
def _findings_table(path: str | None) -> Iterator[Callable[[leaks.Finding], None]]:
    """Gives a function that adds a finding to the CSV, which is whole or not there."""
    if not path:
        yield lambda finding: None
        return
    with (
        outputs.whole(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(("kind", *(f"{name}_{side}" for side in (1, 2) for name in _PLACE_COLUMNS)))
        yield lambda found: table.writerow((found.kind, *_cells(found.left), *_cells(found.right)))


_PLACE_COLUMNS = ("split", "row", "key", "class")


def _cells(place: leaks.Place) -> tuple[object, ...]:
    return place.split, place.row, place.key, place.class_name


# --- survey ---


def _survey() -> int:
    return survey_command.run(
        records=_RECORDS.value,
        split=_SPLIT.value,
        distance=_distance(),
        output=_OUTPUT.value,
    )


# --- cluster ---


def _cluster() -> int:
    return cluster_command.run(_opened(), _SPLIT.value, cli.require("output", _OUTPUT.value))


# --- diff ---


def _diff() -> int:
    cli.at_least(0, _LINES)
    left = _opened()
    right = record_set.open_set(cli.require_folder("other", _OTHER.value))
    lines = list(_differences(diff.compare(left, right)))
    print("\n".join(lines) or "the two sets are equal to the byte")
    return cli.FAILED if lines else cli.DONE


def _differences(found: diff.Comparison) -> Iterator[str]:
    for what, changes in (("setting", found.settings), ("class number of", found.renumbered)):
        yield from (_change(what, *change) for change in changes)
    for what, names in (("only in --other", found.added), ("only in --records", found.removed)):
        yield from (cli.printable(f"class {what}: {name}") for name in names)
    yield from (_change("images in split", *change) for change in found.counts)
    for kind, keys in found.rows.items():
        if keys:
            yield f"{len(keys):,} images {diff.ROW_KINDS[kind]}"
        for key in keys[: _LINES.value]:
            yield cli.printable(f"  {os.fsdecode(key)!r}")
        if len(keys) > _LINES.value:
            yield f"  and {len(keys) - _LINES.value:,} more"
    if found.only_bytes_differ:
        yield "the same images, but not in the same order or groups, or written by another version"


def _change(what: str, name: str, left: Any, right: Any) -> str:
    return cli.printable(f"{what} {name}: {left} in --records, {right} in --other")


# --- export, import ---


def _export() -> int:
    output, file_format = cli.require("output", _OUTPUT.value), _FORMAT.value
    opened = _opened()
    export.export(opened, output, cli.require("format", file_format))
    count = sum(split.count for split in opened.manifest.splits.values())
    print(f"{count:,} images as {file_format}: {output}")
    return cli.DONE


def _import() -> int:
    path, folder = cli.require("archive", _ARCHIVE.value), cli.require("records", _RECORDS.value)
    if not os.path.isfile(path):
        raise cli.UsageError(f"--archive must be a file, got {path!r}")
    with outputs.whole(folder) as temporary:
        info = tar.read(path, temporary)
    count = sum(split.count for split in info.splits.values())
    print(f"{count:,} images, every byte as written: {folder}")
    return cli.DONE


_COMMANDS: dict[str, tuple[Callable[[], int], tuple[flags.FlagHolder, ...]]] = {
    "show": (_show, (_SPLIT, _ROWS, _ROW, _CONTACT_SHEET)),
    "survey": (_survey, (_SPLIT, _DISTANCE, _OUTPUT, *survey_command.FLAGS)),
    "verify": (_verify, (_SOURCES,)),
    "cluster": (_cluster, (_SPLIT, _OUTPUT, *cluster_command.FLAGS)),
    "audit": (_audit, (_DISTANCE, _LINES, _OUTPUT)),
    "diff": (_diff, (_OTHER, _LINES)),
    "export": (_export, (_FORMAT, _OUTPUT)),
    "import": (_import, (_ARCHIVE,)),
}

if __name__ == "__main__":
    cli.run(
        main,
        manifest.ManifestError,
        errors.DamagedRecordError,
        trees.TreeError,
        tar.ArchiveError,
        outputs.OutputError,
        tfds.UnfitNamesError,
        measure.GatheringError,
        listing.SourceError,
        worker_pool.WorkerDiedError,
        shard_writer.BuildError,
        OSError,
    )
