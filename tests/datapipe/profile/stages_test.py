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
from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS
from datapipe.plan import sampling
from datapipe.profile import diagnosis, stages, timing
from datapipe.profile.timing import Rates, Stage, Timing
from datapipe.rows import streaming
from datapipe.rows.residency import open_rows
from records.common.backend import tf
from records.common.targets import Target
from tests import fakes

BATCH = 8
QUICK = Timing(turns=3, seconds=0.015)
measured = functools.partial(timing.measured, timing=QUICK, clock=time.process_time)
LONG = 1500  # rounds of labour; some milliseconds, a batch of ours takes a tenth of one


def labour(rounds):
    """Computes for long; returns a 0 that nothing can fold away."""
    x = tf.random.stateless_uniform([1024], [1, 2])
    for _ in tf.range(rounds):
        x = tf.sin(x) + 1
    return tf.cast(tf.reduce_sum(x) > 1e9, tf.float32)


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
    images = chain.Chain.images

    def slow(self, stored, numbers):
        return images(self, stored, numbers) + labour(LONG)

    monkeypatch.setattr(chain.Chain, "images", slow)


def diagnosed(rows, step_rounds, options=PRESETS["none"]):
    parts = stages.input_stages(rows, PLAN, options)
    whole = pipeline.training_dataset(rows, PLAN, options)
    step = tf.function(lambda batch: labour(step_rounds))
    ready = next(iter(whole))
    every = [
        *parts,
        Stage("input", lambda: iter(whole), BATCH),
        Stage("step", lambda: itertools.repeat(ready), BATCH, step),
        Stage("training", lambda: iter(whole), BATCH, step),
    ]
    rates = measured(every)
    times = diagnosis.Times(*(1 / rates[name].median for name in ("input", "step", "training")))
    of_input = stages.seconds_of_stages({part.name: rates[part.name] for part in parts})
    return diagnosis.diagnose(times, of_input, []), rates


@pytest.mark.slow
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
    assert f"the slowest input stage is '{name}'" in told.advice
    assert rates["training"].waiting > 0.25 > rates["step"].waiting


@pytest.mark.slow
def test_slow_augmentation_is_found(slow_images):
    options = AugmentOptions(brightness_range=(0.5, 1))
    told, _ = diagnosed(Slow(), step_rounds=LONG // 20, options=options)
    assert (told.verdict, told.stage) == ("input-bound", "augmentation")
    assert "augment less" in told.advice


@pytest.mark.slow
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
    both = [Stage("input", ticks, 1), Stage("step", lambda: itertools.repeat(0), 1, step)]
    rates = measured(both)
    factor = rates["input"].over(rates["step"])
    # On a machine with other work one of the two may get twice the time of the other.
    assert of_step / of_input / 4 < factor < of_step / of_input * 4


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 50, "b": 20})


@pytest.mark.slow
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
    found = stages.input_stages(rows, plan, options, augment_on_device=later)
    assert [stage.name for stage in found] == [stages.ITERATOR, *names]
    for stage in found:
        assert stage.images == BATCH
        next(stage.batches())


def test_the_period_is_a_window(records):
    rows = streaming.open_stream(records, "train", window_bytes=1)
    plan = sampling.plan(rows.labels.numpy(), "ab", Target(), seed=1, batch_size=2)
    assert stages.period_of(rows, plan) == plan.steps_per_epoch // rows.windows_per_epoch
    assert stages.period_of(Slow(), plan) == 1


def test_the_iterator_overhead_is_subtracted_from_the_others():
    speeds = {stages.ITERATOR: 100.0, "plan": 50.0, "gather": 200.0}
    rates = {name: Rates((speed,), (1.0,)) for name, speed in speeds.items()}
    found = stages.seconds_of_stages(rates)
    assert found == pytest.approx({stages.ITERATOR: 0.01, "plan": 0.01, "gather": 0.0})
