"""`report.json` and one self-contained `report.html` of what a report says."""

import base64
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models import run_folder
from models.reporting import report
from records.common import atomic, html, svg
from records.format.record_set import RecordSet
from records.split import folds

_TEMPLATE = os.path.join(os.path.dirname(__file__), "report.html.j2")
_MAIN_SPLITS = ("test", folds.POOLED)
_EDGE = 160  # pixels of a picture at most; two on a sharp screen
_CARDS = {
    "accuracy": ("Accuracy", "hits over all images"),
    "macro_f1": ("Macro F1", "plain mean of F1 over the classes"),
    "balanced_accuracy": ("Balanced accuracy", "plain mean of recall over the classes"),
}
_MORE = {
    "weighted_f1": ("Weighted F1", "mean of F1, each class by its images"),
    "mcc": ("Matthews correlation", "of labels and predictions, −1 to 1"),
    "log_loss": ("Log loss", "nats; lower is better"),
    "brier": ("Brier score", "square distance to the truth, 0 to 2; lower is better"),
    "calibration_error": ("Calibration error", "between confidence and accuracy; lower is better"),
    "roc_auc": ("ROC-AUC", "each class against the rest, plain mean"),
    "pr_auc": ("PR-AUC", "average precision of each class, plain mean"),
}
_MOST_IN_A_TABLE = 60  # classes; of more the largest confusions are listed
_CHARTS = (
    ("Loss", ("loss", "training"), ("val_loss", "validation")),
    ("Accuracy", ("accuracy", "training"), ("val_accuracy", "validation")),
    ("Learning rate", ("learning_rate", "learning rate")),
)


def write(
    said: Mapping[str, Any],
    record_set: RecordSet,
    split: str,
    folder: str,
    *,
    augmented: str = "",
) -> str:
    """Writes `report.json` and `report.html`, each whole or not at all; returns the page's path.

    Of another split than `test` they are named after it, `report-<split>.html`.

    Args:
        said: of `report.contents`.
        record_set: the records, for pictures.
        split: that was evaluated.
        folder: for the files.
        augmented: path of a PNG of what the model was shown, if there is one.
    """
    name = "report" if split in _MAIN_SPLITS else f"report-{split}"
    path = os.path.join(folder, f"{name}.html")
    data = atomic.json_bytes(_plain(said), indent=1)
    atomic.write_whole(os.path.join(folder, f"{name}.json"), data)
    page = html.render(
        _TEMPLATE,
        said=said,
        run=said["run"],
        flags=[run_folder.flag(name, value) for name, value in said["run"]["flags"].items()],
        cards=[(*_CARDS[name], said[name]) for name in _CARDS],
        more=[(*_MORE[name], said[name]) for name in _MORE if said[name]],
        most_in_a_table=_MOST_IN_A_TABLE,
        confusions=_confusions(said),
        mistakes=_pictured(said, record_set, split),
        reliability=svg.reliability_chart(said["reliability"]),
        charts=[_chart(said["run"]["history"], *spec) for spec in _CHARTS],
        augmented=_png(augmented),
    )
    atomic.write_whole(path, page)
    return path


def _confusions(said: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """Returns true and predicted class, images and share of the row of the largest confusions."""
    matrix, names = np.array(said["confusion"]), said["class_names"]
    total = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:_MOST_IN_A_TABLE]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        (names[t], names[n], int(matrix[t, n]), matrix[t, n] / total[t])
        for t, n in pairs
        if matrix[t, n]
    ]


def _plain(value: Any) -> Any:
    """Returns a value with None for what is no finite number, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pictured(
    said: Mapping[str, Any], record_set: RecordSet, split: str
) -> list[tuple[Mapping[str, Any], str, list[tuple[Mapping[str, Any], str]]]]:
    """Returns the first mistakes, each with its picture and its neighbours with theirs."""
    of_training = said["run"]["train_split"]
    return [
        (
            mistake,
            html.picture(record_set.pixels(split, mistake["row"]), most=_EDGE),
            [
                (each, html.picture(record_set.pixels(of_training, each["row"]), most=_EDGE // 2))
                for each in mistake["neighbours"]
            ],
        )
        for mistake in said["mistakes"][: report.MOST_PICTURES]
    ]


def _chart(
    history: Sequence[Mapping[str, float]], title: str, *columns: tuple[str, str]
) -> tuple[str, str]:
    series = [svg.Series(name, [line[key] for line in history]) for key, name in columns]
    return title, svg.line_chart(title, series)


def _png(path: str) -> str:
    """Returns a PNG file as a data URI, nothing if there is none."""
    if not path or not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        return "data:image/png;base64," + base64.b64encode(file.read()).decode()
