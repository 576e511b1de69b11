"""Pooled predictions of all folds: every image predicted by the run not trained on it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from models import run_folder
from models.multirun import label_review
from models.reporting import page, predictions, predictor
from records.common import cli
from records.format.record_set import RecordSet
from records.split import folds

_NUM_PRINTED = 5


def write(opened: RecordSet, run_dirs: Sequence[str], output: str) -> dict[str, Any]:
    """Writes predictions and report of all images, and the suspected label errors.

    The scores are those of the pooled predictions, each image once; `label_review` describes the
    files of label issues. Returns the contents of `report.json`.

    Args:
        opened: the records, not a view of a fold.
        run_dirs: the run folders of all folds.
        output: created if missing.
    """
    everything = folds.pooled(opened)
    # Scored once over all images: F1 averaged over folds is biased if folds have few images of a
    # class (Forman and Scholz 2010, doi:10.1145/1882471.1882479).
    table = predictions.pooled([predictions.load(folder, "test") for folder in run_dirs])
    position = {key: number for number, key in enumerate(table.keys)}
    index = everything.index(folds.POOLED)
    order = [position[index.key(row)] for row in range(len(index))]
    first = run_folder.load(run_dirs[0])
    # The report keeps the settings that all folds share, not the results of a single run.
    shared = {name: value for name, value in first.flags.items() if name != "fold"}
    run = dataclasses.replace(
        first,
        history=(),
        best_epoch=0,
        train_split="all other folds",
        sampling={},
        flags={**shared, "run_dir": output},
    )
    pooled = predictor.table(everything, folds.POOLED, table.probabilities[np.array(order)])
    contents = page.write_results(run, everything, folds.POOLED, pooled, output)
    issues = predictions.label_issues(table, first.class_names)
    listed, overrides, pictures = label_review.write(issues, everything, folds.POOLED, output)
    print(f"suspected label errors, the most certain first (all {len(issues):,} in {listed}):")
    for issue in issues[:_NUM_PRINTED]:
        print(
            cli.printable(
                f"  {issue['key']}: labelled {issue['label']}"
                f" ({issue['probability_of_label']:.1%}), predicted {issue['predicted']}"
                f" ({issue['probability_of_predicted']:.1%})"
            )
        )
    print(f"their images: {pictures}; corrections to edit for the next build: {overrides}")
    return contents
