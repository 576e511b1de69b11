"""What is wrong with a run, as far as its report can tell, with the causes that were looked for."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from models.metrics import chance, confusion
from models.metrics.confusion import Score
from models.metrics.table import Table
from models.run_folder import Run
from models.training import optimizers

_COLLAPSED = 0.95  # of all predictions name one class
_WIDE_GAP = 0.1  # of balanced accuracy, between images that were trained on and others
_FEW_STEPS = 30  # in which moving statistics of momentum 0.9 are not yet those of the images
_SMALL_BATCH = 16
_HIGH_RATE = 10  # times the default
_IMBALANCE = 3  # draws of the largest class for one of the smallest


@dataclasses.dataclass(frozen=True)
class Cause:
    """Something that may have led to an alarm.

    Attributes:
        name: what it is.
        found: whether it is so in this run.
        said: the facts of this run.
    """

    name: str
    found: bool
    said: str


@dataclasses.dataclass(frozen=True)
class Alarm:
    """Something that makes a score worth less than it seems, or a run worth doing again.

    Attributes:
        name: `not_finite`, `collapse`, `unrelated`, `swapped`, `seen`, `gap`, `never_named` or
            `skipped`.
        said: a sentence with the numbers, and what to do.
        causes: those looked for.
    """

    name: str
    said: str
    causes: tuple[Cause, ...] = ()


def of(
    run: Run,
    table: Table,
    known: chance.Chance,
    *,
    here: Score,
    trained_on: int | None,
    trained: np.ndarray | None = None,
    normalized: bool = False,
) -> list[Alarm]:
    """Returns the alarms of an evaluation, the gravest first.

    Args:
        run: that predicted; without a history, as of all folds together, no causes are looked for.
        table: of the evaluated images, at least 1.
        known: what chance gives for these.
        here: their balanced accuracy.
        trained_on: how many of them it was trained on, None if unknown.
        trained: confusion of unchanged images that it was trained on, if there are any.
        normalized: whether the model has batch normalization.
    """
    matrix = table.confusion
    grave = [each for each in (_collapse(run, matrix), _unrelated(known)) if each]
    if grave and run.history:
        causes = _causes(run, normalized)
        grave[0] = dataclasses.replace(grave[0], causes=causes)
    mixed_up = _swapped(run, matrix, known)
    found = [_not_finite(table), *grave, mixed_up, _seen(trained_on)]
    if not grave:  # else these say nothing more, and their advice does not help
        found += [None if mixed_up else _gap(matrix, here, trained), _never_named(run, matrix)]
    return [each for each in [*found, _skipped(run)] if each]


def _not_finite(table: Table) -> Alarm | None:
    rows = np.flatnonzero(~np.isfinite(table.probabilities).all(1))
    if not len(rows):
        return None
    more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    named = ", ".join(table.keys[row] for row in rows[:5].tolist())
    return Alarm(
        "not_finite",
        f"{len(rows):,} images have probabilities that are not finite, and count as called by the"
        f" first class: {named}{more}; float32 may hold what half precision does not",
    )


def _collapse(run: Run, matrix: np.ndarray) -> Alarm | None:
    named, support = matrix.sum(0) / matrix.sum(), matrix.sum(1) / matrix.sum()
    most = int(named.argmax())
    # Where most images are of one class a good model names it as often as it is there.
    if named[most] < _COLLAPSED or 1 - named[most] >= (1 - support[most]) / 2:
        return None
    return Alarm(
        "collapse",
        f"{named[most]:.1%} of the images are called {run.class_names[most]}, which"
        f" {support[most]:.1%} of them are",
    )


def _unrelated(known: chance.Chance) -> Alarm | None:
    if known.verdict not in (chance.UNRELATED, chance.BARELY):
        return None
    how = "consistent with" if known.verdict == chance.UNRELATED else "barely more than"
    return Alarm("unrelated", f"the score is {how} unrelated predictions (z = {known.z:.2f})")


def _swapped(run: Run, matrix: np.ndarray, known: chance.Chance) -> Alarm | None:
    pairs = known.swapped
    if not pairs:
        return None
    names = run.class_names
    told = "; ".join(
        f"{names[t]} is called {names[n]} {matrix[t, n]:,} times, by its own name {matrix[t, t]:,}"
        for t, n in pairs[:5]
    )
    return Alarm(
        "swapped",
        f"{len(pairs)} classes seem to bear other classes' names: {told}; see whether the labels"
        " were made in the same way for training and for this split",
    )


def _seen(trained_on: int | None) -> Alarm | None:
    if trained_on:
        said = f"the run was trained on {trained_on:,} of these images: the score is too high"
        return Alarm("seen", said)
    if trained_on is None:
        return Alarm(
            "seen",
            "the records of the training are gone or were built anew, so it may have been trained"
            " on these",
        )
    return None


def _gap(matrix: np.ndarray, here: Score, trained: np.ndarray | None) -> Alarm | None:
    """Compares recalls, so that other shares of the classes are no gap."""
    if trained is None:
        return None
    both = (matrix.sum(1) > 0) & (trained.sum(1) > 0)
    value = float(confusion.per_class(trained)["recall"][both].mean()) if both.any() else 0.0
    if value <= here.high or value - here.value < _WIDE_GAP:
        return None
    return Alarm(
        "gap",
        f"balanced accuracy is {value:.3f} on unchanged images that were trained on and"
        f" {here.value:.3f} here: more images, more augmentation, more dropout or a smaller network"
        " may help",
    )


def _skipped(run: Run) -> Alarm | None:
    skipped = _num_skipped(run)
    if not skipped:
        return None
    rows = f"; rows to blame: {', '.join(list(run.skipped)[:5])}" if run.skipped else ""
    return Alarm("skipped", f"{skipped:,} steps had no finite loss and were skipped{rows}")


def _num_skipped(run: Run) -> int:
    return int(run.history[-1].get("skipped", 0)) if run.history else 0


def _never_named(run: Run, matrix: np.ndarray) -> Alarm | None:
    never = [
        run.class_names[label]
        for label in np.flatnonzero((matrix.sum(1) > 0) & (matrix.sum(0) == 0)).tolist()
    ]
    if not never:
        return None
    more = f" and {len(never) - 5} more" if len(never) > 5 else ""
    return Alarm("never_named", f"never predicted: {', '.join(never[:5])}{more}")


def _causes(run: Run, normalized: bool) -> tuple[Cause, ...]:
    return (
        _learning_rate(run),
        Cause(
            "input range",
            False,
            f"{run.model} takes {run.input_range}, and training refuses images of another range",
        ),
        _normalization(run, normalized),
        _imbalance(run),
        _labels(run),
    )


def _learning_rate(run: Run) -> Cause:
    default = optimizers.OptimizerOptions().learning_rate
    losses = [line["loss"] for line in run.history]
    highest = max((line["learning_rate"] for line in run.history), default=0.0)
    rising = len(losses) > 1 and losses[-1] >= losses[0]
    skipped = _num_skipped(run)
    course = f", the loss went from {losses[0]:.4g} to {losses[-1]:.4g}" if losses else ""
    return Cause(
        "learning rate",
        rising or skipped > 0 or highest > _HIGH_RATE * default,
        f"the highest was {highest:.3g}, {highest / default:,.1f} times the default"
        f" ({default:.3g}){course}; steps skipped: {skipped:,}",
    )


def _normalization(run: Run, normalized: bool) -> Cause:
    steps = run.sampling.get("steps_per_epoch", 0) * max(run.best_epoch, len(run.history))
    batch = run.sampling.get("batch_size", 0)
    little = steps < _FEW_STEPS or batch < _SMALL_BATCH
    if not normalized:
        return Cause("batch normalization on little data", False, f"{run.model} has none")
    said = f"{steps:,} steps of {batch:,} images made its moving statistics"
    return Cause("batch normalization on little data", little, said)


def _imbalance(run: Run) -> Cause:
    draws: Sequence[int] = [count for count in run.sampling.get("draws", []) if count] or [0]
    ratio = max(draws) / max(min(draws), 1)
    target = run.sampling.get("target", {}).get("name", "natural")
    return Cause(
        "imbalance",
        ratio >= _IMBALANCE,
        f"training drew the largest class {ratio:.1f} times as often as the smallest"
        f" (--target={target})",
    )


def _labels(run: Run) -> Cause:
    trained = float(run.history[max(run.best_epoch, 1) - 1].get("accuracy", math.nan))
    draws = run.sampling.get("draws", [1])
    one_class = max(draws) / sum(draws)
    learned = trained > (1 + one_class) / 2
    return Cause(
        "labels",
        learned,
        f"accuracy was {trained:.3f} in training, where naming one class gives {one_class:.3f}: "
        + (
            "the images there were learned, so look at the labels of this split"
            if learned
            else "little was learned there either, so it is not this split"
        ),
    )
