"""Planted bottlenecks: computing that takes long, put where it must be found.

The clock is that of the processor time of this process, so other processes change nothing.
"""

import dataclasses
import functools
import itertools
import time

import numpy as np
import pytest

from datapipe import pipeline
from datapipe.augment import chain
from datapipe.augment.options import PRESETS, AugmentOptions
from datapipe.plan import sampling
from datapipe.profile import diagnosis, measure
from datapipe.profile.measure import Stage, Timing
from datapipe.rows import streaming
from datapipe.rows.residency import open_rows
from records.common.backend import tf
from records.common.targets import Target
from tests import fakes

BATCH = 8
QUICK = Timing(turns=3, seconds=0.015)
measured = functools.partial(measure.measured, timing=QUICK, clock=time.process_time)
LONG = 1500  # rounds of labour; some milliseconds, a batch of ours takes a tenth of one


def labour(rounds):
    """Computes for long; returns a 0 that nothing can fold away."""
    x = tf.random.stateless_uniform([1024], [1, 2])
    for _ in tf.range(rounds):
        x = tf.sin(x) + 1
    return tf.cast(tf.reduce_sum(x) > 1e9, tf.float32)


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
    rates = measure.measured([stage], Timing(turns=2, seconds=0.1), clock=clock)["s"]
    assert rates.by_turn == pytest.approx([6 / (waits + works)] * 2)
    assert rates.waiting == pytest.approx(waits / (waits + works))


def test_stages_take_turns_and_the_first_does_not_count():
    clock, log = Clock(), []
    durations = iter([1.0, 0.1, 0.2, 0.4])
    stages = [
        Stage("a", lambda: clock.ticking(next(durations), log, "a"), 1),
        Stage("b", lambda: clock.ticking(1.0, log, "b"), 1),
    ]
    rates = measure.measured(stages, Timing(turns=3, seconds=0.01), clock=clock)
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
        return measure.measured([stage], Timing(turns=1, seconds=0.02), clock=clock)["s"].median

    assert rate(5) == pytest.approx(5 / 0.14)
    assert rate(1) == pytest.approx(100)


def test_slow_stages_are_measured_less_often_but_three_times():
    clock = Clock()
    stage = Stage("s", lambda: clock.ticking(50.0), 1)
    rates = measure.measured([stage], Timing(turns=9, seconds=0.1, budget=10), clock=clock)
    assert len(rates["s"].by_turn) == 3


PLAN = sampling.plan(np.arange(40) % 2, ["a", "b"], Target("balanced"), seed=1, batch_size=BATCH)


@dataclasses.dataclass(frozen=True)
class Slow:
    """Rows in memory that take long to find, to gather, or to be read."""

    plan_rounds: int = 0
    gather_rounds: int = 0
    read_rounds: int = 0
    image_size: int = 8

    def __len__(self):
        return 40

    def batches(self, plan, **where):
        def batch(step):
            wasted = tf.cast(labour(self.plan_rounds + self.read_rounds), tf.int64)
            position = step * BATCH + tf.range(BATCH, dtype=tf.int64) + wasted
            row = position % len(self)
            drawn = {"label": tf.cast(row % 2, tf.int32), "row": row, "position": position}
            return {**drawn, "image": self._table(row)} if self.read_rounds else drawn

        return tf.data.Dataset.range(1 << 40).map(batch)

    def pixels(self, batch):
        if "image" in batch:
            return batch["image"]
        return self._table(batch["row"]) + tf.cast(labour(self.gather_rounds), tf.uint8)

    def _table(self, row):
        shape = [len(self), self.image_size, self.image_size, 3]
        return tf.gather(tf.ones(shape, tf.uint8), row)


@pytest.fixture
def slow_images(monkeypatch):
    images = chain.Augmentation.images

    def slow(self, stored, numbers):
        return images(self, stored, numbers) + labour(LONG)

    monkeypatch.setattr(chain.Augmentation, "images", slow)


def diagnosed(rows, step_rounds, options=PRESETS["none"]):
    parts = measure.input_stages(rows, PLAN, options)
    whole = pipeline.training_dataset(rows, PLAN, options)
    step = tf.function(lambda batch: labour(step_rounds))
    ready = next(iter(whole))
    stages = [
        *parts,
        Stage("input", lambda: iter(whole), BATCH),
        Stage("step", lambda: itertools.repeat(ready), BATCH, step),
        Stage("training", lambda: iter(whole), BATCH, step),
    ]
    rates = measured(stages)
    times = diagnosis.Times(*(1 / rates[name].median for name in ("input", "step", "training")))
    of_input = measure.seconds_of_stages({part.name: rates[part.name] for part in parts})
    return diagnosis.diagnose(times, of_input, []), rates


@pytest.mark.parametrize(
    ("name", "rounds"),
    [
        ("plan", {"plan_rounds": LONG}),
        ("gather", {"gather_rounds": LONG}),
        ("read", {"read_rounds": LONG}),
    ],
)
def test_a_slow_stage_of_the_input_is_found(name, rounds):
    told, rates = diagnosed(Slow(**rounds), step_rounds=LONG // 20)
    assert (told.verdict, told.stage) == ("input-bound", name)
    assert told.factor < 0.6 and told.stage_share > 0.6
    assert f"'{name}' takes" in told.advice
    assert rates["training"].waiting > 0.25 > rates["step"].waiting


def test_slow_augmentation_is_found(slow_images):
    options = AugmentOptions(brightness_range=(0.5, 1))
    told, _ = diagnosed(Slow(), step_rounds=LONG // 20, options=options)
    assert (told.verdict, told.stage) == ("input-bound", "augmentation")
    assert "augment less" in told.advice


def test_a_slow_step_is_found():
    told, rates = diagnosed(Slow(), step_rounds=4 * LONG)
    assert told.verdict == "compute-bound" and told.factor > 2
    assert rates["training"].waiting < 0.75


@pytest.mark.parametrize(("of_input", "of_step"), [(8, 1), (1, 8)])
def test_the_factor_is_that_of_the_labour(of_input, of_step):
    def ticks():
        ds = tf.data.Dataset.range(1 << 40).map(lambda _: labour(LONG * of_input))
        return iter(ds)

    step = tf.function(lambda _: labour(LONG * of_step))
    stages = [Stage("input", ticks, 1), Stage("step", lambda: itertools.repeat(0), 1, step)]
    rates = measured(stages)
    factor = rates["input"].over(rates["step"])
    # On a machine with other work one of the two may get twice the time of the other.
    assert of_step / of_input / 4 < factor < of_step / of_input * 4


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 50, "b": 20})


@pytest.mark.parametrize(
    ("residency", "options", "names"),
    [
        ("host", PRESETS["basic"], ["plan", "gather", "augmentation"]),
        ("device", PRESETS["none"], ["plan", "random numbers"]),
        ("stream", PRESETS["none"], ["read", "to float32"]),
    ],
)
def test_stages_of_the_input(records, residency, options, names):
    rows = open_rows(records, "train", residency=residency, show_progress=False).rows
    plan = sampling.plan(rows.labels.numpy(), "ab", Target(), seed=1, batch_size=BATCH)
    later = residency == "device"
    stages = measure.input_stages(rows, plan, options, images_later=later)
    assert [stage.name for stage in stages] == [measure.HANDING_OVER, *names]
    for stage in stages:
        assert stage.images == BATCH
        next(stage.batches())


def test_the_period_is_a_window(records):
    rows = streaming.open_stream(records, "train", window_bytes=1)
    plan = sampling.plan(rows.labels.numpy(), "ab", Target(), seed=1, batch_size=2)
    assert measure.period_of(rows, plan) == plan.steps_per_epoch // rows.windows_per_epoch
    assert measure.period_of(Slow(), plan) == 1


def test_handing_over_is_taken_off_the_others():
    speeds = {measure.HANDING_OVER: 100.0, "plan": 50.0, "gather": 200.0}
    rates = {name: measure.Rates((speed,), (1.0,)) for name, speed in speeds.items()}
    found = measure.seconds_of_stages(rates)
    assert found == pytest.approx({measure.HANDING_OVER: 0.01, "plan": 0.01, "gather": 0.0})


def test_kinds_of_change():
    options = AugmentOptions(rotation_range=9, hue_range=5, brightness_range=(0.5, 1), cval=3)
    found = measure.kinds_of_change(options)
    assert {kind: used for kind, (used, _) in found.items()} == {
        "moving pixels": ["rotation_range"],
        "colour changes": ["brightness_range", "hue_range"],
    }
    moved = found["colour changes"][1]
    assert moved == AugmentOptions(rotation_range=9, cval=3) and not moved.colours
    assert not found["moving pixels"][1].warps
    assert measure.kinds_of_change(AugmentOptions()) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Timing(turns=0), "turns must be at least 1, got 0"),
        (lambda: Timing(seconds=0), "seconds must be above 0, got 0"),
        (lambda: Stage("s", lambda: iter([]), 0), "images must be at least 1, got 0"),
        (
            lambda: measure.measured([Stage("s", lambda: itertools.repeat(0), 1)] * 2, QUICK),
            "stages must have different names, got s, s",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
