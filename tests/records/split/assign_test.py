import random

import numpy as np
import pytest

from records.split import assign

RATIOS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def assigned(labels, groups=None, ratios=RATIOS, seed=0):
    keys = [b"%d" % i for i in range(len(labels))]
    numbers = np.arange(len(labels)) if groups is None else assign.merge_groups(np.array(groups))
    return assign.assign(np.array(labels), numbers, keys, ratios, seed=seed)


def counts(labels, result, label):
    return np.bincount(result[np.array(labels) == label], minlength=3).tolist()


def test_without_groups_every_class_is_divided_exactly():
    labels = [0] * 200 + [1] * 40 + [2] * 7
    result = assigned(labels)
    assert counts(labels, result, 0) == [140, 30, 30]
    assert counts(labels, result, 1) == [28, 6, 6]
    assert counts(labels, result, 2) == [5, 1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_no_group_stands_in_two_splits(seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 4, 500), rng.integers(0, rng.integers(5, 400), 500)
    result = assigned(labels, groups.tolist(), seed=seed)
    for group in set(groups.tolist()):
        assert len(set(result[groups == group].tolist())) == 1


def test_groups_keep_the_shares():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 2100)
    labels = (groups % 3 == 0).astype(int)  # a group is all of one class
    result = assigned(labels, groups.tolist())
    for label in (0, 1):
        shares = np.bincount(result[labels == label]) / (labels == label).sum()
        np.testing.assert_allclose(shares, list(RATIOS.values()), atol=0.015)


def test_order_of_the_images_does_not_matter():
    labels = [i % 3 for i in range(60)]
    keys, groups = [b"%d" % i for i in range(60)], np.array([i // 2 for i in range(60)])
    first = assign.assign(np.array(labels), groups, keys, RATIOS, seed=1)
    shuffled = random.Random(0).sample(range(60), 60)
    second = assign.assign(
        np.array([labels[i] for i in shuffled]),
        groups[shuffled],
        [keys[i] for i in shuffled],
        RATIOS,
        seed=1,
    )
    assert dict(zip(keys, first, strict=True)) == {
        keys[i]: second[place] for place, i in enumerate(shuffled)
    }


def test_another_seed_is_another_split():
    labels = [0] * 100
    assert (assigned(labels, seed=0) != assigned(labels, seed=1)).any()


@pytest.mark.parametrize(
    ("values", "numbers"),
    [([5, 3, 5], [1, 0, 1]), ([[1, 2], [1, 3], [1, 2]], [0, 1, 0]), ([], [])],
)
def test_distinct_values_and_rows_are_numbered(values, numbers):
    assert assign.distinct(np.array(values, np.uint8)).tolist() == numbers


def test_merge_groups_joins_over_any_membership():
    given = np.array([0, 0, -1, -1, 1, -1])
    digests = np.array([1, 2, 2, 3, 4, 5])
    numbers = assign.merge_groups(given, digests)
    assert numbers.tolist() == [0, 0, 0, 3, 4, 5]  # 0-1 by group, 1-2 by content


@pytest.mark.parametrize("images", [1, 2, 3, 4, 7, 10])
def test_small_classes_do_not_starve_a_split(images):
    # Each class rounded on its own would give the last split nothing of 3 images a class.
    labels = np.repeat(np.arange(100), images)
    totals = np.bincount(assigned(labels), minlength=3)
    np.testing.assert_allclose(totals / len(labels), list(RATIOS.values()), atol=0.011)


def test_groups_of_one_class_do_not_starve_a_split():
    labels, groups = np.repeat(np.arange(100), 30), np.repeat(np.arange(300), 10).tolist()
    totals = np.bincount(assigned(labels, groups), minlength=3)
    np.testing.assert_allclose(totals / 3000, list(RATIOS.values()), atol=0.02)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train", "name=share"),
        ("train=0.5,train=0.5", "distinct"),
        ("train=many", "must be a number, got 'many'"),
        ("folds=2.5", "must be whole"),
        ("folds=1", "at least 2 folds, got 1"),
    ],
)
def test_text_that_is_no_list_of_shares_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        assign.parse(text)


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ({"train": 0.7, "test": 0.2}, "must sum to 1"),
        ({"train": 1.2, "test": -0.2}, "above 0, got test=-0.2"),
        ({"train": float("nan"), "test": 0.5}, "above 0, got train=nan"),
        ({"../x": 1.0}, r"plain word, got '\.\./x'"),
        ({}, "must sum to 1"),
    ],
)
def test_wrong_ratios_are_refused(ratios, message):
    with pytest.raises(ValueError, match=message):
        assign.check_ratios(ratios)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train=0.7, test=0.3", (False, {"train": 0.7, "test": 0.3})),
        ("folds=4", (False, {f"fold_{n}": 0.25 for n in range(4)})),
        ("given", (True, {})),
        ("given,validation=0.1", (True, {"validation": 0.1})),
    ],
)
def test_splits_as_text(text, expected):
    assert assign.parse(text) == expected


def test_shares_of_a_given_split_leave_something():
    assign.check_ratios({"validation": 0.5}, whole=False)
    with pytest.raises(ValueError, match="less than 1"):
        assign.check_ratios({"validation": 0.5, "test": 0.5}, whole=False)


def test_folds_are_disjoint_cover_all_and_keep_groups_and_classes():
    rng = np.random.default_rng(0)
    labels, groups = np.repeat([0, 0, 1], 400), rng.integers(0, 250, 1200)
    folds = assigned(labels, groups.tolist(), ratios=assign.fold_ratios(10))
    assert set(folds.tolist()) == set(range(10))
    for group in set(groups.tolist()):
        assert len(set(folds[groups == group].tolist())) == 1
    for label, count in ((0, 80), (1, 40)):
        np.testing.assert_allclose(np.bincount(folds[labels == label]), count, atol=6)
