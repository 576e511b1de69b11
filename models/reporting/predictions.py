"""Tables of predictions as CSV files, joins of tables, and suspected label errors.

A file has one line for each image: its key, domain and group (a number), the names of its label and
of the most probable class, and the probability of each class. It is UTF-8; invalid bytes of a key
(surrogate escapes in the table) are written unchanged.
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
from records.common import atomic, errors

_COLUMNS = ("key", "domain", "group", "label", "predicted")
PROBABILITY = "p:"  # prefix of the column of a class
_EVIDENCE = ("probability_of_label", "probability_of_predicted")


class PredictionsError(errors.DatapipeError, ValueError):
    """A predictions file is missing or damaged."""


def path(folder: str, split: str) -> str:
    """Returns the path of the predictions of a split in the folder of a run."""
    return os.path.join(folder, f"predictions-{split}.csv")


def load(folder: str, split: str) -> Table:
    """Returns the predictions of a split in the folder of a run.

    Raises:
        PredictionsError: if the file is missing or damaged.
    """
    name = path(folder, split)
    try:
        return read(name)[0]
    except OSError as error:
        raise PredictionsError(f"no predictions of {split!r} in {name}: {error.strerror}") from None


def write(table: Table, class_names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Writes a table atomically, with float32 probabilities; `read` returns the same bits.

    Raises:
        ValueError: if the columns differ in length, or the class names do not fit the classes.
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
    header = (*_COLUMNS, *(PROBABILITY + name for name in class_names))
    _write_csv(path, header, ((*fields, *map(digits, values)) for *fields, values in lines))


def read(path: str | os.PathLike[str]) -> tuple[Table, tuple[str, ...]]:
    """Returns the table that `write` wrote, and the class names.

    Raises:
        PredictionsError: if the file is damaged; it names the line.
        OSError: if it cannot be read.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(_complete_lines(file), strict=True)
        try:
            class_names = _class_names(next(lines, []))
            numbers = {name: number for number, name in enumerate(class_names)}
            rows = [_row(line, numbers) for line in lines]
        except (ValueError, csv.Error) as error:
            where = f"{os.fsdecode(path)}, line {max(1, lines.line_num)}"
            raise PredictionsError(f"{where}: {error}") from None
    keys, domains, groups, labels, probabilities = zip(*rows, strict=True) if rows else ((),) * 5
    values = np.array(probabilities, np.float32).reshape(len(rows), len(class_names))
    numbers_of = np.array(groups, np.int64), np.array(labels, np.int32)
    return Table(keys, domains, *numbers_of, values), class_names


def joined(a: Table, b: Table) -> tuple[Table, Table]:
    """Returns the rows of both tables whose keys are in both, in the order of `a`.

    Raises:
        ValueError: if no key is in both, a key is repeated in one table, or labels or the numbers
            of classes differ.
    """
    _check_same_classes((a, b))
    rows_a, rows_b = _rows_by_key(a.keys), _rows_by_key(b.keys)
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise ValueError(
            f"tables to be joined must have a key in common, got {len(a.keys)} and {len(b.keys)}"
            " different keys"
        )
    left, right = (
        _select(table, [rows[key] for key in shared]) for table, rows in ((a, rows_a), (b, rows_b))
    )
    differ = np.flatnonzero(left.labels != right.labels)
    if len(differ):
        row = differ[0]
        raise ValueError(
            f"an image must have the same label in both tables, {left.keys[row]!r} has"
            f" {left.labels[row]} and {right.labels[row]} ({len(differ)} of {len(shared)} images"
            " differ)"
        )
    return left, right


def pooled(tables: Sequence[Table]) -> Table:
    """Returns the rows of all tables, such as those of the folds of a cross-validation.

    Raises:
        ValueError: if there is no table, a key is repeated, or the numbers of classes differ.
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


def label_issues(table: Table, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the suspected label errors: rows where another class is more probable than the label.

    They are ordered by the margin p(predicted) - p(label), the largest first, ties as in the table.
    The idea of judging labels by out-of-sample probabilities is that of confident learning
    (Northcutt et al. 2021, arXiv:1911.00068).

    Args:
        table: out-of-fold predictions, such as from `pooled`: on training images a model repeats
            the labels it has learned.
        class_names: in label order.

    Returns:
        A dict for each row: `key`, `label` and `predicted` (class names), `probability_of_label`
        and `probability_of_predicted`.

    Raises:
        ValueError: as `write`.
    """
    _check(table, class_names)
    predicted, rows = table.predicted, np.arange(len(table.keys))
    of_label = table.probabilities[rows, table.labels]
    of_predicted = table.probabilities[rows, predicted]
    margin = of_predicted - of_label  # above 0 only if the prediction differs from the label
    order = np.argsort(-margin, kind="stable")
    return [
        {
            "key": table.keys[row],
            "label": class_names[table.labels[row]],
            "predicted": class_names[predicted[row]],
            "probability_of_label": float(of_label[row]),
            "probability_of_predicted": float(of_predicted[row]),
        }
        for row in order[margin[order] > 0].tolist()
    ]


def write_label_issues(issues: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Writes label issues as a CSV file, atomically.

    Raises:
        OSError: if the file cannot be written.
    """
    lines = ((each["key"], each["label"], each["predicted"], *_evidence(each)) for each in issues)
    _write_csv(path, ("key", "label", "predicted", *_EVIDENCE), lines)


def write_overrides(issues: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Writes label issues as corrections for `--overrides`: `path,label`, then the evidence.

    Raises:
        OSError: if the file cannot be written.
    """
    lines = ((each["key"], each["predicted"], each["label"], *_evidence(each)) for each in issues)
    _write_csv(path, ("path", "label", "labelled", *_EVIDENCE), lines)


def _evidence(issue: Mapping[str, Any]) -> list[str]:
    return [digits(issue[name]) for name in _EVIDENCE]


def _check(table: Table, class_names: Sequence[str]) -> None:
    if len(set(class_names)) != len(class_names) or not class_names:
        raise ValueError(f"class names must be distinct, at least one, got {list(class_names)}")
    count, num_classes = len(table.keys), len(class_names)
    shape = table.probabilities.shape
    lengths = [len(column) for column in (table.domains, table.groups, table.labels)]
    if shape != (count, num_classes) or lengths != [count] * 3:
        raise ValueError(
            f"a table of {count} keys and {num_classes} class names must have {count} domains,"
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
    counts = [table.probabilities.shape[1] for table in tables]
    if len(set(counts)) > 1:
        raise ValueError(f"tables must have the same number of classes, got {counts}")


def _rows_by_key(keys: Sequence[str]) -> dict[str, int]:
    """Returns the row of each key; raises a ValueError if one is repeated."""
    rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        if rows.setdefault(key, row) != row:
            raise ValueError(f"keys must be distinct, {key!r} is in rows {rows[key]} and {row}")
    return rows


def _select(table: Table, rows: Sequence[int]) -> Table:
    return dataclasses.replace(
        table,
        keys=tuple(table.keys[row] for row in rows),
        domains=tuple(table.domains[row] for row in rows),
        groups=table.groups[rows],
        labels=table.labels[rows],
        probabilities=table.probabilities[rows],
    )


def digits(value: float) -> str:
    """Returns a float32 with 9 significant digits, which identify it."""
    return f"{value:.9g}"


def _write_csv(
    path: str | os.PathLike[str], header: Sequence[str], lines: Iterable[Sequence[str]]
) -> None:
    atomic.write_stream(os.fspath(path), map(csv_line, itertools.chain([header], lines)))


def csv_line(fields: Sequence[str]) -> bytes:
    """Returns a line of a CSV file, with surrogate escapes as their original bytes."""
    out = io.StringIO(newline="")
    # All fields are quoted: a carriage return in a key would otherwise end the line.
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(fields)
    return out.getvalue().encode("utf-8", "surrogateescape")


def _complete_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yields lines; raises ValueError if one has no line end, as in a truncated file."""
    for line in lines:
        yield line
        if not line.endswith(("\n", "\r")):
            raise ValueError("the file is truncated: its last line has no line end")


def _class_names(header: Sequence[str]) -> tuple[str, ...]:
    first, columns = tuple(header[: len(_COLUMNS)]), header[len(_COLUMNS) :]
    names = tuple(column.removeprefix(PROBABILITY) for column in columns)
    if first != _COLUMNS or not names or list(columns) != [PROBABILITY + name for name in names]:
        raise ValueError(
            f"the columns must be {', '.join(_COLUMNS)} and {PROBABILITY}<class> for each class,"
            f" got {', '.join(header) or 'none'}"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"class names must be distinct, got {list(names)}")
    return names


def _row(line: Sequence[str], numbers: Mapping[str, int]) -> tuple[str, str, int, int, np.ndarray]:
    """Returns key, domain, group, label and probabilities of a line."""
    if len(line) != len(_COLUMNS) + len(numbers):
        raise ValueError(f"a line must have {len(_COLUMNS) + len(numbers)} fields, got {len(line)}")
    key, domain, group, label, predicted = line[: len(_COLUMNS)]
    for name in (label, predicted):
        if name not in numbers:
            raise ValueError(f"a class must be one of {', '.join(numbers)}, got {name!r}")
    probabilities = np.array([float(field) for field in line[len(_COLUMNS) :]], np.float32)
    if probabilities.argmax() != numbers[predicted]:
        raise ValueError(f"{predicted!r} is not the most probable class of its line")
    return key, domain, int(group), numbers[label], probabilities
