"""A table of predictions to `report.json` and one self-contained `report.html`."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models import metrics, runs
from models.evaluation import Table
from models.runs import Run
from records import charts, files, folds, pages
from records.record_set import RecordSet

_TEMPLATE = os.path.join(os.path.dirname(__file__), "report.html.j2")
_MAX_PICTURES = 60
_AVERAGES = {
    "accuracy": ("Accuracy", "hits over all images; Wilson interval"),
    "macro_f1": ("Macro F1", "plain mean of F1 over the classes; posterior interval"),
    "balanced_accuracy": (
        "Balanced accuracy",
        "plain mean of recall over the classes; posterior interval",
    ),
}


def contents(run: Run, record_set: RecordSet, split: str, table: Table) -> dict[str, Any]:
    """Returns what `report.json` says, as plain values.

    `trained_on` counts evaluated images that stand in the training split (None: unknown);
    `accuracy`, `macro_f1` and `balanced_accuracy` each hold `value`, `low`, `high`, `count` and
    `chance`; `confusion` counts images, true classes down and predicted ones across; `mistakes`
    come with the most confident first.
    """
    matrix, info = table.confusion, record_set.manifest
    trained_on = runs.num_trained_on(run, record_set, split)
    ratios = metrics.per_class(matrix)
    return {
        "split": split,
        **{name: dataclasses.asdict(s) for name, s in metrics.scores(matrix).items()},
        "log_loss": metrics.log_loss(table.labels, table.probabilities),
        "majority_share": float(matrix.sum(1).max() / matrix.sum()),
        "chance_z": metrics.chance_z(matrix),
        "verdict": _verdict(run, split, table) + _warning(run, record_set, split, trained_on),
        "trained_on": trained_on,
        "class_names": list(run.class_names),
        "confusion": matrix.tolist(),
        "per_class": {
            name: {key: _plain(values[label]) for key, values in ratios.items()}
            for label, name in enumerate(run.class_names)
        },
        "domains": _domains(table),
        "mistakes": _mistakes(run, table),
        "splits": {
            name: dict(zip(run.class_names, entry.class_counts, strict=True))
            for name, entry in info.splits.items()
        },
        "accounting": info.accounting,
        "reasons": info.reasons,
        "records_digest": info.digest,
        "run": dataclasses.asdict(run),
    }


def write(said: Mapping[str, Any], record_set: RecordSet, split: str, folder: str) -> str:
    """Writes `report.json` and `report.html`, each whole or not at all; returns the page's path."""
    files.write_whole(os.path.join(folder, "report.json"), files.json_bytes(said, indent=1))
    path = os.path.join(folder, "report.html")
    pictures = [
        pages.picture(record_set.pixels(split, mistake["row"]))
        for mistake in said["mistakes"][:_MAX_PICTURES]
    ]
    files.write_whole(path, _page(said, pictures))
    return path


def headline(said: Mapping[str, Any]) -> list[str]:
    """Returns the three lines that matter."""
    return [
        said["verdict"],
        f"accuracy {metrics.Score(**said['accuracy'])}",
        f"macro F1 {metrics.Score(**said['macro_f1'])}",
    ]


def _verdict(run: Run, split: str, table: Table) -> str:
    matrix = table.confusion
    count, right = int(matrix.sum()), int(np.trace(matrix))
    named, z = np.flatnonzero(matrix.sum(0)), metrics.chance_z(matrix)
    where = "all folds" if split == folds.POOLED else split
    said = f"{run.model} gets {right:,} of {count:,} images of {where} right ({right / count:.1%})"
    if len(named) == 1:
        return f"{said}: it calls every image {run.class_names[named[0]]}, a collapse to one class"
    if abs(z) < 3:
        return f"{said}: consistent with predictions unrelated to the images (z = {z:.2f})"
    guessed = float(np.trace(metrics.if_unrelated(matrix)))
    if z < 0:
        return f"{said}: fewer than the {guessed:,.0f} of chance, so the labels may be swapped"
    return f"{said}; predictions unrelated to the images would get about {guessed:,.0f}"


def _warning(run: Run, record_set: RecordSet, split: str, trained_on: int | None) -> str:
    if trained_on is None:
        return " (the records of the training are gone: whether it saw these images is unknown)"
    if trained_on:
        return f" (it was trained on {trained_on:,} of these images)"
    if record_set.manifest.digest == run.records_digest and split == run.validation_split:
        return " (this split chose the epoch that was kept)"
    return ""


def _domains(table: Table) -> dict[str, dict[str, Any]]:
    result = {}
    domains = np.array(table.domains)
    for name in sorted(set(table.domains)):
        hits = (table.predicted == table.labels)[domains == name]
        low, high = metrics.wilson(int(hits.sum()), len(hits))
        result[name] = {"value": float(hits.mean()), "low": low, "high": high, "count": len(hits)}
    return result


def _mistakes(run: Run, table: Table) -> list[dict[str, Any]]:
    predicted = table.predicted
    wrong = np.flatnonzero(predicted != table.labels)
    confidence = table.probabilities.max(1)
    return [
        {
            "row": int(row),
            "key": table.keys[row],
            "domain": table.domains[row],
            "true": run.class_names[table.labels[row]],
            "predicted": run.class_names[predicted[row]],
            "probability": float(confidence[row]),
            "probability_of_true": float(table.probabilities[row, table.labels[row]]),
        }
        for row in wrong[np.argsort(-confidence[wrong], kind="stable")].tolist()
    ]


def _plain(value: Any) -> int | float:
    return int(value) if np.issubdtype(type(value), np.integer) else float(value)


def _page(said: Mapping[str, Any], pictures: Sequence[str]) -> bytes:
    return pages.render(
        _TEMPLATE,
        said=said,
        run=said["run"],
        scores=[(*_AVERAGES[name], said[name]) for name in _AVERAGES],
        pictures=list(zip(said["mistakes"], pictures, strict=False)),
        charts=[_chart(said["run"]["history"], *spec) for spec in _CHARTS],
    )


_CHARTS = (
    ("Loss", ("loss", "training"), ("val_loss", "validation")),
    ("Accuracy", ("accuracy", "training"), ("val_accuracy", "validation")),
    ("Learning rate", ("learning_rate", "learning rate")),
)


def _chart(
    history: Sequence[Mapping[str, float]], title: str, *columns: tuple[str, str]
) -> tuple[str, str]:
    series = [charts.Series(name, [line[key] for line in history]) for key, name in columns]
    return title, charts.line_chart(title, series)
