"""Counts and a target to draws: the arithmetic as tables, and what is refused."""

import numpy as np
import pytest

from records.common import targets
from records.common.targets import Target

NAMES = ("a", "b", "c")
COUNTS = [60, 20, 10]
BAND = Target("band", low=15, high=30)
SHARES = Target("shares", shares={"a": 1, "c": 3})


@pytest.mark.parametrize(
    ("target", "draws"),
    [
        (Target("natural"), [60, 20, 10]),
        (Target("undersample"), [10, 10, 10]),
        (Target("oversample"), [60, 60, 60]),
        (BAND, [30, 20, 15]),
        (Target("balanced"), [30, 30, 30]),
        (Target("balanced", epoch_draws=10), [4, 3, 3]),
        (Target("sqrt"), [45, 26, 19]),  # 7.75 : 4.47 : 3.16 of 90 are 45.33, 26.17, 18.50
        (Target("effective", beta=0.0), [60, 20, 10]),
        (SHARES, [23, 0, 67]),  # 22.5 and 67.5: the tie goes to the earlier
    ],
)
def test_draws_per_epoch(target, draws):
    assert targets.draws_per_epoch(COUNTS, target, NAMES).tolist() == draws


def test_the_illustration_band():
    # 20 classes, 34:1, into 250..1000: the table of a published study, 10,863 draws in all.
    counts = [6206, 3000, 2000, 1500, 1200, 631, 547, 454, 426, 419]
    counts += [416, 410, 410, 404, 382, 364, 240, 220, 200, 180]
    names = [str(number) for number in range(20)]
    draws = targets.draws_per_epoch(counts, Target("band", low=250, high=1000), names)
    assert draws.tolist() == [1000] * 5 + counts[5:16] + [250] * 4
    assert draws.sum() == 10_863


def test_effective_number_lies_between_natural_and_balanced():
    shares = targets.draws_per_epoch([9000, 900], Target("effective", beta=0.999), NAMES[:2])
    natural_share, balanced_share = 0.9, 0.5
    assert balanced_share < shares[0] / shares.sum() < natural_share
    # n (1 - beta) / (1 - beta^n), the formula itself
    raw = [n * 0.001 / (1 - 0.999**n) for n in (9000, 900)]
    np.testing.assert_allclose(shares[0] / shares.sum(), raw[0] / sum(raw), atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "even"}, "target must be one of .*, got 'even'"),
        ({"name": "band", "low": 5, "high": 3}, r"low <= high, got 5\.\.3"),
        ({"name": "effective", "beta": 1.0}, r"beta must lie in \[0, 1\), got 1\.0"),
        ({"name": "shares"}, "needs a share"),
        ({"name": "shares", "shares": {"a": -1}}, "must not be negative"),
        ({"name": "shares", "shares": {"a": float("nan"), "b": 1}}, "must not be negative"),
        ({"name": "shares", "shares": {"a": float("inf")}}, "must not be negative"),
        ({"name": "effective", "beta": float("nan")}, "beta must lie in"),
        ({"name": "balanced", "epoch_draws": -1}, "at least 0, got -1"),
    ],
)
def test_wrong_targets_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Target(**fields)


@pytest.mark.parametrize(
    ("target", "draws"),
    [
        (Target("natural"), [60, 0, 20]),
        (Target("undersample"), [20, 0, 20]),  # the smallest class that has rows
        (Target("oversample"), [60, 0, 60]),
        (BAND, [30, 0, 20]),
        (Target("balanced"), [40, 0, 40]),
        (Target("sqrt"), [51, 0, 29]),  # 7.75 : 4.47 of 80 are 50.7, 29.3
        (Target("effective", beta=0.999999), [40, 0, 40]),
        (Target("shares", shares={"a": 1, "b": 0, "c": 3}), [20, 0, 60]),
    ],
)
def test_classes_without_rows_are_left_out(target, draws):
    assert targets.draws_per_epoch([60, 0, 20], target, NAMES).tolist() == draws


def test_shares_of_a_class_without_rows_are_refused():
    target = Target("shares", shares={"a": 1, "b": 2})
    with pytest.raises(ValueError, match="classes without rows in this split, got 'b': 2"):
        targets.draws_per_epoch([60, 0, 20], target, NAMES)


@pytest.mark.parametrize("name", ["natural", "undersample", "balanced", "band"])
def test_a_split_without_rows_is_refused(name):
    with pytest.raises(ValueError, match=rf"target '{name}' needs rows .*\[0, 0, 0\]"):
        targets.draws_per_epoch([0, 0, 0], Target(name), NAMES)


def test_shares_of_an_unknown_class_are_refused():
    with pytest.raises(ValueError, match="shares name 'z'; the classes are a, b, c"):
        targets.draws_per_epoch(COUNTS, Target("shares", shares={"z": 1}), NAMES)
