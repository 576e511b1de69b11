"""The plan's arithmetic as tables, and its promises as properties of real streams."""

import json

import numpy as np
import pytest

from datapipe.plan import sampling
from records.common.backend import tf
from records.common.targets import Target

NAMES = ("a", "b", "c")
COUNTS = [60, 20, 10]
BAND = Target("band", low=15, high=30)
SHARES = Target("shares", shares={"a": 1, "c": 3})


def labels_of(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def made(target=None, counts=COUNTS, seed=0, batch_size=8, **options):
    target, names = target or Target(), [*NAMES, "d", "e"][: len(counts)]
    labels = labels_of(counts)
    return sampling.plan(labels, names, target, seed=seed, batch_size=batch_size, **options)


def test_classes_without_rows_are_known():
    assert made(counts=[60, 0, 20]).empty == (1,)


def test_a_plan_of_no_rows_is_refused():
    with pytest.raises(ValueError, match=r"target 'sqrt' needs rows .*\[0, 0, 0\]"):
        made(Target("sqrt"), counts=[0, 0, 0])


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


# Every epoch deals each row a whole number of times, so that epochs are independent of each other.
TWICE = Target("shares", shares={"a": 1, "b": 1}, epoch_draws=24)  # 12 and 12 draws
SPLIT = np.array([0] * 3 + [1] * 6 + [7] * 4)  # 9 rows of class a in two strata, 4 of b in one
BATCHES = {"stratified_batches": True}


@pytest.mark.parametrize(
    ("counts", "target", "options", "uses"),
    [
        ([20], Target(), {}, [1] * 20),
        ([12, 6], TWICE, {}, [1] * 12 + [2] * 6),
        ([9, 4], TWICE, {"strata": SPLIT}, [2] * 3 + [1] * 6 + [3] * 4),
        ([16, 8], Target(), BATCHES, [1] * 24),
        ([9, 4], TWICE, {"strata": SPLIT, **BATCHES}, [2] * 3 + [1] * 6 + [3] * 4),
    ],
    ids=["natural", "balanced", "strata", "stratified batches", "both"],
)
def test_every_row_is_equally_likely_at_every_place(counts, target, options, uses):
    # Over 400 epochs a place sees a row so often on average as its share of the epoch says. The sum
    # over all places is a chi-square of mean places * (rows - 1) and about twice that variance.
    epochs, names = 400, NAMES[: len(counts)]
    labels = np.repeat(np.arange(len(counts)), counts)
    plan = sampling.plan(labels, names, target, seed=3, batch_size=4, **options)
    places, rows = plan.epoch_length, len(labels)
    seen = np.zeros((places, rows))
    np.add.at(seen, (np.arange(epochs * places) % places, stream(plan, epochs)), 1)
    np.testing.assert_array_equal(seen.sum(0), np.multiply(uses, epochs))
    expected = epochs * np.array(uses) / places
    statistic, mean = ((seen - expected) ** 2 / expected).sum(), places * (rows - 1)
    assert abs(statistic - mean) < 5 * np.sqrt(2 * mean)


def test_epochs_never_repeat():
    plan = sampling.plan(np.zeros(40, np.int64), ["a"], Target(), seed=0, batch_size=4)
    epochs = stream(plan, epochs=600).reshape(600, 40)
    assert len({epoch.tobytes() for epoch in epochs}) == 600


def test_the_order_is_pinned():
    # A change of these rows means that runs made before can be neither resumed nor repeated.
    plan = sampling.plan(
        np.array([0] * 6 + [1] * 3), NAMES[:2], Target("balanced"), seed=7, batch_size=3
    )
    assert stream(plan, epochs=2).tolist() == [4, 3, 7, 6, 2, 8, 0, 8, 1, 4, 5, 7, 6, 5, 1, 0, 7, 6]


UNITS = np.array([0, 0, 0, 0, 1, 1, 5, 5, 6])


def test_compiled_it_gives_the_same_rows():
    plan = made(target=BAND, strata=np.arange(90) % 7, stratified_batches=True)
    rows_at = tf.function(plan.rows_at, jit_compile=True)
    for start, count in ((0, 300), (2**40, 7)):
        positions = tf.range(start, start + count, dtype=tf.int64)
        np.testing.assert_array_equal(rows_at(positions), plan.rows_at(positions))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (
            {"strata": UNITS},
            [4, 0, 8, 6, 3, 8, 4, 7, 5, 5, 1, 8, 6, 5, 1, 2, 7, 8],
        ),
        (
            BATCHES,
            [6, 8, 3, 2, 4, 8, 0, 1, 7, 7, 5, 5, 6, 0, 6, 1, 7, 4],
        ),
        (
            {"strata": UNITS, **BATCHES},
            [6, 7, 0, 3, 4, 8, 4, 5, 8, 8, 1, 5, 6, 2, 8, 1, 7, 5],
        ),
    ],
    ids=["strata", "stratified batches", "both"],
)
def test_the_order_of_each_mode_is_pinned(options, rows):
    # A change of these rows means that runs made before in this mode can be neither resumed nor
    # repeated.
    labels = np.array([0] * 6 + [1] * 3)
    target = Target("balanced")
    plan = sampling.plan(labels, NAMES[:2], target, seed=7, batch_size=3, **options)
    assert stream(plan, epochs=2).tolist() == rows


@pytest.mark.parametrize(("batch_size", "steps"), [(8, 11), (9, 10), (64, 1), (90, 1), (1000, 1)])
def test_steps_are_the_whole_batches_nearest_to_an_epoch(batch_size, steps):
    assert made(batch_size=batch_size).steps_per_epoch == steps  # of 90 draws


@pytest.mark.parametrize("batch_size", [0, -1, 4.5])
def test_a_batch_of_nothing_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"at least 1, got {batch_size}"):
        made(batch_size=batch_size)


def random_plan(number):
    """Returns a plan with some of everything, and the class and stratum of each row."""
    rng = np.random.default_rng(number)
    classes = rng.integers(1, 6)
    counts = rng.integers(0, 40, classes) * (rng.random(classes) < 0.8)
    counts[0] += 5
    target = [*TARGETS[:-2], Target("band", low=6, high=20)][rng.integers(7)]
    if target.name in ("balanced", "sqrt", "effective"):
        target = Target(target.name, epoch_draws=int(rng.integers(5, 120)))
    labels, options = labels_of(counts), {}
    strata = rng.integers(0, rng.integers(1, 6), len(labels))
    if number % 2:
        options["strata"] = strata - 2
    if number % 4 > 1:
        options["stratified_batches"] = True
    plan = made(target, counts, int(rng.integers(1 << 40)), int(rng.integers(1, 25)), **options)
    return plan, labels, strata if plan.has_strata else np.zeros_like(labels)


@pytest.mark.parametrize("number", range(24))
def test_random_plans_keep_every_promise(number):
    plan, labels, strata = random_plan(number)
    epochs, classes = 5, len(plan.counts)
    rows = stream(plan, epochs)
    each = rows.reshape(epochs, -1)
    drawn = [np.bincount(labels[epoch], minlength=classes).tolist() for epoch in each]
    assert drawn == [plan.draws.tolist()] * epochs
    for epoch in range(epochs):
        uses = np.bincount(each[: epoch + 1].ravel(), minlength=len(labels))
        for label in np.flatnonzero(plan.counts):
            of_class = labels == label
            of_strata = [uses[of_class & (strata == unit)] for unit in np.unique(strata[of_class])]
            assert max(np.ptp(unit) for unit in of_strata) <= 1
            assert np.ptp([unit.sum() for unit in of_strata]) <= 1
    if plan.stratified_batches:
        quotas = plan.draws * plan.batch_size / plan.epoch_length
        for batch in labels[rows].reshape(-1, plan.batch_size):
            held = np.bincount(batch, minlength=classes)
            assert (np.floor(quotas) <= held).all()
            assert (held <= np.ceil(quotas)).all()


@pytest.mark.parametrize("number", range(4))
def test_positions_may_be_asked_for_in_any_pieces(number):
    plan, rng = random_plan(number)[0], np.random.default_rng(number)
    rows = stream(plan, epochs=3)
    rows_at = tf.function(plan.rows_at, input_signature=[tf.TensorSpec([None], tf.int64)])
    for size in (1, plan.batch_size, 4 * plan.batch_size):  # a replica's slice, a step, a chunk
        at = rng.integers(0, len(rows), size)
        np.testing.assert_array_equal(rows_at(tf.constant(at)), rows[at])


def test_stratified_batches_lose_no_class_to_rounding():
    # 14 draws are nearest to one batch of 10, in which 10 classes and a larger one do not fit.
    counts = [4, *[1] * 10]
    names = [str(number) for number in range(11)]
    labels = np.repeat(np.arange(11), counts)
    plan = sampling.plan(labels, names, Target(), seed=0, batch_size=10, stratified_batches=True)
    assert plan.epoch_length == 20
    assert plan.draws.min() == 1


@pytest.mark.parametrize("strata", [np.zeros(90, np.int32), labels_of(COUNTS) - 9])
def test_strata_that_split_no_class_change_nothing(strata):
    np.testing.assert_array_equal(stream(made(strata=strata), 2), stream(made(), 2))


def test_strata_may_stand_beside_classes_without_rows():
    counts = [6, 0, 4]
    plan = made(Target("balanced", epoch_draws=20), counts, strata=labels_of(counts, seed=1))
    assert plan.strata.tolist() == [2, 0, 2]
    assert np.bincount(labels_of(counts)[stream(plan)]).tolist() == [10, 0, 10]


@pytest.mark.parametrize("strata", [np.zeros(89, np.int64), np.zeros(90), np.zeros((90, 1), int)])
def test_strata_that_do_not_fit_are_refused(strata):
    with pytest.raises(ValueError, match=r"one whole number a row, 90 in all, got (int|float)64"):
        made(strata=strata)


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, got 2"):
        sampling.plan(np.array([0, 1, 2]), NAMES[:2], Target(), seed=0, batch_size=1)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, got -1"):
        sampling.plan(np.array([0, -1]), NAMES[:2], Target(), seed=0, batch_size=1)


def differing(first, second):
    pairs = zip(first.identity().items(), second.identity().items(), strict=True)
    return [field for (field, one), (_, other) in pairs if one != other]


STRATA = np.arange(90) % 2
BACKWARDS = sampling.plan(labels_of(COUNTS)[::-1], NAMES, Target(), seed=0, batch_size=8)


@pytest.mark.parametrize(
    ("first", "second", "fields"),
    [
        (made(), made(), []),
        (made(), made(seed=1), ["seed"]),
        (made(), made(batch_size=9), ["batch_size"]),
        (made(), made(BAND), ["draws"]),
        (made(), BACKWARDS, ["rows"]),
        (made(), made(strata=STRATA), ["strata"]),
        (made(strata=STRATA), made(strata=np.arange(90) % 3), ["strata"]),
        (made(batch_size=10), made(batch_size=10, **BATCHES), ["stratified_batches"]),
    ],
)
def test_the_identity_names_what_differs(first, second, fields):
    assert differing(first, second) == fields
    assert len(json.dumps(second.identity())) < 1000


def test_the_identity_is_pinned():
    # A change means that no run made before can be resumed, though its stream may be the same.
    plan = sampling.plan(np.array([0, 1, 1]), NAMES[:2], Target(), seed=7, batch_size=3)
    assert plan.identity() == {
        "seed": 7,
        "batch_size": 3,
        "draws": "3 an epoch, sha256 0c730b69905c5ef7a4ca5269f7236540",
        "rows": "3 of 2 classes, sha256 ccb1ac866b7d8de3db4992f9c5da769f",
        "strata": "none",
        "stratified_batches": "no",
    }
