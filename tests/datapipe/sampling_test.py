"""The plan's arithmetic as tables, and its promises as properties of real streams."""

import numpy as np
import pytest

from datapipe import sampling
from datapipe.options import Target
from records.backend import tf

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
    assert sampling.draws_per_epoch(COUNTS, target, NAMES).tolist() == draws


def test_the_illustration_band():
    # 20 classes, 34:1, into 250..1000: the table of a published study, 10,863 draws in all.
    counts = [6206, 3000, 2000, 1500, 1200, 631, 547, 454, 426, 419]
    counts += [416, 410, 410, 404, 382, 364, 240, 220, 200, 180]
    names = [str(number) for number in range(20)]
    draws = sampling.draws_per_epoch(counts, Target("band", low=250, high=1000), names)
    assert draws.tolist() == [1000] * 5 + counts[5:16] + [250] * 4
    assert draws.sum() == 10_863


def test_effective_number_lies_between_natural_and_balanced():
    shares = sampling.draws_per_epoch([9000, 900], Target("effective", beta=0.999), NAMES[:2])
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
        ({"name": "balanced", "epoch_draws": -1}, "0 or more, got -1"),
    ],
)
def test_wrong_targets_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Target(**fields)


def test_draws_of_a_class_without_rows_are_refused():
    with pytest.raises(ValueError, match="30 draws of class 'b', which has no rows"):
        sampling.draws_per_epoch([60, 0, 30], Target("balanced"), NAMES)
    natural = sampling.draws_per_epoch([60, 0, 30], Target("natural"), NAMES)
    assert natural.tolist() == [60, 0, 30]


def test_shares_of_an_unknown_class_are_refused():
    with pytest.raises(ValueError, match="shares name 'z'; the classes are a, b, c"):
        sampling.draws_per_epoch(COUNTS, Target("shares", shares={"z": 1}), NAMES)


def labels_of(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def made(target=None, counts=COUNTS, seed=0, batch_size=8):
    target = target or Target()
    return sampling.plan(labels_of(counts), NAMES, target, seed=seed, batch_size=batch_size)


def stream(plan, epochs=1, start=0):
    return plan.rows_at(tf.range(start, epochs * plan.epoch_length, dtype=tf.int64)).numpy()


TARGETS = [
    *(Target(name) for name in ("natural", "undersample", "oversample", "balanced", "sqrt")),
    *(Target("effective", beta=0.99), BAND, SHARES),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_epoch_holds_exactly_its_draws_and_treats_rows_alike(target):
    plan, labels = made(target), labels_of(COUNTS)
    rows = stream(plan, epochs=7)
    for epoch in range(1, 8):
        upto = rows[: epoch * plan.epoch_length]
        of_epoch = upto[-plan.epoch_length :]
        np.testing.assert_array_equal(np.bincount(labels[of_epoch], minlength=3), plan.draws)
        uses = np.bincount(upto, minlength=len(labels))
        for label in range(3):
            of_class = uses[labels == label]
            assert of_class.max() - of_class.min() <= 1


def test_natural_epochs_hold_every_row_once_in_another_order():
    plan = made()
    rows = stream(plan, epochs=2).reshape(2, -1)
    np.testing.assert_array_equal(np.sort(rows), [np.arange(90), np.arange(90)])
    assert (rows[0] != rows[1]).mean() > 0.9


def test_undersampling_rotates_through_the_majority():
    plan, labels = made(Target("undersample")), labels_of(COUNTS)
    rows = stream(plan, epochs=6)  # 6 x 10 draws of the class with 60 rows
    assert sorted(rows[labels[rows] == 0]) == sorted(np.flatnonzero(labels == 0))


def test_any_slice_of_the_stream_can_be_asked_for():
    plan = made(Target("balanced"))
    rows = stream(plan, epochs=3)
    for start, end in ((0, 5), (88, 93), (180, 270), (269, 270)):
        part = plan.rows_at(tf.range(start, end, dtype=tf.int64)).numpy()
        np.testing.assert_array_equal(part, rows[start:end])


def test_seeds_give_unrelated_streams():
    first, second = (stream(made(seed=seed)) for seed in (0, 1))
    assert (first == second).mean() < 0.1


def test_every_row_is_equally_likely_at_every_place():
    # 400 epochs of 20 rows: a place sees each row 20 times on average. The sum over all places is
    # a chi-square with 20 * 19 degrees of freedom; 5 standard deviations are 5 sqrt(2 * 380) = 138.
    plan = sampling.plan(np.zeros(20, np.int64), ["a"], Target(), seed=3, batch_size=4)
    rows = stream(plan, epochs=400).reshape(400, 20)
    counts = np.stack([np.bincount(column, minlength=20) for column in rows.T])
    statistic = ((counts - 20) ** 2 / 20).sum()
    assert 380 - 138 < statistic < 380 + 138


def test_epochs_never_repeat():
    # With a plain counter as its key the shuffling op knows 256 orders, then starts again.
    plan = sampling.plan(np.zeros(40, np.int64), ["a"], Target(), seed=0, batch_size=4)
    epochs = stream(plan, epochs=3000).reshape(3000, 40)
    assert len({epoch.tobytes() for epoch in epochs}) == 3000


def test_the_order_is_pinned():
    # A change of these rows means that runs made before can be neither resumed nor repeated.
    plan = sampling.plan(
        np.array([0] * 6 + [1] * 3), NAMES[:2], Target("balanced"), seed=7, batch_size=3
    )
    assert stream(plan, epochs=2).tolist() == [8, 6, 4, 5, 7, 1, 3, 2, 6, 7, 8, 2, 0, 8, 0, 3, 1, 7]


@pytest.mark.parametrize(("batch_size", "steps"), [(8, 11), (9, 10), (64, 1), (90, 1), (1000, 1)])
def test_steps_are_the_whole_batches_nearest_to_an_epoch(batch_size, steps):
    assert made(batch_size=batch_size).steps_per_epoch == steps  # of 90 draws


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"at least 1, got {batch_size}"):
        made(batch_size=batch_size)
