"""What a model says of files: lines for the screen, a CSV or a JSON file.

The CSV has a line for each file: `source` (the folder or archive), `key` (the path inside, by which
it can be joined with `predictions-<split>.csv` of the same source), `predicted` (the most probable
class), `error`, and the probability of each class, with the 9 digits that tell any two of float32
apart. Of a file that could not be read `error` says why, and what is predicted is empty.
"""

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.inference.inputs import GivenFile
from records.common import atomic, cli

_FACTS = ("source", "key", "predicted", "error")
_PROBABILITY = "p:"  # begins the name of a class's column, as in `predictions`


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """What is said of one file.

    Attributes:
        file: the file.
        probabilities: float32 [classes]; None if it could not be read.
        error: why not, as `reason: detail`.
    """

    file: GivenFile
    probabilities: np.ndarray | None
    error: str = ""

    def best(self, class_names: Sequence[str]) -> str:
        """Returns the name of the most probable class, of equals the first; empty without any."""
        return "" if self.probabilities is None else class_names[int(self.probabilities.argmax())]


def screen(lines: Sequence[Line], class_names: Sequence[str], *, shown: int = 20) -> list[str]:
    """Returns the first predictions as a table, and the number of files of each class."""
    read = [line for line in lines if line.probabilities is not None]
    rows: list[Sequence[object]] = [("file", "class", "probability", "runner-up")]
    rows += [_row(line, class_names) for line in read[:shown]]
    said = [cli.table(rows)] if read else []
    if len(read) > shown:
        said.append(f"and {len(read) - shown:,} more")
    counts = Counter(line.best(class_names) for line in read)
    by_class = ", ".join(f"{name} {counts[name]:,}" for name in class_names if counts[name])
    return [*said, cli.printable(f"files by class: {by_class}")] if read else said


def write(
    lines: Sequence[Line], class_names: Sequence[str], path: str, facts: Mapping[str, Any]
) -> None:
    """Writes all lines to a file whose name ends in .csv or .json, whole or not at all.

    Args:
        lines: in order.
        class_names: in the order of the probabilities.
        path: of the file.
        facts: what JSON says beside the lines.

    Raises:
        OSError: if it cannot be written.
    """
    is_json = path.lower().endswith(".json")
    pieces = _as_json(lines, class_names, facts) if is_json else _as_csv(lines, class_names)
    atomic.write_stream(path, pieces)


def _row(line: Line, class_names: Sequence[str]) -> list[str]:
    values = np.asarray(line.probabilities)
    order = np.argsort(-values, kind="stable")[:2].tolist()
    said = [f"{class_names[number]} {values[number]:.4f}" for number in order]
    best, probability = said[0].rsplit(" ", 1)
    return [line.file.name, best, probability, *(said[1:] or ["-"])]


def _as_json(
    lines: Sequence[Line], class_names: Sequence[str], facts: Mapping[str, Any]
) -> Iterator[bytes]:
    """Yields one JSON object, piece by piece, a file on each line."""
    head = atomic.json_bytes({**facts, "class_names": list(class_names)}, indent=1)
    yield head.removesuffix(b"\n}\n") + b',\n "files": ['
    for number, line in enumerate(lines):
        said = atomic.json_bytes(_facts(line, class_names))
        yield (b",\n  " if number else b"\n  ") + said.rstrip(b"\n")
    yield b"\n ]\n}\n"


def _facts(line: Line, class_names: Sequence[str]) -> dict[str, Any]:
    said: dict[str, Any] = {"source": line.file.source, "key": line.file.key}
    if line.probabilities is None:
        return {**said, "error": line.error}
    numbers = [float(_digits(value)) for value in line.probabilities.tolist()]
    return {**said, "predicted": line.best(class_names), "probabilities": numbers}


def _as_csv(lines: Sequence[Line], class_names: Sequence[str]) -> Iterator[bytes]:
    yield _csv_line((*_FACTS, *(_PROBABILITY + name for name in class_names)))
    for line in lines:
        numbers = [""] * len(class_names)
        if line.probabilities is not None:
            numbers = [_digits(value) for value in line.probabilities.tolist()]
        said = (line.file.source, line.file.key, line.best(class_names), line.error)
        yield _csv_line((*said, *numbers))


def _csv_line(values: Sequence[str]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(values)
    return out.getvalue().encode("utf-8", "surrogateescape")


def _digits(value: float) -> str:
    return f"{value:.9g}"
