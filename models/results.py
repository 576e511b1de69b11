"""What a finished run leaves of a split: predictions, report.json, report.html."""

import os
from typing import Any

import numpy as np

from models import evaluation, predictions, report, runs
from records.record_set import RecordSet


def write(
    run: runs.Run, opened: RecordSet, split: str, probabilities: np.ndarray, output: str
) -> dict[str, Any]:
    """Writes predictions and report of a split to a folder; returns what `report.json` says.

    Args:
        run: that predicted.
        opened: the records.
        split: name of the split.
        probabilities: float32 [rows of the split, classes].
        output: folder, made if missing.
    """
    os.makedirs(output, exist_ok=True)
    table = evaluation.table(opened, split, probabilities)
    predictions.write(table, run.class_names, predictions.path(output, split))
    said = report.contents(run, opened, split, table)
    path = report.write(said, opened, split, output)
    print("\n".join([*report.headline(said), f"report: {path}"]))
    return said
