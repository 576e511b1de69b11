"""Scores of probabilities beside scikit-learn, and intervals that cover."""

import numpy as np
import pytest
from sklearn import metrics as reference

from models.metrics import calibration


def _answers(rng, count, num_classes=4, sharpness=2.0, digits=None):
    """Labels, and probabilities that are right: the labels are drawn from them."""
    logits = rng.normal(size=(count, num_classes)) * sharpness
    values = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (values.cumsum(1) < rng.random((count, 1))).sum(1).clip(0, num_classes - 1)
    return labels, values if digits is None else values.round(digits)


@pytest.mark.parametrize("digits", [None, 1])  # 1: many equal values
def test_scores_are_those_of_scikit_learn(digits):
    labels, values = _answers(np.random.default_rng(0), 400, digits=digits)
    found = calibration.scores(labels, values)
    truth = np.eye(4)[labels]
    areas = [reference.roc_auc_score(truth[:, c], values[:, c]) for c in range(4)]
    precisions = [reference.average_precision_score(truth[:, c], values[:, c]) for c in range(4)]
    assert found["roc_auc"].value == pytest.approx(np.mean(areas))
    assert found["pr_auc"].value == pytest.approx(np.mean(precisions))
    assert found["brier"].value == pytest.approx(((values - truth) ** 2).sum(1).mean())
    if digits is None:
        assert found["log_loss"].value == pytest.approx(reference.log_loss(labels, values))


def test_chance_is_what_ignorance_scores():
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 3000, p=[0.6, 0.3, 0.1])
    shares = np.bincount(labels) / 3000
    found = calibration.scores(labels, np.tile(shares, (3000, 1)))
    for name in ("log_loss", "brier", "roc_auc", "pr_auc"):
        assert found[name].value == pytest.approx(found[name].chance), name


def test_right_probabilities_have_the_calibration_error_of_chance_and_no_more():
    labels, values = _answers(np.random.default_rng(2), 2000)
    right = calibration.scores(labels, values)["calibration_error"]
    assert right.low < right.chance < right.high
    sure = values**3 / (values**3).sum(1, keepdims=True)
    wrong = calibration.scores(labels, sure)["calibration_error"]
    assert wrong.low > 3 * wrong.chance


def test_bins_hold_every_image_once():
    labels, values = _answers(np.random.default_rng(3), 500)
    values[0], values[1] = [1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]
    bins = calibration.reliability(labels, values)
    assert sum(each.count for each in bins) == 500
    assert bins[-1].count and bins[3].low < 0.25 <= bins[3].high and bins[3].count
    for each in bins:
        assert not each.count or each.low < each.confidence <= each.high
        assert each.interval[0] <= each.accuracy <= each.interval[1]


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(4)
    truth = calibration.scores(*_answers(rng, 50_000))
    names = ("log_loss", "brier", "roc_auc", "pr_auc")
    covered = dict.fromkeys(names, 0)
    for _ in range(100):
        found = calibration.scores(*_answers(rng, 300))
        for name in names:
            covered[name] += found[name].low <= truth[name].value <= found[name].high
    assert all(count >= 88 for count in covered.values()), covered


def test_images_of_one_group_count_as_one():
    labels, values = _answers(np.random.default_rng(5), 100)
    many = np.repeat(labels, 9), np.repeat(values, 9, axis=0), np.repeat(np.arange(100), 9)
    once, copied, alone = (calibration.scores(*a) for a in ((labels, values), many, many[:2]))
    for name in ("log_loss", "roc_auc"):
        widths = [each[name].high - each[name].low for each in (once, copied, alone)]
        assert widths[1] == pytest.approx(widths[0], rel=0.25)
        assert widths[2] < widths[0] / 2


@pytest.mark.parametrize(
    ("labels", "values"),
    [([0, 0], [[1.0, 0.0], [1.0, 0.0]]), ([1], [[0.5, 0.5]]), ([0, 1], [[0.0, 1.0], [1.0, 0.0]])],
)
def test_odd_tables_have_scores(labels, values):
    found = calibration.scores(np.array(labels), np.array(values))
    assert np.isfinite(found["log_loss"].value)
    assert np.isnan(found["roc_auc"].value) == (len(set(labels)) == 1)


@pytest.mark.parametrize("num_groups", [1, 2, 10])
def test_a_test_without_mistakes_is_not_certain(num_groups):
    labels = np.arange(40) % 2
    sure = np.where(np.eye(2)[labels] == 1, 0.99, 0.01)
    for each in calibration.scores(labels, sure, np.arange(40) % num_groups).values():
        assert each.low < each.high and each.low <= each.value <= each.high
    assert calibration.scores(labels, sure)["roc_auc"].low < 0.99


def test_what_is_not_finite_has_no_score():
    labels, values = np.array([0, 1, 1]), np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]])
    assert all(np.isnan(each.value) for each in calibration.scores(labels, values).values())
    assert sum(each.count for each in calibration.reliability(labels, values)) == 2
