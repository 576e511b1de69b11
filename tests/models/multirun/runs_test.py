"""Several trainings: finished ones are not repeated, a failure is named; means of scores."""

import json
import math

import numpy as np
import pytest

from models.metrics.table import Table
from models.multirun import runs
from models.reporting import predictions

NAMES = ("a", "b")


def predicted(folder, right):
    """Writes predictions of four images, of which so many are right."""
    folder.mkdir()
    labels = np.array([0, 1, 0, 1], np.int32)
    called = np.where(np.arange(4) < right, labels, 1 - labels)
    columns = (tuple("wxyz"), ("",) * 4, np.arange(4), labels, np.eye(2, dtype=np.float32)[called])
    predictions.write(Table(*columns), NAMES, predictions.path(str(folder), "test"))
    return str(folder)


def test_a_finished_training_is_not_repeated(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}", "utf-8")
    assert runs.run_many([runs.Job(str(tmp_path), ["--nonsense"])]) == [str(tmp_path)]
    assert capsys.readouterr().out == f"[1/1] {tmp_path}: already finished\n"


def test_a_training_that_fails_is_named(tmp_path):
    with pytest.raises(runs.SeveralError, match="bad failed with exit code 2"):
        runs.run_many([runs.Job(str(tmp_path / "bad"), ["--nonsense=1"])])


def test_the_summary_has_each_run_and_the_interval_of_the_mean(tmp_path):
    folders = [predicted(tmp_path / name, right) for name, right in (("x", 4), ("y", 2))]
    table, path = runs.seed_summary(folders, "test", str(tmp_path))
    with open(path, encoding="utf-8") as file:
        said = json.load(file)
    assert said["runs"] == ["x", "y"] and said["accuracy"]["values"] == [1.0, 0.5]
    assert said["accuracy"]["mean"] == 0.75
    # Student's t of one degree of freedom: 12.7 standard errors, cut at 1.
    assert (said["accuracy"]["low"], said["accuracy"]["high"]) == (0.0, 1.0)
    assert table.splitlines()[1].split()[:2] == ["accuracy", "0.7500"]


def test_one_run_has_no_interval(tmp_path):
    mean = runs.means([predicted(tmp_path / "x", 4)], "test")["accuracy"]
    assert mean.mean == 1.0 and math.isnan(mean.standard_deviation)


def test_missing_predictions_are_named(tmp_path):
    with pytest.raises(predictions.PredictionsError, match="no predictions of 'test' in"):
        runs.means([str(tmp_path)], "test")
