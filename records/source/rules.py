"""What an image is labelled: a rule, then a map, bands, a product of attributes.

A rule gives for the key of a file the facts known about it, one for each image that the file holds:
usually one, several where a CSV gives boxes, none where the rule is silent. Values then go through
the map and the bands, and either the value named `label` is the class or, where attributes are
named, the combination of their values is.
"""

import csv
import dataclasses
import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from records.common import errors

JOINER = "|"  # between the values of a combined class name, so that names can be taken apart
_MOST_CLASSES = 100_000  # a product of attributes has as many as it has combinations
REST = "*"  # in a map: every value that is not named; as its target: keeps its name

Box = tuple[float, float, float, float]


class SourceError(errors.DatapipeError, ValueError):
    """The source or the CSV does not say what the image or its label is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one image.

    Attributes:
        values: of `label` or of each attribute, by name.
        group: name of the set that must stay in one split; None ties it to nothing.
        domain: where it comes from, empty if there is only one.
        split: which split it belongs to, empty if not given.
        box: left, top, right, bottom of the part to cut out, in pixels of the upright picture.
    """

    values: Mapping[str, str]
    group: str | None = None
    domain: str = ""
    split: str = ""
    box: Box | None = None


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where labels come from.

    Attributes:
        find: gives the facts of a key.
        settings: what the rule is, for the manifest.
        csv: the table it asks, if it does.
    """

    find: Callable[[str], Sequence[Facts]]
    settings: Mapping[str, str]
    csv: "CsvTable | None" = None


@dataclasses.dataclass(frozen=True)
class CsvColumns:
    """Names of the columns of a label CSV.

    `group`, `domain` and `split` may be absent from the header, unless `required` names them.
    `label` must be there if it is not empty and no attributes are named. With `by_name` only the
    last part of a path counts, in the CSV and in the source, where it must then be unique.
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


def by_folder(*, given_splits: bool = False) -> Rule:
    """Returns the rule that the first folder level names the class.

    Args:
        given_splits: the first level names the split and the second the class.
    """
    depth = 2 if given_splits else 1

    def find(key: str) -> Sequence[Facts]:
        parts = key.split("/", depth)
        if len(parts) <= depth:
            return ()
        split = parts[0] if given_splits else ""
        return (Facts({"label": parts[depth - 1]}, split=split),)

    return Rule(find, {"rule": "split folder, folder" if given_splits else "folder"})


def by_suffix(*, given_splits: bool = False) -> Rule:
    """Returns the rule that the label is what follows the last `_` of the name, less its extension.

    `face_0012_01.jpg` is labelled `01`.

    Args:
        given_splits: the first folder level names the split.
    """

    def find(key: str) -> Sequence[Facts]:
        stem = key.rpartition("/")[2].rpartition(".")[0] or key.rpartition("/")[2]
        _, underscore, suffix = stem.rpartition("_")
        split, slash, _ = key.partition("/")
        if not (underscore and suffix) or (given_splits and not slash):
            return ()
        return (Facts({"label": suffix}, split=split if given_splits else ""),)

    return Rule(find, {"rule": "split folder, suffix" if given_splits else "suffix"})


def by_pattern(pattern: str) -> Rule:
    """Returns the rule that a regular expression, searched in the key, takes apart.

    Its named groups are `label` or the attributes, and `group`, `domain`, `split` if it has them;
    a single group without a name is the label.

    Raises:
        SourceError: if it is no regular expression or has no group.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SourceError(f"{pattern!r} is no regular expression: {error}") from None
    if not compiled.groups or (not compiled.groupindex and compiled.groups > 1):
        raise SourceError(
            f"the pattern must name its groups, as in (?P<label>...), got {pattern!r}"
        )

    def find(key: str) -> Sequence[Facts]:
        found = compiled.search(key)
        if not found:
            return ()
        if not compiled.groupindex:
            return (Facts({"label": found[1] or ""}),)
        values = {name: value or "" for name, value in found.groupdict().items()}
        group, domain, split = (values.pop(name, "") for name in ("group", "domain", "split"))
        return (Facts(values, group or None, domain, split),)

    return Rule(find, {"rule": "pattern", "pattern": pattern})


def by_csv(path: str, columns: CsvColumns | None = None, *, encoding: str = "") -> Rule:
    """Returns the rule that a CSV says it; see `CsvTable`."""
    columns = columns or CsvColumns()
    table = CsvTable(path, columns, encoding=encoding)
    said = {"rule": "csv", **{k: str(v) for k, v in dataclasses.asdict(columns).items() if v}}
    return Rule(table.find, said, table)


def with_pattern(rule: Rule, pattern: str) -> Rule:
    """Returns a rule whose facts also have what `by_pattern` finds in the key.

    Where both say a thing, the pattern holds.
    """
    from_key = by_pattern(pattern)

    def find(key: str) -> Sequence[Facts]:
        known, more = rule.find(key), from_key.find(key)
        if known and not more:
            raise SourceError(f"{key!r} does not match the pattern {pattern!r}")
        return tuple(
            Facts(
                {**facts.values, **{name: v for name, v in more[0].values.items() if v}},
                more[0].group or facts.group,
                more[0].domain or facts.domain,
                more[0].split or facts.split,
                facts.box,
            )
            for facts in known
        )

    return Rule(find, {**rule.settings, **from_key.settings, "rule": "csv, pattern"}, rule.csv)


class CsvTable:
    """The rows of a label CSV: a row names a file, or a folder whose files all get its values.

    The files of a folder that a row names are one group, if the row does not say another.
    """

    def __init__(self, path: str, columns: CsvColumns, *, encoding: str = ""):
        """Reads the CSV.

        Args:
            path: of the CSV, with a header line.
            columns: names of its columns.
            encoding: empty for UTF-8, or what its byte order mark says; never guessed.

        Raises:
            SourceError: with the line number, if it cannot be decoded, a column is missing, a value
                is empty or has spaces around it, a box is no box, or a path stands twice.
        """
        self.path = path
        self._by_name = columns.by_name
        self._files: dict[str, str] = {}  # the file that has a name
        self._lines: dict[str, int] = {}
        self._facts: dict[str, tuple[Facts, ...]] = {}
        self._matched: set[str] = set()
        for line, row in csv_rows(path, encoding, _needed(columns)):
            key, facts = self._read_row(f"{path}, line {line}", row, columns)
            key = _name(key) if self._by_name else key
            before = self._facts.get(key, ())
            if before and (facts.box is None or facts.box in {one.box for one in before}):
                raise SourceError(
                    f"{path}, line {line}: {key!r} stands there a second time (several images of"
                    " one file need --box_columns)"
                )
            self._lines.setdefault(key, line)
            self._facts[key] = (*before, facts)

    def _read_row(
        self, where: str, row: Mapping[str, str], columns: CsvColumns
    ) -> tuple[str, Facts]:
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
        """Returns the facts of a file that is left out, so that its name stays free for another."""
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
        """Yields (line, path) of the rows that no file belongs to."""
        for key, line in self._lines.items():
            if key not in self._matched:
                yield line, key


@dataclasses.dataclass(frozen=True)
class Classes:
    """How the values of an image become its class.

    Attributes:
        value_map: by name of the value (`label` or an attribute): what each becomes. A value that
            the map does not name is an error, unless it names `*`, whose target `*` keeps names.
        bands: by attribute: rising edges that part numbers into `<30`, `30-<60`, `>=60`.
        attributes: whose combination is the class; empty: the value `label` is.
        names: the classes there may be, in label order; empty: those that occur, sorted.
    """

    value_map: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    bands: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, edges in self.bands.items():
            if not edges or any(a >= b for a, b in itertools.pairwise(edges)):
                raise ValueError(f"bands of {name!r} must have rising edges, got {list(edges)}")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"class names must be distinct, got {list(self.names)}")
        if self.names and self.attributes:
            raise ValueError("class names come from the attributes where attributes are named")
        known = self.attributes or ("label",)
        if len(set(known)) < len(known):
            raise ValueError(f"attributes must be distinct, got {', '.join(known)}")
        for name in (*self.value_map, *self.bands):
            if name not in known:
                raise ValueError(
                    f"a map or bands of {name!r} have no effect: labels are made of"
                    f" {', '.join(known)} (write attribute:from=to in a map)"
                )

    def allowed(self, name: str) -> tuple[str, ...]:
        """Returns the values that `label` or an attribute may have; empty: any."""
        return _band_names(self.bands[name]) if name in self.bands else self.names

    def values(self, where: str, facts: Facts) -> tuple[str, ...]:
        """Returns the value of `label`, or of each attribute in order.

        Raises:
            SourceError: if one is missing, not in the map, no number for its bands, or not one of
                the classes there may be; `where` says whose it is.
        """
        return tuple(self._value(where, facts, name) for name in self.attributes or ("label",))

    def _value(self, where: str, facts: Facts, name: str) -> str:
        value = facts.values.get(name, "")
        if not value:
            known = ", ".join(facts.values) or "nothing"
            raise SourceError(f"{where}: its rule gives no {name!r} (it gives {known})")
        if name in self.value_map:
            mapping = self.value_map[name]
            if value not in mapping and REST not in mapping:
                raise SourceError(
                    f"{where}: the {name} {value!r} is not in the map of {', '.join(mapping)}"
                    f" ({REST}={REST} lets others be)"
                )
            target = mapping.get(value, mapping.get(REST, ""))
            value = value if target == REST else target
        if name in self.bands:
            value = _band(f"{where}: the {name}", value, self.bands[name])
        if self.attributes and JOINER in value:
            raise SourceError(f"{where}: the {name} {value!r} holds {JOINER!r}, which joins names")
        if self.names and value not in self.names:
            raise SourceError(
                f"{where}: the class {value!r} is none of {', '.join(map(repr, self.names))}"
            )
        return value

    def settings(self) -> dict[str, object]:
        """Returns what is not as by default, for the manifest."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    def ordered(self, seen: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
        """Returns the values of each attribute in the order of labels.

        Args:
            seen: values that occur, by name.
        """
        result = {}
        for name, values in seen.items():
            result[name] = self.allowed(name) or tuple(sorted(values))
        count = math.prod(map(len, result.values()))
        if count > _MOST_CLASSES:
            largest = max(result, key=lambda name: len(result[name]))
            raise SourceError(
                f"{count:,} classes, the limit is {_MOST_CLASSES:,}; {largest} alone has"
                f" {len(result[largest]):,} values (numbers can be parted with --bands)"
            )
        return result


def class_names(values: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns the names of all combinations, the last attribute changing fastest.

    `rows.attributes` is the inverse.
    """
    return tuple(JOINER.join(combination) for combination in itertools.product(*values.values()))


def parse_map(text: str) -> dict[str, dict[str, str]]:
    """Returns a value map from `01=worn,02=worn` or `age:03-Sep=3-9,age:*=*`, or from a CSV file.

    A CSV has the columns `from` and `to`, and `attribute` if it is not about `label`.

    Raises:
        SourceError: if a part is not `from=to`, or a value is named twice.
    """
    rows: list[tuple[str, str, str, str]] = []
    if "=" not in text and not os.path.exists(text):
        raise SourceError(f"a map must be from=to,... or a CSV file, got {text!r}")
    if not os.path.exists(text):
        for part in text.split(","):
            source, equals, target = part.strip().partition("=")
            name, _, value = source.rpartition(":")
            rows.append((repr(part), name or "label", value, target if equals else ""))
    else:
        for line, row in csv_rows(text, "", ("from", "to")):
            name = row.get("attribute") or "label"
            rows.append((f"{text}, line {line}", name, row["from"], row["to"]))
    result: dict[str, dict[str, str]] = {}
    for where, name, value, target in rows:
        if not value or not target:
            raise SourceError(f"a map must have parts from=to, got {where}")
        if value in result.setdefault(name, {}):
            raise SourceError(f"{where}: {value!r} stands in the map a second time")
        result[name][value] = target
    return result


def parse_bands(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Returns bands from texts such as `age=30,60`.

    Raises:
        SourceError: if one is not a name and numbers.
    """
    result = {}
    for text in texts:
        name, _, edges = text.partition("=")
        try:
            result[name] = tuple(float(edge) for edge in edges.split(","))
        except ValueError:
            raise SourceError(f"bands must be name=number,number,..., got {text!r}") from None
    return result


def key_table(path: str, column: str, *, needed: bool = True) -> dict[str, tuple[int, str]]:
    """Returns (line, value of `column`) by key, from a CSV with the columns `path` and that one.

    Raises:
        SourceError: as for a label CSV; a value may be empty only if it is not `needed`.
    """
    result: dict[str, tuple[int, str]] = {}
    for line, row in csv_rows(path, "", ("path", column) if needed else ("path",)):
        key, value = row["path"], row.get(column, "")
        if not key or (needed and not value):
            empty = column if key else "path"
            raise SourceError(f"{path}, line {line}: the column {empty!r} is empty")
        if key in result:
            raise SourceError(f"{path}, line {line}: {key!r} stands there a second time")
        result[key] = (line, value)
    return result


def csv_rows(
    path: str, encoding: str, needed: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, values by column) for the rows of a CSV below its header.

    Args:
        path: of the CSV.
        encoding: empty for UTF-8, or what its byte order mark says.
        needed: columns that must be there.

    Raises:
        SourceError: with the line number, if it is damaged or a column is missing.
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
                    raise SourceError(f"{path}, line {reader.line_num}: holds a NUL byte")
                yield reader.line_num, dict(zip(header, row, strict=True))
    except (UnicodeError, LookupError) as error:
        raise SourceError(
            f"{path} is not {encoding} text ({error}); save it as UTF-8 or, of --labels or --tags,"
            " name the encoding with --csv_encoding"
        ) from None
    except csv.Error as error:
        raise SourceError(f"{path}, line {reader.line_num}: {error}") from None
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _needed(columns: CsvColumns) -> tuple[str, ...]:
    label = (columns.label,) if columns.label and not columns.attributes else ()
    return (columns.path, *label, *columns.attributes, *columns.box, *columns.required)


def _check_header(path: str, header: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in header:
            raise SourceError(
                f"{path}: no column {name!r}; its header, parted at commas, has"
                f" {', '.join(map(repr, header)) or 'nothing'}; name others with --path_column,"
                " --label_column and so on"
            )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise SourceError(f"{path}: the column {twice[0]!r} stands in the header twice")


def _encoding_by_mark(path: str) -> str:
    try:
        with open(path, "rb") as file:
            mark = file.read(2)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None
    return "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _box(where: str, values: Sequence[str]) -> Box:
    try:
        left, top, right, bottom = map(float, values)
    except ValueError:
        raise SourceError(f"{where}: a box must be four numbers, got {list(values)}") from None
    if not (left < right and top < bottom):  # also false for nan
        raise SourceError(
            f"{where}: a box must have left < right and top < bottom, got {list(values)}"
        )
    return left, top, right, bottom


def _band(what: str, value: str, edges: Sequence[float]) -> str:
    try:
        number = float(value)
    except ValueError:
        raise SourceError(f"{what} must be a number to fall into a band, got {value!r}") from None
    if number != number:
        raise SourceError(f"{what} must be a number to fall into a band, got {value!r}")
    return _band_names(edges)[sum(number >= edge for edge in edges)]


def _band_names(edges: Sequence[float]) -> tuple[str, ...]:
    said = [f"{edge:g}" for edge in edges]
    between = [f"{low}-<{high}" for low, high in itertools.pairwise(said)]
    return (f"<{said[0]}", *between, f">={said[-1]}")
