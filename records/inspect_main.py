"""Shows, surveys, verifies, compares and exports record sets.

Show its content, one row as JSON, or a contact sheet with a line of images for each class:

    python -m records.inspect_main show --records=photos.records
    python -m records.inspect_main show --records=photos.records --split=test --row=7
    python -m records.inspect_main show --records=photos.records --contact_sheet=photos.png

Verify that every byte and record is as written, and that the source files have not changed:

    python -m records.inspect_main verify --records=photos.records --sources=photos

Survey a set, or a source before a build: classes, image statistics, sizes, duplicates, outliers:

    python -m records.inspect_main survey --records=photos.records --output=survey
    python -m records.inspect_main survey --source=photos --output=survey

Find photographs among drawings, or drawings among photographs, without labels:

    python -m records.inspect_main cluster --records=photos.records --output=clusters

Find duplicates and near duplicates in two splits or with two labels:

    python -m records.inspect_main audit --records=photos.records --output=findings.csv

Compare two sets:

    python -m records.inspect_main diff --records=photos.records --other=photos2.records

Export a set as a tar (and import it), as PNG images, for TensorFlow Datasets or for NVIDIA DALI:

    python -m records.inspect_main export --records=photos.records --format=tar --output=photos.tar
    python -m records.inspect_main import --archive=photos.tar --records=photos.records
"""

import contextlib
import csv
import dataclasses
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from records.cluster import command as cluster_command
from records.common import atomic, cli
from records.export import export, tar
from records.format import manifest, record_set
from records.image import near_duplicates
from records.inspect import contact_sheet, diff, leaks, verify
from records.source import flags as source_flags
from records.surveying import command as survey_command

_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", None, "Only this split.")
_ROWS = flags.DEFINE_integer("rows", 3, "Rows to list of each split.")
_ROW = flags.DEFINE_integer("row", None, "Print this row of --split as JSON.")
_CONTACT_SHEET = flags.DEFINE_string(
    "contact_sheet", None, "PNG to write: a line of images for each class of --split."
)
_SOURCES = flags.DEFINE_string(
    "sources", None, "Folder or archive the set was built from, to compare every file with."
)
_DISTANCE = flags.DEFINE_float(
    "distance",
    near_duplicates.DISTANCE,
    "Largest distance of near duplicates, in [0, 1); 0 finds equal thumbnails, 0.25 slight crops.",
)
_LINES = flags.DEFINE_integer("lines", 10, "Findings of each kind to list.")
_OTHER = flags.DEFINE_string("other", None, "Folder of the record set to compare with.")
_OUTPUT = flags.DEFINE_string("output", None, "File or folder to write.")
_FORMAT = flags.DEFINE_enum("format", None, list(export.FORMATS), "Format to write.")
_ARCHIVE = flags.DEFINE_string("archive", None, "Tar file that export wrote.")

_MAX_FAULTS = 20  # printed for one file


@dataclasses.dataclass(frozen=True)
class _Command:
    """A command of this binary.

    Attributes:
        run: returns the exit code.
        about: one line for `--help`.
        flags: its flags, each with a help text, or None for the flag's own.
    """

    run: Callable[[], int]
    about: str
    flags: Mapping[str, str | None]


def main(arguments: Sequence[str]) -> int:
    """Runs a command."""
    if len(arguments) != 1 or arguments[0] not in _COMMANDS:
        raise cli.UsageError(f"name one of {', '.join(_COMMANDS)}, got {' '.join(arguments)!r}")
    command = _COMMANDS[arguments[0]]
    for name in _ALL_FLAGS:
        if flags.FLAGS[name].present and name not in command.flags:
            owners = [key for key, owner in _COMMANDS.items() if name in owner.flags]
            raise cli.UsageError(f"--{name} belongs to {' and '.join(owners)}")
    return command.run()


def _describe(arguments: Sequence[str]) -> tuple[str, Mapping[str, Sequence[str]]]:
    """Returns what `--help` shows for the command that is named, or for all."""
    named = [name for name in arguments if name in _COMMANDS]
    if not named:
        listed = [f"  {name:9}{command.about}" for name, command in _COMMANDS.items()]
        advice = "python -m records.inspect_main COMMAND --help lists the flags of a command."
        return "\n".join([(__doc__ or "").strip(), "", "commands", *listed, "", advice]), {}
    command = _COMMANDS[named[0]]
    for name, text in command.flags.items():
        if text:
            flags.FLAGS[name].help = text
    examples = re.findall(rf"    python -m records.inspect_main {named[0]} .*", __doc__ or "")
    return "\n".join([f"{command.about}.", "", *examples]), {"flags": list(command.flags)}


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
            print(record_set.row_line(opened, name, row))
    return cli.DONE


def _show_row(opened: record_set.RecordSet) -> int:
    split = cli.require("split", _SPLIT.value)
    count = len(opened.index(split))
    if not 0 <= _ROW.value < count:
        raise cli.UsageError(f"--row must lie in 0..{count - 1}, got {_ROW.value}")
    facts = record_set.row_facts(opened, split, _ROW.value)
    print(atomic.json_bytes(facts, indent=1).decode(), end="")
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
    splits = [info.split(name) for name in names]
    counts: list[Sequence[object]] = [
        ("class", *names),
        *zip(info.class_names, *(split.class_counts for split in splits), strict=True),
        ("total", *(split.count for split in splits)),
        ("shards", *(len(split.shards) for split in splits)),
    ]
    settings = ", ".join(f"{name} {value}" for name, value in info.settings.items())
    print(cli.printable(f"{folder}: {settings}"))
    print(f"digest {info.digest}")
    for name, values in info.attributes.items():
        print(cli.printable(f"attribute {name}: {', '.join(values)}"))
    print(cli.table(counts))
    for reason, count in info.reasons.items():
        print(f"  {survey_command.word_for(reason)}: {count:,} x {reason}")
    for note, count in info.notes.items():
        print(f"  note: {count:,} x {note}")


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
        for fault in of_file[:_MAX_FAULTS]:
            print(f"FAULT {fault}")
        if len(of_file) > _MAX_FAULTS:
            print(f"FAULT {file}: and {len(of_file) - _MAX_FAULTS:,} more")
    info = manifest.load(folder)
    shards = [shard for split in info.splits.values() for shard in split.shards]
    megabytes = sum(shard.bytes for shard in shards) / 1e6
    total = f"{len(shards)} shards, {sum(s.records for s in shards):,} records, {megabytes:,.1f} MB"
    if faults:
        print(f"{total}: {len(faults):,} fault{'s' * (len(faults) > 1)}")
        return cli.FAILED
    print(f"{total}: every byte is as written")
    if _SOURCES.value:
        print(f"{_SOURCES.value}: every file is unchanged")
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
    """Yields a function that adds a finding to the CSV, which is written atomically."""
    if not path:
        yield lambda finding: None
        return
    with (
        atomic.output(path) as temporary,
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
        records=_RECORDS.value, split=_SPLIT.value, distance=_distance(), output=_OUTPUT.value
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
    print("\n".join(lines) or "the two sets are byte-identical")
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
        yield "the images are equal, but their order, groups or build version differ"


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
    with atomic.output(folder) as temporary:
        info = tar.read(path, temporary)
    count = sum(split.count for split in info.splits.values())
    print(f"{count:,} images, every byte as written: {folder}")
    return cli.DONE


_SET = {"records": None}
_COMMANDS = {
    "show": _Command(
        _show,
        "Print the content of a record set or one row, or write a contact sheet of its classes",
        {**_SET, "split": None, "rows": None, "row": None, "contact_sheet": None},
    ),
    "survey": _Command(
        _survey,
        "Measure a record set, or a source before a build: classes, sizes, duplicates, outliers",
        {
            **_SET,
            **dict.fromkeys(source_flags.NAMES),
            "source": "Folder, zip or tar of images to survey, instead of --records.",
            "split": "Only this split of the record set.",
            "distance": None,
            "output": "Folder for survey.html and survey.json.",
        },
    ),
    "verify": _Command(
        _verify, "Check that every byte is as it was written", {**_SET, "sources": None}
    ),
    "cluster": _Command(
        _cluster,
        "Find photographs among drawings, or drawings among photographs, without labels",
        {
            **_SET,
            "split": None,
            "output": "New folder for clusters.html and its tables.",
            **{holder.name: None for holder in cluster_command.FLAGS},
        },
    ),
    "audit": _Command(
        _audit,
        "Find duplicates and near duplicates across splits and labels",
        {**_SET, "distance": None, "lines": None, "output": "CSV file for all findings."},
    ),
    "diff": _Command(_diff, "Compare two record sets", {**_SET, "other": None, "lines": None}),
    "export": _Command(
        _export,
        "Write a record set in another format",
        {**_SET, "format": None, "output": "New file or folder to write."},
    ),
    "import": _Command(
        _import,
        "Read a record set from the tar that export wrote",
        {"archive": None, "records": "New folder for the record set."},
    ),
}
_ALL_FLAGS = list(dict.fromkeys(name for each in _COMMANDS.values() for name in each.flags))

if __name__ == "__main__":
    cli.run(main, describe=_describe)
