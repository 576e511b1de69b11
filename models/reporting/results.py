"""What a finished run leaves of a split: predictions, report.json, report.html."""

import os
from typing import Any

from models import run_folder
from models.metrics.table import Table
from models.reporting import page, predictions, report
from records.common import cli
from records.format.record_set import RecordSet


def write(
    run: run_folder.Run,
    opened: RecordSet,
    split: str,
    table: Table,
    output: str,
    *,
    beside: report.Beside = report.NOTHING,
    augmented: str = "",
) -> dict[str, Any]:
    """Writes predictions and report of a split to a folder; returns what `report.json` says.

    Args:
        run: that predicted.
        opened: the records.
        split: name of the split.
        table: the predictions of all its rows, in their order.
        output: folder, made if missing.
        beside: what else the report can say.
        augmented: path of a picture of what the model was shown, if there is one.
    """
    os.makedirs(output, exist_ok=True)
    predictions.write(table, run.class_names, predictions.path(output, split))
    said = report.contents(run, opened, split, table, beside)
    path = page.write(said, opened, split, output, augmented=augmented)
    for line in [*report.headline(said), f"report: {path}"]:
        print(cli.printable(line))
    return said
