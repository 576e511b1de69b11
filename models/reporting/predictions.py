"""The table of an evaluation as a CSV file, tables side by side, and the labels they speak against.

A file has a line for each image: its key, domain and group (a number), the names of its label and
of the most probable class, and the probability of each class. It is UTF-8, except that bytes of a
key that are not (surrogate escapes in the table) stand as they are.
"""

import csv
import dataclasses
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.metrics.table import Table
from records.common import atomic

_FACTS = ("key", "domain", "group", "label", "predicted")
_PROBABILITY = "p:"  # begins the name of a class's column
_SUSPICIOUS = ("key", "label", "predicted", "probability_of_label", "probability_of_predicted")


def path(folder: str, split: str) -> str:
    """Returns where the predictions of a split lie in the folder of a run."""
    return os.path.join(folder, f"predictions-{split}.csv")


def load(folder: str, split: str) -> Table:
    """Returns the predictions of a split from the folder of a run.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    name = path(folder, split)
    try:
        return read(name)[0]
    except OSError as error:
        raise ValueError(f"no predictions of {split!r} in {name}: {error.strerror}") from None


def write(table: Table, class_names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Writes a table, whole or not at all; `read` gives it back to the bit.

    Args:
        table: its probabilities are written as float32, with the 9 digits that tell any two apart.
        class_names: in label order, distinct.
        path: of the file.

    Raises:
        ValueError: if the columns do not have one line for each image, or the class names are not
            one for each class.
        OSError: if the file cannot be written.
    """
    _check(table, class_names)
    probabilities = np.asarray(table.probabilities, np.float32)
    lines = zip(
        table.keys,
        table.domains,
        table.groups.tolist(),
        (class_names[label] for label in table.labels.tolist()),
        (class_names[label] for label in probabilities.argmax(1).tolist()),
        (values.tolist() for values in probabilities),
        strict=True,
    )
    header = (*_FACTS, *(_PROBABILITY + name for name in class_names))
    _write_csv(path, header, ((*facts, *map(_digits, values)) for *facts, values in lines))


def read(path: str | os.PathLike[str]) -> tuple[Table, tuple[str, ...]]:
    """Returns the table that `write` wrote, and the class names.

    Raises:
        ValueError: if the file is damaged, with the line.
        OSError: if it cannot be read.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(_ended(file), strict=True)
        try:
            class_names = _class_names(next(lines, []))
            numbers = {name: number for number, name in enumerate(class_names)}
            rows = [_row(line, numbers) for line in lines]
        except (ValueError, csv.Error) as error:
            where = f"{os.fsdecode(path)}, line {max(1, lines.line_num)}"
            raise ValueError(f"{where}: {error}") from None
    keys, domains, groups, labels, probabilities = zip(*rows, strict=True) if rows else ((),) * 5
    values = np.array(probabilities, np.float32).reshape(len(rows), len(class_names))
    numbers_of = np.array(groups, np.int64), np.array(labels, np.int32)
    return Table(keys, domains, *numbers_of, values), class_names


def joined(a: Table, b: Table) -> tuple[Table, Table]:
    """Returns the lines of both tables whose keys both have, in the order of `a`.

    Raises:
        ValueError: if they share no key, a key stands twice in one of them, it has two labels, or
            the tables are of different numbers of classes.
    """
    _check_same_classes((a, b))
    rows_a, rows_b = _rows_by_key(a.keys), _rows_by_key(b.keys)
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise ValueError(
            f"two tables must share a key to be joined, none of {len(a.keys)} stands among the"
            f" other {len(b.keys)}"
        )
    left, right = (
        _taken(t, [rows[key] for key in shared]) for t, rows in ((a, rows_a), (b, rows_b))
    )
    differ = np.flatnonzero(left.labels != right.labels)
    if len(differ):
        row = differ[0]
        raise ValueError(
            f"an image must have one label, {left.keys[row]!r} has {left.labels[row]} in one table"
            f" and {right.labels[row]} in the other ({len(differ)} such of {len(shared)})"
        )
    return left, right


def pooled(tables: Sequence[Table]) -> Table:
    """Returns all lines of all tables as one, such as those of the folds of a cross-validation.

    Raises:
        ValueError: if there is no table, a key stands twice, or the tables are of different numbers
            of classes.
    """
    if not tables:
        raise ValueError("there must be at least 1 table to pool, got 0")
    _check_same_classes(tables)
    result = Table(
        keys=tuple(key for table in tables for key in table.keys),
        domains=tuple(domain for table in tables for domain in table.domains),
        groups=np.concatenate([table.groups for table in tables]),
        labels=np.concatenate([table.labels for table in tables]),
        probabilities=np.concatenate([table.probabilities for table in tables]),
    )
    _rows_by_key(result.keys)
    return result


def suspicious(table: Table, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the lines whose predictions contradict the label, the strongest contradiction first.

    That is where another class is more probable than the label; ordered by the lead of the most
    probable one, p(other) - p(label), up to 1, ties as in the table. That probabilities from
    outside the training can judge the labels themselves is the idea of confident learning
    (Northcutt et al. 2021, arXiv:1911.00068). So the predictions must be out of fold: those on
    images that a model was trained on repeat what it was told.

    Args:
        table: out-of-fold predictions, such as `pooled` gives for the tests of all folds.
        class_names: in label order, distinct.

    Returns:
        `key`, `label` and `predicted` (names of classes), `probability_of_label` and
        `probability_of_predicted` of each.

    Raises:
        ValueError: as `write`.
    """
    _check(table, class_names)
    predicted, lines = table.predicted, np.arange(len(table.keys))
    of_label = table.probabilities[lines, table.labels]
    of_predicted = table.probabilities[lines, predicted]
    lead = of_predicted - of_label  # where it is above 0, the most probable class is another
    rows = np.argsort(-lead, kind="stable")
    return [
        {
            "key": table.keys[row],
            "label": class_names[table.labels[row]],
            "predicted": class_names[predicted[row]],
            "probability_of_label": float(of_label[row]),
            "probability_of_predicted": float(of_predicted[row]),
        }
        for row in rows[lead[rows] > 0].tolist()
    ]


def write_suspicious(found: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Writes what `suspicious` returned as a CSV file, whole or not at all.

    Raises:
        OSError: if the file cannot be written.
    """
    numbers = _SUSPICIOUS[3:]
    lines = [{**line, **{name: _digits(line[name]) for name in numbers}} for line in found]
    _write_csv(path, _SUSPICIOUS, ([line[name] for name in _SUSPICIOUS] for line in lines))


def write_overrides(found: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Writes what `suspicious` returned as corrections, `path,label` and what speaks for them.

    Raises:
        OSError: if the file cannot be written.
    """
    header = ("path", "label", "labelled", *_SUSPICIOUS[3:])
    lines = (
        (line["key"], line["predicted"], line["label"], *(_digits(line[n]) for n in header[3:]))
        for line in found
    )
    _write_csv(path, header, lines)


def _check(table: Table, class_names: Sequence[str]) -> None:
    if len(set(class_names)) != len(class_names) or not class_names:
        raise ValueError(f"class names must be distinct, at least one, got {list(class_names)}")
    count, num_classes = len(table.keys), len(class_names)
    shape = table.probabilities.shape
    lengths = [len(column) for column in (table.domains, table.groups, table.labels)]
    if shape != (count, num_classes) or lengths != [count] * 3:
        raise ValueError(
            f"a table of {count} keys and {num_classes} class names must have as many domains,"
            f" groups and labels, and probabilities [{count}, {num_classes}], got"
            f" {', '.join(map(str, lengths))} and {list(shape)}"
        )
    wrong = np.flatnonzero((table.labels < 0) | (table.labels >= num_classes))
    if len(wrong):
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}, got {table.labels[wrong[0]]} for"
            f" {table.keys[wrong[0]]!r}"
        )


def _check_same_classes(tables: Sequence[Table]) -> None:
    found = [table.probabilities.shape[1] for table in tables]
    if len(set(found)) > 1:
        raise ValueError(f"tables must be of the same classes, got {found} of them")


def _rows_by_key(keys: Sequence[str]) -> dict[str, int]:
    """Returns the line of each key; a ValueError if one stands twice."""
    rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        if rows.setdefault(key, row) != row:
            raise ValueError(f"a key must stand once, {key!r} stands in rows {rows[key]} and {row}")
    return rows


def _taken(table: Table, rows: Sequence[int]) -> Table:
    return dataclasses.replace(
        table,
        keys=tuple(table.keys[row] for row in rows),
        domains=tuple(table.domains[row] for row in rows),
        groups=table.groups[rows],
        labels=table.labels[rows],
        probabilities=table.probabilities[rows],
    )


def _digits(value: float) -> str:
    return f"{value:.9g}"


def _write_csv(
    path: str | os.PathLike[str], header: Sequence[str], lines: Iterable[Sequence[str]]
) -> None:
    atomic.write_stream(os.fspath(path), map(_csv_line, itertools.chain([header], lines)))


def _csv_line(fields: Sequence[str]) -> bytes:
    out = io.StringIO(newline="")
    # All text is quoted: a carriage return in a key would otherwise read as the end of a line.
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(fields)
    return out.getvalue().encode("utf-8", "surrogateescape")


def _ended(lines: Iterable[str]) -> Iterator[str]:
    """Yields lines, of which each must have its end: a file that was cut lacks that of the last."""
    for line in lines:
        yield line
        if not line.endswith(("\n", "\r")):
            raise ValueError("the file is cut: its last line has no end")


def _class_names(header: Sequence[str]) -> tuple[str, ...]:
    facts, columns = tuple(header[: len(_FACTS)]), header[len(_FACTS) :]
    names = tuple(column.removeprefix(_PROBABILITY) for column in columns)
    if facts != _FACTS or not names or list(columns) != [_PROBABILITY + name for name in names]:
        raise ValueError(
            f"the columns must be {', '.join(_FACTS)} and {_PROBABILITY}<class> of each class, got"
            f" {', '.join(header) or 'none'}"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"class names must be distinct, got {list(names)}")
    return names


def _row(line: Sequence[str], numbers: Mapping[str, int]) -> tuple[str, str, int, int, np.ndarray]:
    """Returns key, domain, group, label and probabilities of a line."""
    if len(line) != len(_FACTS) + len(numbers):
        raise ValueError(f"there must be {len(_FACTS) + len(numbers)} fields, got {len(line)}")
    key, domain, group, label, predicted = line[: len(_FACTS)]
    for name in (label, predicted):
        if name not in numbers:
            raise ValueError(f"{name!r} is none of the classes {', '.join(numbers)}")
    probabilities = np.array([float(field) for field in line[len(_FACTS) :]], np.float32)
    if probabilities.argmax() != numbers[predicted]:
        raise ValueError(f"{predicted!r} is said to be predicted, the probabilities say otherwise")
    return key, domain, int(group), numbers[label], probabilities
