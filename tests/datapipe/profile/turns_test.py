import math

import pytest

from datapipe.profile import turns


class Clock:
    """Time that passes only where a system spends it, and what was done when."""

    def __init__(self):
        self.now, self.done = 0.0, []

    def system(self, name, seconds, *, to_begin=0.0, pass_batches=0):
        def begin():
            self.now += to_begin
            self.done.append(f"{name} begins")
            return batches()

        def batches():
            try:
                while True:
                    self.now += seconds
                    self.done.append(name)
                    yield name
            finally:
                self.done.append(f"{name} ends")

        return turns.System(name, begin, pass_batches)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(turns.time, "perf_counter", lambda: clock.now)
    return clock


def test_a_steady_rate_does_not_count_the_beginning(clock):
    slow = clock.system("slow", 0.5, to_begin=1000)
    fast = clock.system("fast", 0.125, to_begin=1000)
    rates = turns.rates([slow, fast], turns.Timing(3, 2.0, batch_size=10))
    assert rates == {"slow": [20.0] * 3, "fast": [80.0] * 3}


def test_a_pass_counts_from_before_its_beginning_to_its_last_batch(clock):
    system = clock.system("pass", 0.5, to_begin=3.0, pass_batches=2)
    assert turns.rates([system], turns.Timing(2, 99, batch_size=10)) == {"pass": [5.0, 5.0]}
    assert clock.done.count("pass") == 3 * 2  # one round is not counted


def test_systems_take_turns_and_one_is_alive_at_a_time(clock):
    systems = [clock.system("a", 1.0), clock.system("b", 1.0)]
    turns.rates(systems, turns.Timing(2, 1.0, batch_size=1))
    edges = [event for event in clock.done if event not in "ab"]
    assert edges == ["a begins", "a ends", "b begins", "b ends"] * 3
    assert clock.done[:12] == ["a begins", *"a" * 9, "a ends", "b begins"]  # 8 to warm up, 1 timed


def test_the_warm_up_lasts_half_a_measurement(clock):
    turns.rates([clock.system("a", 0.25)], turns.Timing(1, 10.0, batch_size=1))
    assert clock.done.count("a") == 2 * (20 + 40)


def test_ratios_are_taken_within_a_turn():
    found = {"a": [2.0, 40.0, 6.0], "b": [1.0, 10.0, 6.0]}
    a, b = turns.summary("READ", "seconds", found, ["c", "b", "a"])
    assert a == turns.Row("READ", "a", "seconds", 6.0, 2.0, 40.0, 3, 2.0, "b")
    assert (b.median, b.ratio, b.base) == (6.0, 1.0, "b")


def test_a_row_of_rates_keeps_its_names():
    (row,) = turns.summary("READ", "images_per_second", {"a": [7.0]}, ["a"])
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
        turns.summary("READ", "seconds", {"a": [1.0]}, ["x", "y"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seconds": 0.0}, "seconds must be positive, got 0.0"),
        ({"seconds": math.nan}, "seconds must be positive, got nan"),
        ({"seconds": math.inf}, "seconds must be positive, got inf"),
    ],
)
def test_wrong_timing_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        turns.Timing(**{"repeats": 1, "seconds": 1.0, "batch_size": 1, **changed})
