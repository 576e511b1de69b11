"""The stages of a training, each alone and all together: images a second, and who waits for whom.

What a stage does is measured, not looked up: iterators are begun afresh, warmed up, and drawn from
for a while. The stages take turns, so what else the machine does strikes all of them, and only one
has threads at a time. The first turn, in which functions are compiled, is not counted.
"""

import dataclasses
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from datapipe.augment import chain
from datapipe.augment.options import AugmentOptions
from datapipe.plan.sampling import SamplingPlan
from datapipe.rows.base import Rows
from records.common.backend import tf

HANDING_OVER = "handing a batch over"
_AUTO = tf.data.AUTOTUNE
_FEWEST_TURNS = 3  # however long they take: of two there is no median
_LONGEST = 10  # times the wanted length that a period may take before it is cut short
_GATHERED = 64  # batches whose rows are gathered in turn, so that they come from all over the table

# What belongs to each kind of change, as a user speaks of it.
_KINDS = {
    "moving pixels": (
        *("rotation_range", "width_shift_range", "height_shift_range", "shear_range"),
        *("zoom_range", "horizontal_flip", "vertical_flip"),
    ),
    "colour changes": (
        *("brightness_range", "contrast_range", "saturation_range", "hue_range"),
        "channel_shift_range",
    ),
    "erasing": ("erasing_probability",),
    "mixing": ("mixup_alpha", "cutmix_alpha"),
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """Something that takes time: getting batches, working on them, or both.

    Attributes:
        name: as the table shall call it.
        batches: begins an endless iterator afresh.
        images: in a batch.
        work: what is done with a batch, or None.
        period: batches after which a stage that works in bursts begins again; whole periods are
            measured.
    """

    name: str
    batches: Callable[[], Iterator[Any]]
    images: int
    work: Callable[[Any], object] | None = None
    period: int = 1

    def __post_init__(self) -> None:
        for name in ("images", "period"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long and how often is measured.

    Attributes:
        turns: that count, of each stage.
        seconds: shortest length of one measurement; half of it goes before as warm-up.
        budget: seconds after which no further turn begins, once there are three.
    """

    turns: int = 5
    seconds: float = 0.4
    budget: float = 30.0

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"turns must be at least 1, got {self.turns}")
        for name in ("seconds", "budget"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


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
        pairs = zip(self.by_turn, other.by_turn, strict=True)
        return statistics.median(mine / of_other for mine, of_other in pairs)

    def to_json(self) -> dict[str, float]:
        """Returns the numbers by name."""
        return {
            "images_per_second": self.median,
            "lowest": min(self.by_turn),
            "highest": max(self.by_turn),
            "waiting": self.waiting,
            "turns": len(self.by_turn),
        }


def measured(
    stages: Sequence[Stage], timing: Timing, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Rates]:
    """Returns the rates of each stage, by name, after turns of all of them.

    Raises:
        ValueError: if two stages have one name.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"stages must have different names, got {', '.join(names)}")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    started = clock()
    for turn in range(timing.turns + 1):
        if turn > _FEWEST_TURNS and clock() - started > timing.budget:
            break
        for stage in stages:
            run = _turn(stage, timing, clock)
            if turn:
                found[stage.name].append(run)
    return {name: Rates(*zip(*runs, strict=True)) for name, runs in found.items()}


def _turn(stage: Stage, timing: Timing, clock: Callable[[], float]) -> tuple[float, float]:
    batches = stage.batches()
    _run(stage, batches, timing.seconds / 2, clock)
    return _run(stage, batches, timing.seconds, clock)


def _run(
    stage: Stage, batches: Iterator[Any], seconds: float, clock: Callable[[], float]
) -> tuple[float, float]:
    """Draws whole periods for so many seconds; returns images a second and the share of waiting."""
    started, waited, elapsed = clock(), 0.0, 0.0
    for count in itertools.count(1):
        asked = clock()
        batch = next(batches)
        waited += clock() - asked
        if stage.work:
            stage.work(batch)
        elapsed = clock() - started
        whole = count % stage.period == 0
        if (whole and elapsed >= seconds) or elapsed >= seconds * _LONGEST:
            break
    # A GPU is only told what to do; it is done when it says so.
    tf.test.experimental.sync_devices()
    elapsed = clock() - started
    return count * stage.images / elapsed, waited / elapsed


def period_of(rows: Rows, plan: SamplingPlan) -> int:
    """Returns the batches between two windows of rows that are streamed, else 1."""
    windows = getattr(rows, "windows_per_epoch", None)
    return max(1, round(plan.steps_per_epoch / windows)) if windows else 1


def input_stages(
    rows: Rows,
    plan: SamplingPlan,
    options: AugmentOptions,
    *,
    input_range: str = "0..1",
    images_later: bool = False,
) -> list[Stage]:
    """Returns the stages of the training input, each to be measured alone.

    They are `plan` (which rows) and `gather` (their pixels), or `read` where rows are streamed;
    then `augmentation` (`to float32`, if there is none). Each works as in the pipeline, on data
    that is ready. `handing a batch over`, the first, does nothing but give Python the same small
    batch again: all others take that time too.

    Args:
        rows: the split.
        plan: which row stands where.
        options: how images are changed.
        input_range: of the images.
        images_later: whether images are made in the training step, so that the input has only
            `plan` and `random numbers`.
    """
    drawn, size = rows.batches(plan), plan.batch_size
    change = chain.Augmentation(
        options, seed=plan.seed, class_names=plan.class_names, input_range=input_range
    )
    batch = next(iter(drawn))
    small = {name: value for name, value in batch.items() if name != "image"}
    pixels = None if images_later else rows.pixels(batch)

    def numbers(given: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return change.numbers(given["position"], given["label"])

    def images(given: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return change.images(given["pixels"], numbers(given))

    found = {HANDING_OVER: _again(small).prefetch(_AUTO)}
    found["read" if "image" in batch else "plan"] = drawn
    if images_later:
        found["random numbers"] = _mapped(_again(small), numbers)
    else:
        if "image" not in batch:
            table = tf.stack([some["row"] for some in drawn.take(_GATHERED)])
            ds = tf.data.Dataset.from_tensor_slices(table).repeat()
            found["gather"] = _mapped(ds, lambda row: rows.pixels({"row": row}))
        name = "to float32" if options.off else "augmentation"
        found[name] = _mapped(_again({**small, "pixels": pixels}), images)
    periods = {"read": period_of(rows, plan)}
    return [
        Stage(name, functools.partial(iter, ds), size, period=periods.get(name, 1))
        for name, ds in found.items()
    ]


def _again(batch: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(batch).repeat()


def _mapped(ds: tf.data.Dataset, function: Callable[[Any], Any]) -> tf.data.Dataset:
    """Returns a dataset whose function runs on as many threads as in the pipeline."""
    return ds.map(function, num_parallel_calls=_AUTO, deterministic=True).prefetch(_AUTO)


def seconds_of_stages(rates: Mapping[str, Rates]) -> dict[str, float]:
    """Returns the seconds of one image in each stage of the input, without handing over.

    What handing over takes is taken off the others and given on its own. What a stage takes less
    than that cannot be told, and is 0.
    """
    base = 1 / rates[HANDING_OVER].median
    others = {name: max(0.0, 1 / found.median - base) for name, found in rates.items()}
    return {**others, HANDING_OVER: base}


def kinds_of_change(options: AugmentOptions) -> dict[str, tuple[list[str], AugmentOptions]]:
    """Returns each kind of change that is used: the fields that ask for it, and all else."""
    plain, found = AugmentOptions(), {}
    for kind, names in _KINDS.items():
        used = [name for name in names if getattr(options, name) != getattr(plain, name)]
        if used:
            without = {name: getattr(plain, name) for name in used}
            found[kind] = (used, dataclasses.replace(options, **without))
    return found
