"""Systems that take turns, so that what else the machine does strikes all of them alike."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# tf.data tunes its buffers and threads while it runs, and ours is compiled at the first batch.
_WARM_UP_BATCHES = 8
_WARM_UP_SHARE = 0.5  # of the length of a measurement


@dataclasses.dataclass(frozen=True)
class Unit:
    """What a number counts.

    Attributes:
        name: as it is printed.
        decimals: places that are printed.
        better: `more` or `less`.
    """

    name: str
    decimals: int
    better: str

    def shown(self, value: float) -> str:
        """Returns a value as it is printed, without the name."""
        return f"{value:,.{self.decimals}f}"


UNITS = {
    "images_per_second": Unit("images/s", 0, "more"),
    "seconds": Unit("s", 2, "less"),
    "mebibytes": Unit("MiB", 0, "less"),
}


@dataclasses.dataclass(frozen=True)
class System:
    """One way to get batches.

    Attributes:
        name: as the table shall call it.
        begin: starts afresh; its batches hold the wanted number of images.
        pass_batches: 0 where batches come without end and their steady rate is wanted; otherwise
            the number of batches of one pass, which is timed from before `begin` to the last.
    """

    name: str
    begin: Callable[[], Iterator[Any]]
    pass_batches: int = 0


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long and how often is measured.

    Attributes:
        repeats: turns of each system that count; the one before them does not.
        seconds: shortest length of one measurement of a steady rate.
        batch_size: images in a batch.
    """

    repeats: int
    seconds: float
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("repeats", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be positive, got {self.seconds}")


@dataclasses.dataclass(frozen=True)
class Row:
    """The measurements of one system at one task.

    Attributes:
        task: such as `READ`.
        system: its name.
        unit: of the next three, one of `UNITS`.
        median: of all turns.
        lowest: turn.
        highest: turn.
        repeats: how many turns.
        ratio: median of what each turn gave over what the base gave in the same turn.
        base: the system that ratios of this task are taken to; its own ratio is 1.
    """

    task: str
    system: str
    unit: str
    median: float
    lowest: float
    highest: float
    repeats: int
    ratio: float
    base: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields by name, the median under the name of its unit."""
        fields = dataclasses.asdict(self)
        return {
            "task": fields.pop("task"),
            "system": fields.pop("system"),
            fields.pop("unit"): fields.pop("median"),
            **fields,
        }


def rates(systems: Sequence[System], timing: Timing) -> dict[str, list[float]]:
    """Returns images a second, by system and turn; the first round is not counted.

    Only one system's iterator is alive at a time, so none works on another's time.
    """
    found: dict[str, list[float]] = {system.name: [] for system in systems}
    for turn in range(timing.repeats + 1):
        for system in systems:
            rate = _pass_rate(system, timing) if system.pass_batches else _rate(system, timing)
            if turn:
                found[system.name].append(rate)
    return found


def _rate(system: System, timing: Timing) -> float:
    batches = system.begin()
    _run(batches, timing.seconds * _WARM_UP_SHARE, _WARM_UP_BATCHES)
    count, seconds = _run(batches, timing.seconds, 1)
    return count * timing.batch_size / seconds


def _run(batches: Iterator[Any], seconds: float, least: int) -> tuple[int, float]:
    """Draws batches for so many seconds, but at least so many; returns how many in what time."""
    started, count, elapsed = time.perf_counter(), 0, 0.0
    while count < least or elapsed < seconds:
        next(batches)
        count += 1
        elapsed = time.perf_counter() - started
    return count, elapsed


def _pass_rate(system: System, timing: Timing) -> float:
    started = time.perf_counter()
    batches = system.begin()
    for _ in range(system.pass_batches):
        next(batches)
    return system.pass_batches * timing.batch_size / (time.perf_counter() - started)


def summary(
    task: str, unit: str, found: Mapping[str, Sequence[float]], bases: Sequence[str]
) -> list[Row]:
    """Returns a row for each system.

    Args:
        task: what was measured.
        unit: of what was found.
        found: by system, what each turn gave; as many turns for each.
        bases: the first of these that was measured is what ratios are taken to.

    Raises:
        ValueError: if none of them was.
    """
    base = next((name for name in bases if name in found), None)
    if base is None:
        raise ValueError(f"{task} must have one of {', '.join(bases)}, got {', '.join(found)}")
    rows = []
    for name, values in found.items():
        pairs = zip(values, found[base], strict=True)
        ratio = statistics.median(value / of_base for value, of_base in pairs)
        median, extremes = statistics.median(values), (min(values), max(values))
        rows.append(Row(task, name, unit, median, *extremes, len(values), ratio, base))
    return rows
