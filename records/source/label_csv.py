"""The label CSV and other CSV files of a source, read strictly; errors name file and line.

The encoding is UTF-8 unless a byte order mark or the user states another; it is never guessed.
"""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from records.common import errors

Box = tuple[float, float, float, float]


class SourceError(errors.DatapipeError, ValueError):
    """A source or CSV whose images or labels are missing, ambiguous or not allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one image.

    Attributes:
        values: of `label` or of each attribute, by name.
        group: images of one group stay in one split; None: it has no group.
        domain: where it comes from, empty if there is only one.
        split: its given split, empty if not given.
        box: left, top, right, bottom of the part to crop, in pixels of the upright image.
    """

    values: Mapping[str, str]
    group: str | None = None
    domain: str = ""
    split: str = ""
    box: Box | None = None


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of the columns of a label CSV.

    `group`, `domain` and `split` may be missing from the header, unless `required` names them.
    `label` is required if it is not empty and no attributes are named. With `by_name` only the
    file name at the end of a path counts, in the CSV and in the source, where it must be unique.
    """

    path: str = "path"
    label: str = "label"
    group: str = "group"
    domain: str = "domain"
    split: str = "split"
    box: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    by_name: bool = False


class Table:
    """The rows of a label CSV: a row names a file, or a folder whose files all get its values.

    The files of a folder that a row names are one group, unless the row gives another.
    """

    def __init__(self, path: str, columns: Columns, *, encoding: str = ""):
        self.path = path
        self._by_name = columns.by_name
        self._files: dict[str, str] = {}  # the file that has a name
        self._lines: dict[str, int] = {}
        self._facts: dict[str, tuple[Facts, ...]] = {}
        self._matched: set[str] = set()
        for line, row in rows(path, encoding, _required(columns)):
            key, facts = self._read_row(f"{path}, line {line}", row, columns)
            key = _name(key) if self._by_name else key
            before = self._facts.get(key, ())
            if before and (facts.box is None or facts.box in {one.box for one in before}):
                raise SourceError(
                    f"{path}, line {line}: {key!r} is named twice (several images of one file need"
                    " --box_columns)"
                )
            self._lines.setdefault(key, line)
            self._facts[key] = (*before, facts)

    def _read_row(self, where: str, row: Mapping[str, str], columns: Columns) -> tuple[str, Facts]:
        named = {columns.label: "label"} if columns.label in row else {}
        named |= {name: name for name in columns.attributes}
        for column in (columns.path, *named):
            value = row[column]
            if not value:
                raise SourceError(f"{where}: the column {column!r} is empty")
            if value != value.strip() and column != columns.path:
                raise SourceError(f"{where}: {column} {value!r} has spaces around it")
        facts = Facts(
            values={name: row[column] for column, name in named.items()},
            group=row.get(columns.group) or None,
            domain=row.get(columns.domain) or "",
            split=row.get(columns.split) or "",
            box=_box(where, [row[name] for name in columns.box]) if columns.box else None,
        )
        return row[columns.path].rstrip("/"), facts

    def find(self, key: str) -> Sequence[Facts]:
        """Returns the facts of the row that names the file, or the nearest folder above it."""
        if self._by_name:
            return self._find_name(key)
        name = key
        while name:
            for spelled in (name, name.replace("/", "\\")):  # a CSV made on Windows
                if spelled in self._facts:
                    self._matched.add(spelled)
                    facts = self._facts[spelled]
                    if name != key:
                        facts = tuple(dataclasses.replace(f, group=f.group or name) for f in facts)
                    return facts
            name = name.rpartition("/")[0]
        return ()

    def peek(self, key: str) -> Sequence[Facts]:
        """Returns the facts of an excluded file without taking its name from another file."""
        if not self._by_name:
            return self.find(key)
        self._matched.add(_name(key))
        return self._facts.get(_name(key), ())

    def _find_name(self, key: str) -> Sequence[Facts]:
        name = _name(key)
        facts = self._facts.get(name, ())
        if facts and self._files.setdefault(name, key) != key:
            raise SourceError(
                f"{self.path}, line {self._lines[name]}: {name!r} may be {self._files[name]!r} or"
                f" {key!r}"
            )
        self._matched.update([name] if facts else [])
        return facts

    def unmatched(self) -> Iterator[tuple[int, str]]:
        """Yields (line, path) of the rows that name no file."""
        for key, line in self._lines.items():
            if key not in self._matched:
                yield line, key


def key_table(path: str, column: str, *, needed: bool = True) -> dict[str, tuple[int, str]]:
    """Returns (line, value of `column`) by key, from a CSV with the columns `path` and `column`."""
    result: dict[str, tuple[int, str]] = {}
    for line, row in rows(path, "", ("path", column) if needed else ("path",)):
        key, value = row["path"], row.get(column, "")
        if not key or (needed and not value):
            empty = column if key else "path"
            raise SourceError(f"{path}, line {line}: the column {empty!r} is empty")
        if key in result:
            raise SourceError(f"{path}, line {line}: {key!r} is named twice")
        result[key] = (line, value)
    return result


def rows(path: str, encoding: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, values by column) for the rows of a CSV below its header.

    Args:
        encoding: empty for UTF-8, or UTF-16 by its byte order mark.
        needed: required columns.
    """
    encoding = encoding or _encoding_by_mark(path)
    try:
        with open(path, encoding=encoding, newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(path, header, needed)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise SourceError(
                        f"{path}, line {reader.line_num}: {len(row)} values under"
                        f" {len(header)} columns"
                    )
                if any("\0" in value for value in row):
                    raise SourceError(f"{path}, line {reader.line_num}: contains a NUL byte")
                yield reader.line_num, dict(zip(header, row, strict=True))
    except (UnicodeError, LookupError) as error:
        raise SourceError(
            f"{path} is not {encoding} text ({error}); save it as UTF-8 or, for --labels or --tags,"
            " name the encoding with --csv_encoding"
        ) from None
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num}: {error}") from None
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _required(columns: Columns) -> tuple[str, ...]:
    label = (columns.label,) if columns.label and not columns.attributes else ()
    return (columns.path, *label, *columns.attributes, *columns.box, *columns.required)


def _check_header(path: str, header: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in header:
            raise SourceError(
                f"{path}: no column {name!r}; its header, split at commas, has"
                f" {', '.join(map(repr, header)) or 'nothing'}; name others with --path_column,"
                " --label_column and so on"
            )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise SourceError(f"{path}: the header has the column {twice[0]!r} twice")


def _encoding_by_mark(path: str) -> str:
    try:
        with open(path, "rb") as file:
            mark = file.read(2)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None
    return "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _box(where: str, values: list[str]) -> Box:
    try:
        left, top, right, bottom = map(float, values)
    except ValueError:
        raise SourceError(f"{where}: a box must be four numbers, got {values}") from None
    if not (left < right and top < bottom):  # also false for nan
        raise SourceError(f"{where}: a box must have left < right, top < bottom, got {values}")
    return left, top, right, bottom
