"""Weights hold their proportions and their mean; a second correction is told from a first."""

import numpy as np
import pytest

from datapipe.plan import class_weights, sampling
from records.common.targets import Target

NAMES = ("a", "b", "c", "d")
COUNTS = [60, 20, 10, 0]


def made(name="natural", counts=COUNTS, **fields):
    labels = np.repeat(np.arange(len(counts)), counts)
    return sampling.plan(labels, NAMES, Target(name, **fields), seed=0, batch_size=8)


def test_a_balanced_plan_needs_no_weights():
    np.testing.assert_allclose(class_weights.balanced(made("balanced")), [1, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(
        class_weights.effective(made("oversample"), 0.99), [1, 1, 1, 0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("found", "proportions"),
    [
        (class_weights.balanced(made()), [1 / 60, 1 / 20, 1 / 10, 0]),
        (class_weights.balanced(made("shares", shares={"a": 1, "c": 2})), [1 / 30, 0, 1 / 60, 0]),
        (class_weights.balanced(made("band", low=15, high=30)), [1 / 30, 1 / 20, 1 / 15, 0]),
        (class_weights.effective(made(), 0.0), [1, 1, 1, 0]),
        # 1 / (1 - 0.9^n), the formula itself
        (class_weights.effective(made(), 0.9), [1 / (1 - 0.9**n) for n in COUNTS[:3]] + [0]),
        (class_weights.effective(made(), 1 - 1e-9), [1 / 60, 1 / 20, 1 / 10, 0]),
        (class_weights.explicit(made(), {"b": 3}), [1, 3, 1, 0]),
        (class_weights.explicit(made(), {"a": 0}), [0, 1, 1, 0]),
        (class_weights.explicit(made(), {}), [1, 1, 1, 0]),
    ],
)
def test_weights_are_in_proportion(found, proportions):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found / found.sum(), np.divide(proportions, sum(proportions)), 1e-5)


@pytest.mark.parametrize("name", Target.NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_over_the_draws_is_one(name, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5000, 4)
    counts[rng.integers(1, 4)] = 0
    plan = made(name, counts, shares={"a": 1.5})
    given = {NAMES[c]: float(rng.random()) for c in np.flatnonzero(plan.draws)}
    for found in (
        class_weights.balanced(plan),
        class_weights.effective(plan, 0.999),
        class_weights.explicit(plan, given),
    ):
        np.testing.assert_allclose((found * plan.draws).sum() / plan.epoch_length, 1, atol=1e-6)


def test_balanced_weights_are_those_of_the_formula():
    plan = made()
    np.testing.assert_allclose(
        class_weights.balanced(plan), [90 / (3 * n) for n in COUNTS[:3]] + [0]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": 1}, "weights name 'z'; the classes are a, b, c, d"),
        ({"a": -1}, "weight of 'a' must be at least 0 and finite, got -1"),
        ({"a": float("nan")}, "must be at least 0 and finite, got nan"),
        ({"a": float("inf")}, "must be at least 0 and finite, got inf"),
        ({"d": 2}, "weights name 'd': 2, a class that is never drawn"),
        ({"a": 1e300}, "must not lie so far apart"),
        ({"a": 0, "b": 0, "c": 0}, "a class that is drawn must have a weight above 0"),
    ],
)
def test_wrong_weights_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        class_weights.explicit(made(), given)


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_a_wrong_beta_is_refused(beta):
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\), got"):
        class_weights.effective(made(), beta)


NATURAL_WEIGHTS = [90 / (3 * n) for n in COUNTS[:3]] + [0]  # made from the rows, not the draws


@pytest.mark.parametrize(
    ("target", "given", "twice"),
    [
        ("natural", NATURAL_WEIGHTS, False),  # the weights alone correct
        ("natural", [1, 9, 99, 0], False),  # far too much, but once
        ("balanced", [1, 1, 1, 1], False),  # the draws alone correct
        ("balanced", NATURAL_WEIGHTS, True),
        ("balanced", [1, 1, 1.04, 0], False),  # less than a rounded weight may be off
        ("balanced", [1, 1, 1.2, 0], True),
        ("balanced", [2, 1, 1, 0], False),  # back towards the rows
        ("balanced", [0.92, 1, 1, 0], True),  # only the common class, to 0.945 of balance
        ("sqrt", NATURAL_WEIGHTS, True),
        ("sqrt", [90 / (3 * n) for n in (45, 26, 19)] + [0], False),  # finishes what draws began
        ("shares", [1, 1, 1, 0], False),  # past balance, but by the draws alone
        ("shares", [1, 1, 2, 0], True),
    ],
)
def test_only_a_second_correction_is_told(target, given, twice):
    shares = {"shares": {"a": 1, "b": 1, "c": 2}} if target == "shares" else {}
    message = class_weights.double_correction(made(target, **shares), np.array(given))
    assert bool(message) == twice


@pytest.mark.parametrize("name", ["balanced", "sqrt", "band", "oversample", "natural"])
def test_weights_made_from_the_draws_correct_nothing_twice(name):
    fields = {"low": 15, "high": 30} if name == "band" else {}
    plan = made(name, **fields)
    for found in (class_weights.balanced(plan), class_weights.effective(plan, 0.99)):
        assert class_weights.double_correction(plan, found) == ""


def test_rounding_to_whole_batches_is_no_correction():
    labels = np.repeat([0, 1], [89, 1])
    plan = sampling.plan(
        labels, NAMES[:2], Target(), seed=0, batch_size=64, stratified_batches=True
    )
    assert plan.draws.tolist() == [63, 1]
    assert class_weights.double_correction(plan, np.array([1.0, 99.0])) == ""


def test_the_message_says_the_shares_of_the_worst_and_the_rarest_class():
    message = class_weights.double_correction(made("balanced"), np.array(NATURAL_WEIGHTS))
    # 30 draws each; losses as 1/60 : 1/20 : 1/10
    assert message == (
        "target 'balanced' and the class weights both correct the imbalance: class 'a' has 66.7% of"
        " the rows, 33.3% of the draws and 10.0% of the loss and class 'c' has 11.1% of the rows,"
        " 33.3% of the draws and 60.0% of the loss, where balance is 33.3%; use one of the two, or"
        " weights made from the draws"
    )
