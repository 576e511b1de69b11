"""Predictions of all folds as one report, in the order of the records."""

import os

import numpy as np
import pytest

from models import run_folder
from models.metrics.table import Table
from models.multirun import cross_validation, label_review
from models.reporting import predictions
from records.split import folds
from tests import fakes
from tests.models import made


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"dark": 20, "light": 20})


def fold_runs(records, root, wrong):
    """Writes two runs that predict every other image each; `wrong` is the row of one mistake."""
    pooled = folds.pooled(records)
    index = pooled.index(folds.POOLED)
    predicted = index.label.copy()
    predicted[wrong] = 1 - predicted[wrong]
    found = []
    for fold in range(2):
        rows = np.arange(fold, len(index), 2)[::-1]
        keys = tuple(index.key(row) for row in rows)
        sure = np.eye(2, dtype=np.float32)[predicted[rows]] * 0.8 + 0.1
        table = Table(keys, ("",) * len(keys), index.group[rows], index.label[rows], sure)
        folder = str(root / f"fold-{fold:02d}")
        os.mkdir(folder)
        run_folder.save(made.run(records, fold=(2, fold)), folder)
        predictions.write(table, records.manifest.class_names, predictions.path(folder, "test"))
        found.append(folder)
    return found, index.key(wrong)


def test_every_image_counts_once_and_the_mistake_is_a_label_issue(records, tmp_path, capsys):
    runs, key = fold_runs(records, tmp_path, wrong=5)
    said = cross_validation.write(records, runs, str(tmp_path))
    assert said["accuracy"]["count"] == 40 and [each["key"] for each in said["mistakes"]] == [key]
    assert "39 of 40 images of all folds correctly" in said["verdict"]
    names = {"report.html", "predictions-pooled.csv", label_review.LABEL_ISSUES, label_review.PAGE}
    assert names <= {path.name for path in tmp_path.iterdir()}
    printed = capsys.readouterr().out
    assert "suspected label errors, the most certain first (all 1 in " in printed
    assert f"  {key}: labelled " in printed and "(10.0%), predicted" in printed


def test_the_report_has_no_facts_of_a_single_run(records, tmp_path):
    runs, _ = fold_runs(records, tmp_path, wrong=0)
    run = cross_validation.write(records, runs, str(tmp_path))["run"]
    assert run["history"] == () and run["sampling"] == {} and "fold" not in run["flags"]
