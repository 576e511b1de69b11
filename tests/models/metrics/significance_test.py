"""SciPy as the reference, values worked by hand, and simulated models of known quality."""

import math

import numpy as np
import pytest
from scipy import stats

from models.metrics import confusion, significance
from models.metrics.table import Table


def table_of(labels, predicted, num_classes):
    count, sure = len(labels), np.eye(num_classes, dtype=np.float32)
    return Table(("",) * count, ("",) * count, np.arange(count), labels, sure[predicted])


def simulated(rng, accuracies, *, images=200, classes=4, group_size=1):
    """Returns a table of each model; the images of a group are right or wrong together."""
    labels = np.repeat(rng.integers(0, classes, images // group_size), group_size)
    for accuracy in accuracies:
        wrong = np.repeat(rng.random(images // group_size) > accuracy, group_size)
        predicted = (labels + wrong * rng.integers(1, classes, images)) % classes
        yield table_of(labels, predicted, classes)


def permuted(first, second, statistic=confusion.macro_f1_of, **options):
    return significance.paired_permutation(statistic, [first], [second], **options)


def test_the_difference_is_that_of_the_statistic():
    first, second = simulated(np.random.default_rng(0), (0.9, 0.6))
    found = permuted(first, second, rounds=500)
    expected = confusion.macro_f1_of(first.confusion) - confusion.macro_f1_of(second.confusion)
    assert found == (pytest.approx(expected), 1 / 501)
    assert permuted(second, first, rounds=500) == (pytest.approx(-expected), 1 / 501)


def test_p_is_that_of_all_exchanges():
    # 7 images on which the models differ, all for the first: 2 of 128 exchanges are as extreme.
    labels = np.zeros(30, int)
    other = np.where(np.arange(30) < 7, 1, 0)
    tables = table_of(labels, labels, 2), table_of(labels, other, 2)
    _, p = permuted(*tables, confusion.accuracy_of, rounds=100_000)
    assert p == pytest.approx(2 / 128, abs=0.0015)


def test_equal_predictions_are_no_difference():
    (table,) = simulated(np.random.default_rng(0), (0.8,))
    assert permuted(table, table) == (0.0, 1.0)


def test_rounds_do_not_depend_on_the_size_of_a_block(monkeypatch):
    tables = list(simulated(np.random.default_rng(3), (0.8, 0.75)))
    whole = permuted(*tables, rounds=300)
    monkeypatch.setattr(significance, "_BLOCK_CELLS", 1400)  # 7 rounds
    assert permuted(*tables, rounds=300) == whole


def of_runs(first, second, **options):
    return significance.paired_permutation(confusion.macro_f1_of, first, second, **options)


def test_runs_of_the_same_predictions_are_no_more_evidence_than_one():
    first, second = simulated(np.random.default_rng(3), (0.8, 0.72))
    alone = permuted(first, second)
    assert of_runs([first] * 3, [second] * 3) == pytest.approx(alone)


def test_the_difference_over_runs_is_that_of_their_means():
    rng = np.random.default_rng(4)
    tables = list(simulated(rng, (0.9, 0.8)))
    third = table_of(tables[0].labels, np.roll(tables[0].predicted, 1), 4)
    found, _ = of_runs([tables[0], third], [tables[1], tables[1]], rounds=1)
    values = [float(confusion.macro_f1_of(table.confusion)) for table in (*tables, third)]
    assert found == pytest.approx((values[0] + values[2]) / 2 - values[1])


def test_equal_settings_of_several_runs_differ_in_one_of_twenty_tests():
    rng, rejected = np.random.default_rng(5), 0
    for seed in range(300):
        (first,) = simulated(rng, (0.75,))
        runs = [first, *(rerun(rng, first) for _ in range(5))]
        _, p = of_runs(runs[::2], runs[1::2], rounds=99, seed=seed)
        rejected += p <= 0.05
    assert 0.015 <= rejected / 300 <= 0.09  # a standard deviation is 0.0126


def rerun(rng, table):
    """Returns what another run of the same setting says: other answers to a fifth of the images."""
    again = rng.random(len(table.labels)) < 0.2
    (other,) = simulated(rng, (0.75,))
    moved = (table.labels + other.predicted - other.labels) % 4
    return table_of(table.labels, np.where(again, moved, table.predicted), 4)


def false_positives(*, group_size, grouped):
    rng, rejected = np.random.default_rng(1), 0
    groups = np.arange(200) // group_size if grouped else None
    for seed in range(400):
        tables = simulated(rng, (0.75, 0.75), group_size=group_size)
        _, p = permuted(*tables, groups=groups, rounds=99, seed=seed)
        rejected += p <= 0.05
    return rejected / 400


@pytest.mark.parametrize(("group_size", "grouped"), [(1, False), (5, True)])
def test_equal_models_differ_in_one_of_twenty_tests(group_size, grouped):
    # The standard deviation of the share is 0.011.
    assert 0.02 <= false_positives(group_size=group_size, grouped=grouped) <= 0.085


def test_groups_that_are_taken_apart_make_differences_of_nothing():
    assert false_positives(group_size=5, grouped=False) > 0.2


def test_a_better_model_is_found():
    rng, found = np.random.default_rng(2), 0
    for seed in range(50):
        tables = simulated(rng, (0.9, 0.7))
        _, p = permuted(*tables, rounds=199, seed=seed)
        found += p <= 0.05
    assert found >= 45


@pytest.mark.parametrize("count", [2, 3, 5, 10, 400])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_intervals_and_p_are_those_of_student(count, level):
    rng = np.random.default_rng(count)
    first, second = rng.normal(0.82, 0.02, count), rng.normal(0.8, 0.02, count)
    mean, low, high, p = significance.paired_runs(first, second, level=level)
    reference = stats.ttest_rel(first, second)
    interval = reference.confidence_interval(level)
    assert mean == pytest.approx(np.mean(first - second))
    assert p == pytest.approx(reference.pvalue, rel=1e-12)
    assert (low, high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_runs_that_never_differ():
    assert significance.paired_runs([0.5, 0.7], [0.5, 0.7]) == (0, 0, 0, 1)
    mean, low, high, p = significance.paired_runs([2, 3, 4], [1, 2, 3])
    assert (mean, low, high, p) == (1, 1, 1, 0)


def test_mean_interval_by_hand():
    # t of 2 degrees of freedom at 95 % is 4.302653.
    mean, low, high, deviation = significance.mean_interval([0.7, 0.8, 0.9])
    assert (mean, deviation) == pytest.approx((0.8, 0.1))
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), rel=1e-6)


def test_one_value_has_no_interval():
    mean, *rest = significance.mean_interval([0.7])
    assert mean == 0.7
    assert all(math.isnan(value) for value in rest)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 0.01 x 3, 0.03 x 2, and not below these
        ([0.5, 0.001, 0.6], [1.0, 0.003, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert significance.holm(p_values) == pytest.approx(adjusted)


TWO, THREE, WIDE = (
    table_of(np.zeros(2, int), np.zeros(2, int), 2),
    table_of(np.zeros(3, int), np.ones(3, int), 2),
    table_of(np.zeros(2, int), np.zeros(2, int), 3),
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: permuted(TWO, THREE), "same images, .*, got 2 images of 2 classes and 3 of 2"),
        (lambda: permuted(TWO, WIDE), "same images, .*, got 2 images of 2 classes and 2 of 3"),
        (lambda: permuted(TWO, TWO, rounds=0), "rounds must be at least 1, got 0"),
        (lambda: permuted(TWO, TWO, groups=[1]), r"groups must have shape \(2,\), got \(1,\)"),
        (lambda: of_runs([TWO], [TWO, TWO]), "same number of runs, at least 1, got 1 and 2"),
        (lambda: of_runs([], []), "at least 1, got 0 and 0"),
        (lambda: of_runs([TWO, THREE], [TWO, THREE]), "the same images, run 1 has different"),
        (lambda: significance.paired_runs([1], [2]), "at least 2 pairs, got 1"),
        (lambda: significance.paired_runs([1, 2], [2]), r"same length, got \(2,\) and \(1,\)"),
        (lambda: significance.mean_interval([]), "at least 1 value, got 0"),
        (lambda: significance.mean_interval([1, 2], level=95), "level must lie .*, got 95"),
        (lambda: significance.holm([0.1, 1.1]), r"0\.\.1, got \[0\.1, 1\.1\]"),
        (lambda: significance.holm([float("nan")]), "p values must lie in"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
