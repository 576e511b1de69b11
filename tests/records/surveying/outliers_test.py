"""Planted outliers and odd classes are found; among equal ones there are none."""

import numpy as np
import pytest

from records.surveying import outliers


def equal_classes(seed, num_classes=20, size=40, sigma=30.0):
    label = np.repeat(np.arange(num_classes), size)
    return np.random.default_rng(seed).normal(120, sigma, len(label)), label


def far(values, label):
    return np.flatnonzero(outliers.are_far(outliers.scores(values, label), label)).tolist()


def test_a_score_is_the_distance_from_the_median_in_units_of_sigma():
    values = np.array([10.0, 20, 30, 40, 50])
    np.testing.assert_allclose(
        outliers.scores(values, np.zeros(5, int)), (values - 30) / (1.4826 * 10)
    )


def test_classes_have_scores_of_their_own_whatever_the_order_of_rows():
    values, label = equal_classes(0, 3)
    shuffled = np.random.default_rng(1).permutation(len(label))
    np.testing.assert_array_equal(
        outliers.scores(values[shuffled], label[shuffled]), outliers.scores(values, label)[shuffled]
    )


@pytest.mark.parametrize("value", [-150, 450])
def test_a_planted_outlier_is_found_within_its_class_alone(value):
    values, label = equal_classes(1)
    values[label == 7] += 200  # far for others, not here
    values[57] = value
    assert far(values, label) == [57]


def test_nothing_is_far_among_values_of_one_distribution():
    found = [far(*equal_classes(seed, size=10 + seed)) for seed in range(50)]
    assert found == [[]] * 50


@pytest.mark.parametrize(
    ("size", "near", "far"),
    [(10, 14.5, 14.7), (20, 9.6, 9.8), (100, 5.9, 6.1), (1000, 5.4, 5.6), (10_000, 5.7, 5.9)],
)
def test_the_limit_allows_for_unsure_spreads_and_for_many_values(size, near, far):
    z = np.zeros(size)
    z[:4] = near, -near, far, -far
    assert np.flatnonzero(outliers.are_far(z, np.zeros(size, int))).tolist() == [2, 3]


def test_tiny_differences_among_equal_values_are_not_far():
    values, label = equal_classes(2, 1, 100, sigma=0)
    values[3] += 9
    assert far(values, label) == []
    values[3] += 10
    assert far(values, label) == [3]


def test_small_classes_are_not_judged():
    values = np.array([1.0] * 8 + [200])
    assert far(values, np.zeros(9, int)) == []
    assert far(np.append(values, [1.0] * 9), np.zeros(18, int)) == [8]


def odd(values, label):
    return [each.label for each in outliers.odd_classes(values, label)]


def test_of_equal_classes_none_is_odd():
    assert [odd(*equal_classes(seed, size=10 + seed)) for seed in range(50)] == [[]] * 50


@pytest.mark.parametrize("shift", [70, -70])
def test_a_planted_bright_or_dark_class_is_odd(shift):
    values, label = equal_classes(3)
    values[label == 4] += shift
    (found,) = outliers.odd_classes(values, label)
    assert found.label == 4 and abs(found.median - found.others - shift) < 20
    assert (found.share > 0.9) == (shift > 0)


def test_the_share_is_that_of_mann_and_whitney():
    first, second = np.arange(0, 40, 2.0), np.arange(31, 71, 2.0)
    label = np.repeat([0, 1], 20)
    found = {each.label: each.share for each in
             outliers.odd_classes(np.concatenate([first, second]), label)}  # fmt: skip
    above = np.mean(second[:, None] > first)  # no ties
    assert found == {0: pytest.approx(1 - above), 1: pytest.approx(above)}


def test_of_classes_that_differ_evenly_none_is_odd():
    values, label = equal_classes(4, 10, sigma=1)
    assert odd(values + 12.0 * label, label) == []
    assert odd(values + 12.0 * label + 300 * (label == 9), label) == [9]


def test_a_class_is_odd_by_each_other_class_alike_not_by_the_largest():
    values = np.concatenate([np.full(5000, 100.0), *(np.full(20, 140.0),) * 5])
    values += np.random.default_rng(0).normal(0, 10, len(values))
    label = np.repeat(np.arange(6), [5000, 20, 20, 20, 20, 20])
    assert odd(values, label) == [0]


@pytest.mark.parametrize("label", [[], [0] * 20, [0] * 20 + [1] * 3])
def test_one_class_has_no_others(label):
    assert outliers.odd_classes(np.arange(len(label), dtype=float), np.array(label, int)) == []
    assert far(np.zeros(len(label)), np.array(label, int)) == []
