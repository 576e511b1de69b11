"""The harness, by a clock that goes only when work is done."""

import functools
import itertools

import pytest

from datapipe.profile import timing
from datapipe.profile.timing import Stage, Timing


class Clock:
    """A clock that goes only when work is done."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def ticking(self, seconds, log=None, name=""):
        while True:
            self.now += seconds
            if log is not None:
                log.append(name)
            yield seconds

    def work(self, seconds):
        def done(batch):
            self.now += seconds

        return done


@pytest.mark.parametrize(("waits", "works"), [(0.01, 0.0), (0.01, 0.03), (0.0, 0.02), (2.0, 3.0)])
def test_rate_and_waiting_are_exact(waits, works):
    clock = Clock()
    stage = Stage("s", lambda: clock.ticking(waits), 6, clock.work(works))
    rates = timing.measured([stage], Timing(turns=2, seconds=0.1), clock=clock)["s"]
    assert rates.by_turn == pytest.approx([6 / (waits + works)] * 2)
    assert rates.waiting == pytest.approx(waits / (waits + works))


def test_stages_take_turns_and_the_first_does_not_count():
    clock, log = Clock(), []
    durations = iter([1.0, 0.1, 0.2, 0.4])
    stages = [
        Stage("a", lambda: clock.ticking(next(durations), log, "a"), 1),
        Stage("b", lambda: clock.ticking(1.0, log, "b"), 1),
    ]
    rates = timing.measured(stages, Timing(turns=3, seconds=0.01), clock=clock)
    assert rates["a"].by_turn == pytest.approx([10, 5, 2.5])
    assert (rates["a"].median, rates["a"].over(rates["b"])) == (pytest.approx(5), pytest.approx(5))
    assert [name for name, _ in itertools.groupby(log)] == ["a", "b"] * 4
    assert rates["a"].to_json()["lowest"] == pytest.approx(2.5)


def test_whole_periods_are_measured():
    clock = Clock()

    def bursts():  # every fifth batch is slow
        for number in itertools.count():
            clock.now += 0.1 if number % 5 == 0 else 0.01
            yield number

    def rate(period):
        stage = Stage("s", bursts, 1, period=period)
        return timing.measured([stage], Timing(turns=1, seconds=0.02), clock=clock)["s"].median

    assert rate(5) == pytest.approx(5 / 0.14)
    assert rate(1) == pytest.approx(100)


def test_slow_stages_are_measured_less_often_but_three_times():
    clock = Clock()
    stage = Stage("s", lambda: clock.ticking(50.0), 1)
    rates = timing.measured([stage], Timing(turns=9, seconds=0.1, budget=10), clock=clock)
    assert len(rates["s"].by_turn) == 3


@pytest.mark.parametrize("least", [1, 8])
def test_the_warm_up_lasts_half_a_measurement_and_some_batches(least):
    clock, log = Clock(), []
    stage = Stage("a", lambda: clock.ticking(0.25, log, "a"))
    timing.measured([stage], Timing(turns=1, seconds=1.0, warm_up_batches=least), clock=clock)
    assert len(log) == 2 * (max(2, least) + 4)  # one round is not counted


def test_a_pass_counts_from_before_its_beginning_to_its_last_batch():
    clock, log = Clock(), []

    def begin():
        clock.now += 3.0
        return clock.ticking(0.5, log)

    stage = Stage("pass", begin, 10, pass_batches=2)
    rates = timing.measured([stage], Timing(turns=2, seconds=99.0), clock=clock)["pass"]
    assert rates.by_turn == (5.0, 5.0) and len(log) == 3 * 2


def test_one_iterator_is_alive_at_a_time():
    clock, alive = Clock(), []

    def batches(name):
        alive.append(name)
        assert len(alive) == 1
        try:
            yield from clock.ticking(1.0)
        finally:
            alive.remove(name)

    stages = [Stage(name, functools.partial(batches, name)) for name in "ab"]
    timing.measured(stages, Timing(turns=2, seconds=1.0), clock=clock)
    assert not alive


def test_cases_take_turns():
    log = []
    cases = {name: functools.partial(log.append, name) for name in "ab"}
    timing.in_turns(cases, Timing(turns=2), uncounted=0)
    assert log == ["a", "b"] * 2


def test_ratios_are_taken_within_a_turn():
    found = {"a": [2.0, 40.0, 6.0], "b": [1.0, 10.0, 6.0]}
    a, b = timing.rows("READ", "seconds", found, ["c", "b", "a"])
    assert a == timing.Row("READ", "a", "seconds", 6.0, 2.0, 40.0, 3, 2.0, "b")
    assert (b.median, b.ratio, b.base) == (6.0, 1.0, "b")


def test_a_row_of_rates_keeps_its_names():
    (row,) = timing.rows("READ", "images_per_second", {"a": [7.0]}, ["a"])
    assert row.to_json() == {
        "task": "READ",
        "system": "a",
        "images_per_second": 7.0,
        "lowest": 7.0,
        "highest": 7.0,
        "repeats": 1,
        "ratio": 1.0,
        "base": "a",
    }


def test_a_task_without_its_base_is_refused():
    with pytest.raises(ValueError, match="READ must have one of x, y, got a"):
        timing.rows("READ", "seconds", {"a": [1.0]}, ["x", "y"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Timing(turns=0), "turns must be at least 1, got 0"),
        (lambda: Timing(seconds=0), "seconds must be above 0 and finite, got 0"),
        (lambda: Stage("s", lambda: iter([]), 0), "images must be at least 1, got 0"),
        (
            lambda: timing.measured([Stage("s", lambda: itertools.repeat(0), 1)] * 2, Timing()),
            "stages must have different names, got s, s",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
