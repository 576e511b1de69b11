"""What a report says of a table of predictions, as plain values: `report.json`."""

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

MOST_PICTURES = 60  # mistakes that the page shows
_MAIN = {"accuracy": "accuracy", "macro_f1": "macro F1"}


@dataclasses.dataclass(frozen=True)
class Beside:
    """What a report can say more, if it is known.

    Attributes:
        validation: of the images that a threshold is chosen on; None but for two classes.
        trained: confusion of unchanged images of the training split.
        num_compared: training images among which neighbours were looked for.
        near: neighbours of evaluated rows, the nearest first.
        normalized: whether the model has batch normalization.
        shares: weights of classes in another place, by name, of which scores are wanted too.
    """

    validation: Table | None = None
    trained: np.ndarray | None = None
    num_compared: int = 0
    near: Mapping[int, Sequence[neighbours.Neighbour]] = dataclasses.field(default_factory=dict)
    normalized: bool = False
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)


NOTHING = Beside()


def contents(
    run: Run, record_set: RecordSet, split: str, table: Table, beside: Beside = NOTHING
) -> dict[str, Any]:
    """Returns what `report.json` says, as plain values.

    Each score holds `value`, `low`, `high` (95 %), `count` and `chance`: those of `metrics.SCORES`
    and of `probabilities.scores`, None where it cannot be told. `trained_on` counts evaluated
    images that stand in the training split (None: unknown); `confusion` counts images, true classes
    down and predicted ones across; `mistakes` come with the most confident first.
    """
    matrix, trained_on = table.confusion, run_folder.num_trained_on(run, record_set, split)
    known = chance.of(matrix, table.images)
    of_labels = confusion.scores(matrix, table.images)
    of_probabilities = calibration.scores(table.labels, table.probabilities, table.groups)
    found = checks.of(
        run,
        table,
        known,
        here=of_labels["balanced_accuracy"],
        trained_on=trained_on,
        trained=beside.trained,
        normalized=beside.normalized,
    )
    return {
        "split": split,
        **_plain_scores(of_labels),
        **_plain_scores(of_probabilities),
        "other_shares": _of_other_shares(run, table, beside.shares),
        "averages": _averages(matrix),
        "groups": table.images.num_groups,
        "chance": {**dataclasses.asdict(known), "majority": run.class_names[known.majority]},
        "verdict": _verdict(run, split, table, known) + _warning(run, record_set, split),
        "alarms": [dataclasses.asdict(each) for each in found],
        "trained_on": trained_on,
        "trained": _of_training(beside.trained),
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
        "threshold": _threshold(beside.validation, table),
        "mistakes": _mistakes(run, table, record_set, beside),
        "num_compared": beside.num_compared,
        **_of_records(run, record_set),
        "run": dataclasses.asdict(run),
    }


def _of_records(run: Run, record_set: RecordSet) -> dict[str, Any]:
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


def headline(said: Mapping[str, Any]) -> list[str]:
    """Returns the lines that matter: the verdict, two scores, and what is wrong."""
    return [
        said["verdict"],
        *(f"{name} {Score(**said[key])}" for key, name in _MAIN.items()),
        *_of_another_place(said),
        *(line for alarm in said["alarms"] for line in _alarm_lines(alarm)),
    ]


def _alarm_lines(alarm: Mapping[str, Any]) -> list[str]:
    found = [cause for cause in alarm["causes"] if cause["found"]]
    return [
        f"warning: {alarm['name']}: {alarm['said']}",
        *(f"  look at the {cause['name']}: {cause['said']}" for cause in found),
    ]


def shown(table: Table) -> list[int]:
    """Returns the rows of the mistakes that the page shows, the most confident first."""
    return _wrong(table)[:MOST_PICTURES]


def _wrong(table: Table) -> list[int]:
    rows = np.flatnonzero(table.predicted != table.labels)
    confidence = table.probabilities.max(1)
    return rows[np.argsort(-confidence[rows], kind="stable")].tolist()


def _verdict(run: Run, split: str, table: Table, known: chance.Chance) -> str:
    matrix = table.confusion
    count, right = int(matrix.sum()), int(np.trace(matrix))
    where = "all folds" if split == folds.POOLED else split
    said = f"{run.model} gets {right:,} of {count:,} images of {where} right ({right / count:.1%})"
    named = np.flatnonzero(matrix.sum(0))
    if known.verdict == chance.ONE_CLASS:
        return f"{said}; all are {run.class_names[known.majority]}, so chance cannot be told"
    if len(named) == 1:
        return f"{said}: it calls every image {run.class_names[named[0]]}, a collapse to one class"
    if known.verdict == chance.SWAPPED:
        return f"{said}: {len(known.swapped)} classes seem to bear each other's names"
    if known.verdict == chance.UNRELATED:
        return f"{said}: consistent with unrelated predictions, z = {known.z:.2f}"
    if known.verdict == chance.BARELY:
        return f"{said}: barely more than unrelated predictions would get, z = {known.z:.2f}"
    guessed = known.unrelated.value * count
    if known.verdict == chance.WORSE:
        return f"{said}: fewer than the {guessed:,.0f} of chance, so the labels may be swapped"
    return f"{said}; predictions unrelated to the images would get about {guessed:,.0f}"


def _warning(run: Run, record_set: RecordSet, split: str) -> str:
    chose = split == run.validation_split and run.flags.get("monitor") != "epoch"
    if chose and record_set.manifest.digest == run.records_digest:
        return " (this split chose the epoch that was kept)"
    return ""


def _plain_scores(scores: Mapping[str, Score]) -> dict[str, dict[str, Any] | None]:
    return {
        name: None if math.isnan(score.value) else dataclasses.asdict(score)
        for name, score in scores.items()
    }


def _of_other_shares(run: Run, table: Table, shares: Mapping[str, float]) -> dict[str, Any] | None:
    if not shares:
        return None
    matrix = table.confusion
    weights = targets.named_shares(shares, matrix.sum(1), run.class_names)
    parts = dict(zip(run.class_names, (weights / weights.sum()).tolist(), strict=True))
    scores = confusion.scores(matrix, table.images, shares=weights)
    return {"shares": parts, **_plain_scores(scores)}


def _of_another_place(said: Mapping[str, Any]) -> list[str]:
    other = said["other_shares"]
    if not other:
        return []
    shares = ", ".join(f"{name} {share:.1%}" for name, share in other["shares"].items())
    scores = (f"{name} {Score(**other[key])}" for key, name in _MAIN.items())
    return [f"where the classes are {shares}: {'; '.join(scores)}"]


def _of_training(trained: np.ndarray | None) -> dict[str, Any] | None:
    return None if trained is None else dataclasses.asdict(confusion.scores(trained)["accuracy"])


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
            **{key: _number(values[label]) for key, values in ratios.items()},
            "intervals": {key: pairs[label].tolist() for key, pairs in intervals.items()},
        }
        for label, name in enumerate(run.class_names)
    }


def _number(value: Any) -> int | float:
    return int(value) if np.issubdtype(type(value), np.integer) else float(value)


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
    run: Run, table: Table, record_set: RecordSet, beside: Beside
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
            "neighbours": _neighbours(run, record_set, beside.near.get(row, ())),
        }
        for row in _wrong(table)
    ]


def _neighbours(
    run: Run, record_set: RecordSet, found: Sequence[neighbours.Neighbour]
) -> list[dict[str, Any]]:
    if not found:
        return []
    index = record_set.index(run.train_split)
    return [
        {
            "row": each.row,
            "key": index.key(each.row),
            "class": run.class_names[index.label[each.row]],
            "similarity": each.similarity,
        }
        for each in found
    ]
