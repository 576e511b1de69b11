"""The files of an evaluation: `predictions-<split>.csv`, `report.json`, `report.html`."""

import base64
import math
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from models import run_folder
from models.metrics.table import Table
from models.reporting import checks, predictions, report
from records.common import atomic, cli, html, svg
from records.format.record_set import RecordSet
from records.split import folds

_TEMPLATE = os.path.join(os.path.dirname(__file__), "report.html.j2")
_MAIN_SPLITS = ("test", folds.POOLED)
_EDGE = 160  # maximal side of an image, in pixels
_CARDS = {
    "accuracy": ("Accuracy", "correct predictions over all images"),
    "macro_f1": ("Macro F1", "plain mean of F1 over the classes"),
    "balanced_accuracy": ("Balanced accuracy", "plain mean of recall over the classes"),
}
_MORE = {
    "weighted_f1": ("Weighted F1", "mean of F1, each class weighted by its images"),
    "mcc": ("Matthews correlation", "between labels and predictions, −1 to 1"),
    "log_loss": ("Log loss", "nats; lower is better"),
    "brier": ("Brier score", "squared distance to the truth, 0 to 2; lower is better"),
    "calibration_error": ("Calibration error", "gap of confidence to accuracy; lower is better"),
    "roc_auc": ("ROC-AUC", "one class against the rest, plain mean over the classes"),
    "pr_auc": ("PR-AUC", "average precision, plain mean over the classes"),
}
_MAX_CLASSES = 60  # in a confusion matrix; with more, the largest confusions are listed
_CHARTS = (
    ("Loss", ("loss", "training"), ("val_loss", "validation")),
    ("Accuracy", ("accuracy", "training"), ("val_accuracy", "validation")),
    ("Learning rate", ("learning_rate", "learning rate")),
)


def write_results(
    run: run_folder.Run,
    opened: RecordSet,
    split: str,
    table: Table,
    output: str,
    *,
    extras: report.ReportExtras = report.NO_EXTRAS,
    augmented: str = "",
) -> dict[str, Any]:
    """Writes predictions and report of a split, prints the summary, returns the report's contents.

    Args:
        table: the run's predictions of all rows of the split, in their order.
        output: folder for the files, created if missing.
        augmented: path of a PNG of augmented training images, shown if it exists.
    """
    os.makedirs(output, exist_ok=True)
    predictions.write(table, run.class_names, predictions.path(output, split))
    contents = report.contents(run, opened, split, table, extras)
    path = write(contents, opened, split, output, augmented=augmented)
    for line in [*report.headline(contents), f"report: {path}"]:
        print(cli.printable(line))
    return contents


def write(
    contents: Mapping[str, Any],
    record_set: RecordSet,
    split: str,
    folder: str,
    *,
    augmented: str = "",
) -> str:
    """Writes `report.json` and `report.html`, each atomically; returns the page's path.

    For a split other than `test` their names contain it: `report-<split>.html`. `contents` are from
    `report.contents`, `augmented` is as in `write_results`.
    """
    name = "report" if split in _MAIN_SPLITS else f"report-{split}"
    path = os.path.join(folder, f"{name}.html")
    data = atomic.json_bytes(_plain(contents), indent=1)
    atomic.write_whole(os.path.join(folder, f"{name}.json"), data)
    # One file without scripts, for readers without a network, and for mail clients.
    page = html.render(
        _TEMPLATE,
        report=contents,
        run=contents["run"],
        flags=[run_folder.flag(name, value) for name, value in contents["run"]["flags"].items()],
        cards=[(*_CARDS[name], contents[name]) for name in _CARDS],
        more=[(*_MORE[name], contents[name]) for name in _MORE if contents[name]],
        titles=checks.TITLES,
        max_classes=_MAX_CLASSES,
        confusions=_confusions(contents),
        mistakes=_pictured(contents, record_set, split),
        reliability=svg.reliability_chart(contents["reliability"]),
        charts=[_chart(contents["run"]["history"], *spec) for spec in _CHARTS],
        augmented=_png(augmented),
    )
    atomic.write_whole(path, page)
    return path


def _confusions(contents: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """Returns the largest confusions: true and predicted class, images, share of the true class."""
    matrix, names = np.array(contents["confusion"]), contents["class_names"]
    total = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:_MAX_CLASSES]
    pairs = [divmod(int(cell), len(names)) for cell in order]
    return [
        (names[true], names[other], int(matrix[true, other]), matrix[true, other] / total[true])
        for true, other in pairs
        if matrix[true, other]
    ]


def _plain(value: Any) -> Any:
    """Returns a value with None in place of non-finite numbers, which JSON lacks."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pictured(
    contents: Mapping[str, Any], record_set: RecordSet, split: str
) -> list[tuple[Mapping[str, Any], str, list[tuple[Mapping[str, Any], str]]]]:
    """Returns the first mistakes, each with its image, and its neighbours with their images."""
    train_split = contents["run"]["train_split"]
    return [
        (
            mistake,
            html.picture(record_set.pixels(split, mistake["row"]), max_edge=_EDGE),
            [
                (
                    each,
                    html.picture(record_set.pixels(train_split, each["row"]), max_edge=_EDGE // 2),
                )
                for each in mistake["neighbours"]
            ],
        )
        for mistake in contents["mistakes"][: report.MAX_PICTURES]
    ]


def _chart(
    history: Sequence[Mapping[str, float]], title: str, *columns: tuple[str, str]
) -> tuple[str, str]:
    series = [svg.Series(name, [line[key] for line in history]) for key, name in columns]
    return title, svg.line_chart(title, series)


def _png(path: str) -> str:
    """Returns a PNG file as a data URI, empty if there is none."""
    if not path or not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        return "data:image/png;base64," + base64.b64encode(file.read()).decode()


def pictures_by_key(opened: RecordSet, split: str, keys: Collection[str]) -> dict[str, str]:
    """Returns the images with these keys, as data URIs; unknown keys are omitted."""
    index = opened.index(split)
    rows = {key: row for row in range(len(index)) if (key := index.key(row)) in keys}
    return {
        key: html.picture(opened.pixels(split, row), max_edge=_EDGE) for key, row in rows.items()
    }
