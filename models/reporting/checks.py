"""Automatic checks of an evaluation: warnings, with advice and possible causes.

`CHECKS` lists them; a new check is a function and an entry in that list.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.metrics import confusion
from models.metrics.chance import BARELY, UNRELATED, Chance
from models.metrics.confusion import Score
from models.metrics.table import Table
from models.run_folder import Run
from models.training import optimizers

_MIN_COLLAPSED = 0.95  # share of the predictions in one class
_MIN_GAP = 0.1  # of balanced accuracy, between training and evaluated images
_FEW_STEPS = 30  # moving statistics of momentum 0.9 have not converged before
_SMALL_BATCH = 16
_HIGH_RATE = 10  # times the default
_MIN_IMBALANCE = 3  # draws of the largest class per draw of the smallest
_MAX_LISTED = 5  # names in a message


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The inputs of the checks."""

    run: Run  # without a history (pooled folds) no causes are examined
    table: Table  # predictions for the evaluated images, at least 1
    chance: Chance
    balanced_accuracy: Score
    trained_on: int | None  # evaluated images that the run was trained on, None if unknown
    train_confusion: np.ndarray | None = None  # of unaugmented training images
    has_batch_norm: bool = False

    @functools.cached_property
    def matrix(self) -> np.ndarray:
        """Confusion counts of the evaluated images."""
        return self.table.confusion


@dataclasses.dataclass(frozen=True)
class PossibleCause:
    """A possible cause of a warning."""

    name: str
    examine: Callable[[Evaluation], tuple[bool, str]]  # whether it applies, and the evidence


@dataclasses.dataclass(frozen=True)
class Check:
    """A check for problems that make a score misleading or a run worth repeating."""

    name: str  # in `report.json`
    title: str  # on the screen and on the page
    test: Callable[[Evaluation], str]  # returns the warning, empty if the check passes
    advice: str = ""
    causes: Sequence[PossibleCause] = ()  # examined once, for the first warning that has any
    unless: Sequence[str] = ()  # names of checks whose warnings make this one redundant


def warnings(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns the warnings of all failed checks in the order of `CHECKS`, as plain values.

    Each has `name`, `said` (the message) and `causes`, each with `name`, `found` (whether it
    applies) and `said` (the evidence).
    """
    found: dict[str, dict[str, Any]] = {}
    examined = not evaluation.run.history
    for check in CHECKS:
        message = "" if found.keys() & set(check.unless) else check.test(evaluation)
        if not message:
            continue
        causes = []
        if check.causes and not examined:
            examined = True
            for cause in check.causes:
                applies, evidence = cause.examine(evaluation)
                causes.append({"name": cause.name, "found": applies, "said": evidence})
        message += f"; {check.advice}" if check.advice else ""
        found[check.name] = {"name": check.name, "said": message, "causes": causes}
    return list(found.values())


def _not_finite(evaluation: Evaluation) -> str:
    rows = np.flatnonzero(~np.isfinite(evaluation.table.probabilities).all(1)).tolist()
    if not rows:
        return ""
    keys = _listed([evaluation.table.keys[row] for row in rows])
    if len(rows) == 1:
        return f"1 image has non-finite probabilities and is counted as class 0: {keys}"
    return f"{len(rows):,} images have non-finite probabilities and are counted as class 0: {keys}"


def _collapse(evaluation: Evaluation) -> str:
    matrix = evaluation.matrix
    predicted, support = matrix.sum(0) / matrix.sum(), matrix.sum(1) / matrix.sum()
    top = int(predicted.argmax())
    # If most images are of one class, a good model predicts it as often as it occurs.
    if predicted[top] < _MIN_COLLAPSED or 1 - predicted[top] >= (1 - support[top]) / 2:
        return ""
    name = evaluation.run.class_names[top]
    return f"{predicted[top]:.1%} of images are predicted as {name}, {support[top]:.1%} are {name}"


def _unrelated(evaluation: Evaluation) -> str:
    verdicts = {UNRELATED: "consistent with chance", BARELY: "barely better than chance"}
    verdict = verdicts.get(evaluation.chance.verdict)
    return f"the predictions are {verdict} (z = {evaluation.chance.z:.2f})" if verdict else ""


def _swapped(evaluation: Evaluation) -> str:
    matrix, names = evaluation.matrix, evaluation.run.class_names
    pairs = evaluation.chance.swapped
    if not pairs:
        return ""
    counts = "; ".join(
        f"{names[label]} is predicted as {names[other]} {matrix[label, other]:,} times, as itself"
        f" {matrix[label, label]:,}"
        for label, other in pairs[:_MAX_LISTED]
    )
    return f"{len(pairs)} class names appear to be permuted: {counts}"


def _seen(evaluation: Evaluation) -> str:
    count = evaluation.trained_on
    if count is None:
        return (
            "the training records are missing or were rebuilt, so the model may have been trained"
            " on these images"
        )
    message = f"the model was trained on {count:,} of these images, so the score is too high"
    return message if count else ""


def _gap(evaluation: Evaluation) -> str:
    matrix, trained = evaluation.matrix, evaluation.train_confusion
    here = evaluation.balanced_accuracy
    if trained is None:
        return ""
    # Only classes present in both: different class shares are not a gap.
    both = (matrix.sum(1) > 0) & (trained.sum(1) > 0)
    value = float(confusion.per_class(trained)["recall"][both].mean()) if both.any() else 0.0
    if value <= here.high or value - here.value < _MIN_GAP:
        return ""
    return (
        f"balanced accuracy is {value:.3f} on unaugmented training images and {here.value:.3f} here"
    )


def _never_predicted(evaluation: Evaluation) -> str:
    matrix = evaluation.matrix
    labels = np.flatnonzero((matrix.sum(1) > 0) & (matrix.sum(0) == 0)).tolist()
    names = [evaluation.run.class_names[label] for label in labels]
    return f"never predicted: {_listed(names)}" if names else ""


def _skipped(evaluation: Evaluation) -> str:
    run, skipped = evaluation.run, _num_skipped(evaluation.run)
    rows = f"; offending rows: {_listed(list(run.skipped))}" if run.skipped else ""
    return f"{skipped:,} steps had a non-finite loss and were skipped{rows}" if skipped else ""


def _num_skipped(run: Run) -> int:
    return int(run.history[-1].get("skipped", 0)) if run.history else 0


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _learning_rate(evaluation: Evaluation) -> tuple[bool, str]:
    run, default = evaluation.run, optimizers.OptimizerOptions().learning_rate
    losses = [line["loss"] for line in run.history]
    highest = max(line["learning_rate"] for line in run.history)
    skipped = _num_skipped(run)
    rising = len(losses) > 1 and losses[-1] >= losses[0]
    return rising or skipped > 0 or highest > _HIGH_RATE * default, (
        f"the highest was {highest:.3g}, {highest / default:,.1f} times the default"
        f" ({default:.3g}); the loss went from {losses[0]:.4g} to {losses[-1]:.4g}; steps skipped:"
        f" {skipped:,}"
    )


def _input_range(evaluation: Evaluation) -> tuple[bool, str]:
    run = evaluation.run
    return False, f"{run.model} takes {run.input_range}; training refuses images in another range"


def _batch_norm(evaluation: Evaluation) -> tuple[bool, str]:
    run = evaluation.run
    if not evaluation.has_batch_norm:
        return False, f"{run.model} has none"
    steps = run.sampling.get("steps_per_epoch", 0) * max(run.best_epoch, len(run.history))
    batch = run.sampling.get("batch_size", 0)
    evidence = f"its moving statistics come from {steps:,} steps of {batch:,} images"
    return steps < _FEW_STEPS or batch < _SMALL_BATCH, evidence


def _imbalance(evaluation: Evaluation) -> tuple[bool, str]:
    sampling = evaluation.run.sampling
    draws = [count for count in sampling.get("draws", []) if count] or [0]
    ratio = max(draws) / max(min(draws), 1)
    return ratio >= _MIN_IMBALANCE, (
        f"training drew the largest class {ratio:.1f} times as often as the smallest"
        f" (--target={sampling.get('target', {}).get('name', 'natural')})"
    )


def _labels(evaluation: Evaluation) -> tuple[bool, str]:
    run = evaluation.run
    accuracy = float(run.history[max(run.best_epoch, 1) - 1].get("accuracy", math.nan))
    draws = run.sampling.get("draws", [1])
    one_class = max(draws) / sum(draws)
    learned = accuracy > (1 + one_class) / 2
    conclusion = (
        "the training images were learned, so check the labels of this split"
        if learned
        else "little was learned in training either, so this split is not the cause"
    )
    return learned, (
        f"training accuracy was {accuracy:.3f}, where always predicting one class gives"
        f" {one_class:.3f}: {conclusion}"
    )


_CAUSES = (
    PossibleCause("learning rate", _learning_rate),
    PossibleCause("input range", _input_range),
    PossibleCause("batch normalization on little data", _batch_norm),
    PossibleCause("imbalance", _imbalance),
    PossibleCause("labels", _labels),
)
CHECKS = (  # the most serious first
    Check(
        "not_finite",
        "non-finite probabilities",
        _not_finite,
        advice="float32 may hold what half precision cannot",
    ),
    Check("collapse", "collapse", _collapse, causes=_CAUSES),
    Check("unrelated", "chance level", _unrelated, causes=_CAUSES),
    Check(
        "swapped",
        "permuted class names",
        _swapped,
        advice="check that labels were made the same way for training and for this split",
    ),
    Check("seen", "seen in training", _seen),
    Check(
        "gap",
        "generalization gap",
        _gap,
        advice="more images, more augmentation, more dropout or a smaller network may help",
        unless=("collapse", "unrelated", "swapped"),
    ),
    Check("never_named", "missing classes", _never_predicted, unless=("collapse", "unrelated")),
    Check("skipped", "skipped steps", _skipped),
)
TITLES = {check.name: check.title for check in CHECKS}
