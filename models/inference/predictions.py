"""Predictions for files: a table for the screen, a CSV or a JSON file.

The CSV has one line for each file: `source` (the folder or archive), `key` (the path inside, as in
`predictions-<split>.csv` for the same source), `predicted` (the most probable class), `error`, and
the probability of each class. For a file that cannot be read, `error` is the reason, and the
predictions are empty.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.inference.inputs import InputFile
from models.reporting.predictions import PROBABILITY, csv_line, digits
from records.common import atomic, cli

_COLUMNS = ("source", "key", "predicted", "error")


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """The prediction for one file."""

    file: InputFile
    probabilities: np.ndarray | None  # float32 [classes]; None if the file cannot be read
    error: str = ""  # the reason, as `reason: detail`

    def best(self, class_names: Sequence[str]) -> str:
        """Returns the most probable class, the first of equal ones; empty without probabilities."""
        return "" if self.probabilities is None else class_names[int(self.probabilities.argmax())]


def screen(lines: Sequence[Line], class_names: Sequence[str], *, shown: int = 20) -> list[str]:
    """Returns the first predictions as a table, and the number of files by predicted class."""
    read = [line for line in lines if line.probabilities is not None]
    rows: list[Sequence[object]] = [("file", "class", "probability", "runner-up")]
    rows += [_row(line, class_names) for line in read[:shown]]
    if not read:
        return []
    more = [f"and {len(read) - shown:,} more"] if len(read) > shown else []
    counts = Counter(line.best(class_names) for line in read)
    by_class = ", ".join(f"{name} {counts[name]:,}" for name in class_names if counts[name])
    return [cli.table(rows), *more, cli.printable(f"files by class: {by_class}")]


def write(
    lines: Sequence[Line], class_names: Sequence[str], path: str, facts: Mapping[str, Any]
) -> None:
    """Writes all lines atomically to a .csv file, or together with `facts` to a .json file.

    Raises:
        OSError: if it cannot be written.
    """
    is_json = path.lower().endswith(".json")
    chunks = _as_json(lines, class_names, facts) if is_json else _as_csv(lines, class_names)
    atomic.write_stream(path, chunks)


def _row(line: Line, class_names: Sequence[str]) -> list[str]:
    values = np.asarray(line.probabilities)
    order = np.argsort(-values, kind="stable")[:2].tolist()
    first, *second = order
    runner_up = f"{class_names[second[0]]} {values[second[0]]:.4f}" if second else "-"
    return [line.file.name, class_names[first], f"{values[first]:.4f}", runner_up]


def _as_json(
    lines: Sequence[Line], class_names: Sequence[str], facts: Mapping[str, Any]
) -> Iterator[bytes]:
    """Yields a JSON object in chunks, with one file on each line."""
    head = atomic.json_bytes({**facts, "class_names": list(class_names)}, indent=1)
    yield head.removesuffix(b"\n}\n") + b',\n "files": ['
    for number, line in enumerate(lines):
        entry = atomic.json_bytes(_json_entry(line, class_names))
        yield (b",\n  " if number else b"\n  ") + entry.rstrip(b"\n")
    yield b"\n ]\n}\n"


def _json_entry(line: Line, class_names: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"source": line.file.source, "key": line.file.key}
    if line.probabilities is None:
        return {**entry, "error": line.error}
    numbers = [float(digits(value)) for value in line.probabilities.tolist()]
    return {**entry, "predicted": line.best(class_names), "probabilities": numbers}


def _as_csv(lines: Sequence[Line], class_names: Sequence[str]) -> Iterator[bytes]:
    yield csv_line((*_COLUMNS, *(PROBABILITY + name for name in class_names)))
    for line in lines:
        numbers = [""] * len(class_names)
        if line.probabilities is not None:
            numbers = [digits(value) for value in line.probabilities.tolist()]
        facts = (line.file.source, line.file.key, line.best(class_names), line.error)
        yield csv_line((*facts, *numbers))
