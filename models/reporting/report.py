"""The contents of `report.json`, the report on a table of predictions, as plain values."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models import run_folder
from models.metrics import calibration, chance, confusion, threshold
from models.metrics.confusion import Score
from models.metrics.table import Table
from models.reporting import breakdown, checks, neighbours
from models.run_folder import Run
from records.common import targets
from records.format.record_set import RecordSet
from records.split import folds

MAX_PICTURES = 60  # images of mistakes on the page
_HEADLINE = {"accuracy": "accuracy", "macro_f1": "macro F1"}


@dataclasses.dataclass(frozen=True)
class ReportExtras:
    """Optional inputs of a report."""

    validation: Table | None = None  # predictions of two classes, to choose a threshold on
    train_confusion: np.ndarray | None = None  # of unaugmented training images
    num_compared: int = 0  # training images that were searched for neighbours
    # Neighbours of evaluated rows, the nearest first.
    near: Mapping[int, Sequence[neighbours.Neighbour]] = dataclasses.field(default_factory=dict)
    has_batch_norm: bool = False
    # Weights by class name, for scores at class shares other than the split's.
    class_shares: Mapping[str, float] = dataclasses.field(default_factory=dict)


NO_EXTRAS = ReportExtras()


def contents(
    run: Run, record_set: RecordSet, split: str, table: Table, extras: ReportExtras = NO_EXTRAS
) -> dict[str, Any]:
    """Returns the contents of `report.json`.

    Each score of `confusion.SCORES` and `calibration.scores` has `value`, `low`, `high` (95 %),
    `count` and `chance`, or is None where undefined. `trained_on` counts the evaluated images that
    are in the training split (None: unknown); `confusion` counts images, true classes down and
    predicted ones across; `mistakes` are sorted by confidence, the highest first.
    """
    matrix, trained_on = table.confusion, run_folder.num_trained_on(run, record_set, split)
    levels = chance.levels(matrix, table.images)
    class_scores = confusion.scores(matrix, table.images)
    evaluation = checks.Evaluation(
        run,
        table,
        levels,
        class_scores["balanced_accuracy"],
        trained_on,
        extras.train_confusion,
        extras.has_batch_norm,
    )
    return {
        "split": split,
        **_plain_scores(class_scores),
        **_plain_scores(calibration.scores(table.labels, table.probabilities, table.groups)),
        "other_shares": _at_other_shares(run, table, extras.class_shares),
        "averages": _averages(matrix),
        "groups": table.images.num_groups,
        "chance": {**dataclasses.asdict(levels), "majority": run.class_names[levels.majority]},
        "verdict": _verdict(run, split, matrix, levels) + _selection_note(run, record_set, split),
        "alarms": checks.warnings(evaluation),
        "trained_on": trained_on,
        "trained": _training_accuracy(extras.train_confusion),
        "class_names": list(run.class_names),
        "confusion": matrix.tolist(),
        "per_class": _per_class(run, table),
        "attributes": _parts(breakdown.by_attribute(table, record_set.manifest.attributes)),
        "domains": _parts(breakdown.by_domain(table)),
        "group_sizes": _parts(breakdown.by_group_size(table)),
        "reliability": [
            dataclasses.asdict(each)
            for each in calibration.reliability(table.labels, table.probabilities)
        ],
        "threshold": _threshold(extras.validation, table),
        "mistakes": _mistakes(run, table, record_set, extras),
        "num_compared": extras.num_compared,
        **_about_records(run, record_set),
        "run": dataclasses.asdict(run),
    }


def _about_records(run: Run, record_set: RecordSet) -> dict[str, Any]:
    info = record_set.manifest
    return {
        "splits": {
            name: dict(zip(run.class_names, entry.class_counts, strict=True))
            for name, entry in info.splits.items()
        },
        "accounting": info.accounting,
        "reasons": info.reasons,
        "notes": info.notes,
        "leaks_kept": info.settings.get("on_leak") == "keep",
        "near_duplicates": info.settings.get("near_duplicates", 0),
        "records": record_set.folder,
        "records_digest": info.digest,
    }


def headline(report: Mapping[str, Any]) -> list[str]:
    """Returns the summary for the screen: the verdict, two scores, and the warnings."""
    return [
        report["verdict"],
        *(f"{name} {Score(**report[key])}" for key, name in _HEADLINE.items()),
        *_headline_at_other_shares(report),
        *(line for warning in report["alarms"] for line in _warning_lines(warning)),
    ]


def _warning_lines(warning: Mapping[str, Any]) -> list[str]:
    causes = [cause for cause in warning["causes"] if cause["found"]]
    return [
        f"warning: {checks.TITLES[warning['name']]}: {warning['said']}",
        *(f"  possible cause: {cause['name']}: {cause['said']}" for cause in causes),
    ]


def shown_mistakes(table: Table) -> list[int]:
    """Returns the rows of the mistakes that the page shows, the most confident first."""
    return _mistaken_rows(table)[:MAX_PICTURES]


def _mistaken_rows(table: Table) -> list[int]:
    rows = np.flatnonzero(table.predicted != table.labels)
    confidence = table.probabilities.max(1)
    return rows[np.argsort(-confidence[rows], kind="stable")].tolist()


def _verdict(run: Run, split: str, matrix: np.ndarray, levels: chance.Chance) -> str:
    count, hits = int(matrix.sum()), int(np.trace(matrix))
    images = "images of all folds" if split == folds.POOLED else f"{split} images"
    score = f"{run.model} classifies {hits:,} of {count:,} {images} correctly ({hits / count:.1%})"
    if levels.verdict == chance.ONE_CLASS:
        only = run.class_names[levels.majority]
        return f"{score}: only one class, {only}, is present, so the chance level is undefined"
    predicted = np.flatnonzero(matrix.sum(0))
    if len(predicted) == 1:
        only = run.class_names[predicted[0]]
        return f"{score}: all are predicted as {only}, the model has collapsed to one class"
    if levels.verdict == chance.SWAPPED:
        return f"{score}: {len(levels.swapped)} class names appear to be permuted"
    if levels.verdict == chance.UNRELATED:
        return f"{score}: consistent with chance, z = {levels.z:.2f}"
    if levels.verdict == chance.BARELY:
        return f"{score}: barely better than chance, z = {levels.z:.2f}"
    level = levels.unrelated.value * count
    if levels.verdict == chance.WORSE:
        return f"{score}: below the chance level of {level:,.0f}, so the labels may be swapped"
    return f"{score}; the chance level is about {level:,.0f}"


def _selection_note(run: Run, record_set: RecordSet, split: str) -> str:
    # The best epoch is selected on this split, so its score is the best of many.
    selected = split == run.validation_split and run.flags.get("monitor") != "epoch"
    if selected and record_set.manifest.digest == run.records_digest:
        return " (optimistic: the best epoch was selected on this split)"
    return ""


def _plain_scores(scores: Mapping[str, Score]) -> dict[str, dict[str, Any] | None]:
    return {
        name: None if math.isnan(score.value) else dataclasses.asdict(score)
        for name, score in scores.items()
    }


def _at_other_shares(run: Run, table: Table, shares: Mapping[str, float]) -> dict[str, Any] | None:
    if not shares:
        return None
    matrix = table.confusion
    weights = targets.named_shares(shares, matrix.sum(1), run.class_names)
    parts = dict(zip(run.class_names, (weights / weights.sum()).tolist(), strict=True))
    scores = confusion.scores(matrix, table.images, shares=weights)
    return {"shares": parts, **_plain_scores(scores)}


def _headline_at_other_shares(report: Mapping[str, Any]) -> list[str]:
    other = report["other_shares"]
    if not other:
        return []
    shares = ", ".join(f"{name} {share:.1%}" for name, share in other["shares"].items())
    scores = (f"{name} {Score(**other[key])}" for key, name in _HEADLINE.items())
    return [f"at class shares {shares}: {'; '.join(scores)}"]


def _training_accuracy(matrix: np.ndarray | None) -> dict[str, Any] | None:
    return None if matrix is None else dataclasses.asdict(confusion.scores(matrix)["accuracy"])


def _averages(matrix: np.ndarray) -> dict[str, dict[str, float]]:
    return {
        average: {
            ratio: float(confusion.average_of(matrix, average, ratio))
            for ratio in ("precision", "recall", "f1")
        }
        for average in ("macro", "weighted", "micro")
    }


def _per_class(run: Run, table: Table) -> dict[str, dict[str, Any]]:
    ratios = confusion.per_class(table.confusion)
    intervals = confusion.class_intervals(table.confusion, table.images)
    return {
        name: {
            **{key: values[label].item() for key, values in ratios.items()},
            "intervals": {key: pairs[label].tolist() for key, pairs in intervals.items()},
        }
        for label, name in enumerate(run.class_names)
    }


def _parts(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            key: dataclasses.asdict(value) if isinstance(value, Score) else value
            for key, value in part.items()
        }
        for name, part in parts.items()
    }


def _threshold(validation: Table | None, table: Table) -> dict[str, Any] | None:
    if validation is None or table.probabilities.shape[1] != 2:
        return None
    if not all(np.isfinite(each.probabilities).all() for each in (validation, table)):
        return None
    return dataclasses.asdict(threshold.chosen(validation, table))


def _mistakes(
    run: Run, table: Table, record_set: RecordSet, extras: ReportExtras
) -> list[dict[str, Any]]:
    predicted, confidence = table.predicted, table.probabilities.max(1)
    return [
        {
            "row": row,
            "key": table.keys[row],
            "domain": table.domains[row],
            "true": run.class_names[table.labels[row]],
            "predicted": run.class_names[predicted[row]],
            "probability": float(confidence[row]),
            "probability_of_true": float(table.probabilities[row, table.labels[row]]),
            "neighbours": _neighbours(run, record_set, extras.near.get(row, ())),
        }
        for row in _mistaken_rows(table)
    ]


def _neighbours(
    run: Run, record_set: RecordSet, near: Sequence[neighbours.Neighbour]
) -> list[dict[str, Any]]:
    if not near:
        return []
    index = record_set.index(run.train_split)
    return [
        {
            "row": each.row,
            "key": index.key(each.row),
            "class": run.class_names[index.label[each.row]],
            "similarity": each.similarity,
        }
        for each in near
    ]
