"""How fast things are: in turns, so that what else the machine does strikes all of them alike.

A rate is measured, not looked up: iterators are begun afresh, warmed up, and drawn from for a
while. Only one of them is alive at a time, so none works on another's time. The first round, in
which functions are compiled, is not counted; ratios are taken within a turn.
"""

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from records.common import checks
from records.common.backend import tf

Result = TypeVar("Result")
Clock = Callable[[], float]

_MAX_LENGTH = 10  # times the wanted length after which a measurement is cut short


@dataclasses.dataclass(frozen=True)
class Stage:
    """Something that takes time: getting batches, working on them, or both.

    Attributes:
        name: as the table shall call it.
        batches: begins an iterator afresh.
        images: in a batch.
        work: what is done with a batch, or None.
        period: batches after which a stage that works in bursts begins again; whole periods are
            measured.
        pass_batches: 0 where batches come without end and their steady rate is wanted; else the
            batches of one pass, which is timed from before `batches` is called to the last.
    """

    name: str
    batches: Callable[[], Iterator[Any]]
    images: int = 1
    work: Callable[[Any], object] | None = None
    period: int = 1
    pass_batches: int = 0

    def __post_init__(self) -> None:
        for name in ("images", "period"):
            checks.at_least(name, getattr(self, name), 1)


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long and how often is measured.

    Attributes:
        turns: that count, of each stage.
        seconds: shortest length of one measurement; half of it goes before as warm-up.
        budget: seconds after which no further turn begins, once there are `min_turns`.
        min_turns: however long they take: of two there is no median.
        warm_up_batches: that are drawn at least before a measurement.
    """

    turns: int = 5
    seconds: float = 0.4
    budget: float = 30.0
    min_turns: int = 3
    warm_up_batches: int = 1

    def __post_init__(self) -> None:
        checks.at_least("turns", self.turns, 1)
        checks.between("seconds", self.seconds, 0, math.inf, "()")


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the turns of one stage gave.

    Attributes:
        by_turn: images a second.
        waiting_by_turn: share of the time that went by until the batches came, 0 to 1.
    """

    by_turn: tuple[float, ...]
    waiting_by_turn: tuple[float, ...]

    @property
    def median(self) -> float:
        """Images a second."""
        return statistics.median(self.by_turn)

    @property
    def waiting(self) -> float:
        """Median share of the time spent waiting for batches."""
        return statistics.median(self.waiting_by_turn)

    def over(self, other: "Rates") -> float:
        """Returns how many times as fast this is: the median over what was measured together."""
        return _ratio(self.by_turn, other.by_turn)

    def to_json(self) -> dict[str, float]:
        """Returns the numbers by name."""
        return {
            "images_per_second": self.median,
            "lowest": min(self.by_turn),
            "highest": max(self.by_turn),
            "waiting": self.waiting,
            "turns": len(self.by_turn),
        }


def in_turns(
    cases: Mapping[str, Callable[[], Result]],
    timing: Timing,
    *,
    uncounted: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, list[Result]]:
    """Returns what each case gave in each turn, after some that are not counted."""
    found: dict[str, list[Result]] = {name: [] for name in cases}
    started = clock()
    for turn in range(-uncounted, timing.turns):
        if turn >= timing.min_turns and clock() - started > timing.budget:
            break
        for name, run in cases.items():
            result = run()
            if turn >= 0:
                found[name].append(result)
    return found


def measured(
    stages: Sequence[Stage], timing: Timing, *, clock: Clock = time.perf_counter
) -> dict[str, Rates]:
    """Returns the rates of each stage, by name, after turns of all of them.

    Raises:
        ValueError: if two stages have one name.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"stages must have different names, got {', '.join(names)}")

    def turn_of(stage: Stage) -> Callable[[], tuple[float, float]]:
        if stage.pass_batches:
            return lambda: _run(stage, stage.batches, clock, least=stage.pass_batches)
        return lambda: _turn(stage, timing, clock)

    found = in_turns({stage.name: turn_of(stage) for stage in stages}, timing, clock=clock)
    return {name: Rates(*zip(*runs, strict=True)) for name, runs in found.items()}


def _turn(stage: Stage, timing: Timing, clock: Clock) -> tuple[float, float]:
    batches = stage.batches()
    # tf.data tunes its buffers and threads while it runs.
    half, least = timing.seconds / 2, timing.warm_up_batches
    _run(stage, lambda: batches, clock, seconds=half, least=least)
    return _run(stage, lambda: batches, clock, seconds=timing.seconds)


def _run(
    stage: Stage,
    begin: Callable[[], Iterator[Any]],
    clock: Clock,
    *,
    seconds: float = 0.0,
    least: int = 1,
) -> tuple[float, float]:
    """Draws whole periods for so many seconds, and at least so many batches.

    Returns images a second and the share of waiting.
    """
    started, waited, elapsed = clock(), 0.0, 0.0
    batches = begin()
    for count in itertools.count(1):
        asked = clock()
        batch = next(batches)
        waited += clock() - asked
        if stage.work:
            stage.work(batch)
        elapsed = clock() - started
        enough = count >= least and count % stage.period == 0 and elapsed >= seconds
        if enough or 0 < seconds * _MAX_LENGTH <= elapsed:
            break
    # A GPU is only told what to do; it is done when it says so.
    tf.test.experimental.sync_devices()
    elapsed = clock() - started
    return count * stage.images / elapsed, waited / elapsed


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


def rows(
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
    made = []
    for name, values in found.items():
        numbers = statistics.median(values), min(values), max(values), len(values)
        made.append(Row(task, name, unit, *numbers, _ratio(values, found[base]), base))
    return made


def _ratio(mine: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(mine, others, strict=True))
