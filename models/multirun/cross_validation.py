"""The runs of all folds as one: every image predicted by the run that never saw it."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from models import run_folder
from models.multirun import label_review
from models.reporting import predictions, predictor, results
from records.common import cli
from records.format.record_set import RecordSet
from records.split import folds

SUSPICIOUS = "suspicious.csv"
_SHOWN = 5


def write(opened: RecordSet, run_dirs: Sequence[str], output: str) -> dict[str, Any]:
    """Writes predictions and report of all images, and the list of suspicious labels.

    The report's score is that of the pooled predictions, each image once. `suspicious.csv` lists
    the images whose label their prediction contradicts, the strongest contradiction first;
    `doubts.html` shows them and `overrides.csv` holds the corrections.

    Args:
        opened: the records, not yet dealt into folds.
        run_dirs: of the folds.
        output: folder.

    Returns:
        What `report.json` says.
    """
    everything = folds.pooled(opened)
    table = predictions.pooled([predictions.load(folder, "test") for folder in run_dirs])
    place = {key: number for number, key in enumerate(table.keys)}
    index = everything.index(folds.POOLED)
    order = [place[index.key(row)] for row in range(len(index))]
    first = run_folder.load(run_dirs[0])
    # Facts of a single run have no place in the report of all; what was chosen in common has.
    common = {name: value for name, value in first.flags.items() if name != "fold"}
    run = dataclasses.replace(
        first,
        history=(),
        best_epoch=0,
        train_split="all other folds",
        sampling={},
        flags={**common, "run_dir": output},
    )
    pooled = predictor.table(everything, folds.POOLED, table.probabilities[np.array(order)])
    said = results.write(run, everything, folds.POOLED, pooled, output)
    path = os.path.join(output, SUSPICIOUS)
    found = predictions.suspicious(table, first.class_names)
    predictions.write_suspicious(found, path)
    overrides, page = label_review.write(found, everything, folds.POOLED, output)
    print(f"labels that the predictions contradict most (all {len(found):,} in {path}):")
    for line in found[:_SHOWN]:
        print(
            cli.printable(
                f"  {line['key']}: labelled {line['label']}"
                f" ({line['probability_of_label']:.1%}), predicted {line['predicted']}"
                f" ({line['probability_of_predicted']:.1%})"
            )
        )
    print(f"pictures of them: {page}; corrections to edit, for the next build: {overrides}")
    return said
