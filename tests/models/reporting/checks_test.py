"""Planted faults, each told by its name, and a good run that has none."""

import dataclasses

import numpy as np
import pytest

from models.metrics import chance, confusion
from models.metrics.table import Table
from models.reporting import checks
from tests.models import made

GOOD = made.run()


def table(matrix):
    """One line for each counted image."""
    labels, predicted = np.repeat(np.argwhere(np.ones_like(matrix)), np.ravel(matrix), axis=0).T
    count = len(labels)
    keys = tuple(map(str, range(count)))
    sure = np.eye(3, dtype=np.float32)[predicted]
    return Table(keys, ("",) * count, np.arange(count), labels.astype(np.int32), sure)


RIGHT = [[30, 2, 1], [1, 40, 2], [2, 1, 50]]
ONE_CLASS = [[0, 0, 30], [0, 0, 40], [0, 0, 50]]


def found(matrix, run=GOOD, evaluated=None, **more):
    evaluated = evaluated or table(matrix)
    counts = evaluated.confusion
    here = confusion.scores(counts)["balanced_accuracy"]
    known = chance.levels(counts, evaluated.images)
    options = {"trained_on": 0, **more}
    warnings = checks.warnings(checks.Evaluation(run, evaluated, known, here, **options))
    return {each["name"]: each for each in warnings}


@pytest.mark.parametrize(
    "matrix",
    [
        RIGHT,
        [[960, 0, 0], [0, 30, 0], [0, 0, 10]],  # most images are of one class
        [[955, 5, 0], [8, 22, 0], [0, 0, 10]],
        [[50, 0, 0], [0, 0, 0], [0, 0, 0]],  # all are
    ],
)
def test_a_good_run_has_none(matrix):
    assert found(matrix) == {}


def test_other_shares_of_the_classes_are_no_gap():
    trained = np.array([[70, 30, 0], [2, 98, 0], [0, 0, 100]])  # recalls as below
    assert found([[630, 270, 0], [2, 98, 0], [0, 0, 100]], train_confusion=trained) == {}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([3], "1 image has non-finite probabilities and is counted as class 0: 3; float32"),
        (
            [3, 5],
            "2 images have non-finite probabilities and are counted as class 0: 3, 5",
        ),
        (range(7), "are counted as class 0: 0, 1, 2, 3, 4 and 2 more; float32"),
    ],
)
def test_what_is_not_finite_is_named(rows, said):
    evaluated = table(RIGHT)
    evaluated.probabilities[list(rows)] = np.nan
    assert said in found(RIGHT, evaluated=evaluated)["not_finite"]["said"]


def test_a_class_that_is_never_named_is_told_beside_swapped_ones():
    told = found([[0, 60, 0], [60, 0, 0], [2, 2, 0]])
    assert set(told) == {"swapped", "never_named"}


def with_last(**values):
    return dataclasses.replace(GOOD, history=(GOOD.history[0], {**GOOD.history[1], **values}))


@pytest.mark.parametrize(
    ("matrix", "run", "more", "name", "said"),
    [
        (ONE_CLASS, GOOD, {}, "collapse", "100.0% of images are predicted as c, 41.7% are c"),
        ([[10, 10, 10]] * 3, GOOD, {}, "unrelated", "consistent with chance"),
        (
            [[1, 40, 0], [39, 2, 0], [0, 1, 50]],
            GOOD,
            {},
            "swapped",
            "a is predicted as b 40 times, as itself 1",
        ),
        (RIGHT, GOOD, {"trained_on": 7}, "seen", "the model was trained on 7 of these images"),
        (RIGHT, GOOD, {"trained_on": None}, "seen", "the training records are missing"),
        (
            [[25, 9, 9], [9, 25, 9], [9, 9, 25]],
            GOOD,
            {"train_confusion": np.diag([50, 50, 50])},
            "gap",
            "is 1.000 on unaugmented training images and 0.581 here; more images",
        ),
        (RIGHT, with_last(skipped=3), {}, "skipped", "3 steps had a non-finite loss"),
        ([[30, 0, 0], [0, 30, 0], [4, 5, 0]], GOOD, {}, "never_named", "never predicted: c"),
    ],
)
def test_planted_faults_are_named(matrix, run, more, name, said):
    planted = found(matrix, run, **more)
    assert said in planted[name]["said"]
    assert set(planted) - {name} == ({"unrelated"} if name == "collapse" else set())


def sampled(**values):
    return dataclasses.replace(GOOD, sampling={**GOOD.sampling, **values})


@pytest.mark.parametrize(
    ("cause", "run", "said"),
    [
        ("learning rate", with_last(learning_rate=0.2), "100.0 times the default"),
        ("learning rate", with_last(loss=3.0), "the loss went from 1 to 3"),
        ("learning rate", with_last(skipped=1), "steps skipped: 1"),
        ("batch normalization on little data", sampled(steps_per_epoch=3), "6 steps of 64"),
        ("batch normalization on little data", sampled(batch_size=4), "100 steps of 4"),
        ("imbalance", sampled(draws=[900, 9, 90]), "100.0 times as often"),
        ("labels", with_last(accuracy=0.99), "the training images were learned"),
    ],
)
def test_the_cause_of_a_collapse_is_looked_for(cause, run, said):
    quiet = dataclasses.replace(with_last(accuracy=0.4), sampling=GOOD.sampling)
    for each, planted in ((run, True), (quiet, False)):
        warning = found(ONE_CLASS, each, has_batch_norm=True)["collapse"]
        causes = {cause["name"]: cause for cause in warning["causes"]}
        assert causes[cause]["found"] == planted, each
        assert not planted or said in causes[cause]["said"]
    assert not causes["input range"]["found"] and "0..1" in causes["input range"]["said"]


def test_the_pooled_folds_have_no_history():
    pooled = dataclasses.replace(GOOD, history=(), best_epoch=0)
    warnings = found(ONE_CLASS, pooled)
    assert set(warnings) == {"collapse", "unrelated"}
    assert not any(warning["causes"] for warning in warnings.values())


def test_possible_causes_come_with_the_first_warning_alone():
    warnings = found(ONE_CLASS)
    assert len(warnings["collapse"]["causes"]) == 5 and warnings["unrelated"]["causes"] == []
