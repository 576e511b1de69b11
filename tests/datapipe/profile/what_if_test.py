"""Which stages a configuration has, and which changes of it are measured."""

import functools

import numpy as np
import pytest

from datapipe.augment.options import AugmentOptions
from datapipe.plan import sampling
from datapipe.profile import diagnosis, stages, what_if
from datapipe.profile.timing import Timing
from datapipe.rows import residency
from records.common.backend import tf
from records.common.targets import Target
from tests import fakes

QUICK = Timing(turns=1, seconds=1e-4, min_turns=1)
AUGMENT = AugmentOptions(horizontal_flip=True, hue_range=5)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 50, "b": 30})


def configured(records, where, **changed):
    """Returns a context and a configuration of it."""
    labels, names = records.index("train").label, records.manifest.class_names
    plan = functools.partial(sampling.plan, labels, names, Target(), seed=1)
    context = what_if.Context(
        records=records,
        split="train",
        plan=lambda batch_size: plan(batch_size=batch_size),
        computed=tf.function,
        **changed,
    )
    rows = residency.open_rows(records, "train", residency=where, show_progress=False).rows
    return context, what_if.Configuration(rows, where, plan(batch_size=4), AUGMENT)


def stepping(config, images):
    """Returns a step that does nothing but make the images, if it must."""
    return lambda batch: images(batch["row"], batch["numbers"]) if images else batch["image"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("host", ["plan", "gather", "augmentation", what_if.INPUT, what_if.STEP, what_if.BOTH]),
        (
            "device",
            [
                *("plan", "random numbers", what_if.INPUT, "images, within the step"),
                *(what_if.STEP, what_if.BOTH),
            ],
        ),
    ],
)
def test_the_stages_of_a_configuration(records, where, names):
    context, config = configured(records, where, step=stepping)
    bases = what_if.bases(context, config)
    found = what_if.measure(context, config, bases, QUICK)
    assert list(found.rates) == [stages.ITERATOR, *names]
    assert found.times.input == 1 / found.rates[what_if.INPUT].median
    assert sum(found.seconds.values()) > 0


@pytest.mark.slow
def test_without_a_model_there_is_no_step(records):
    context, config = configured(records, "host")
    found = what_if.measure(context, config, what_if.bases(context, config), QUICK)
    assert found.times.step == 0 and found.times.training == found.times.input
    with pytest.raises(ValueError, match="a step needs a model"):
        context.step_stage(config, "s", {})


def tried(records, where, **changed):
    """Returns the flags of the changes that are measured where all could gain."""
    context, config = configured(records, where, **changed)
    bases, times = what_if.bases(context, config), diagnosis.Times(1e-3, 1e-3, 2e-3)
    found = what_if.changes(context, config, bases, times, QUICK)
    assert all(np.isfinite(change.input_speed * change.step_speed) for change in found)
    return [change.flag for change in found]


@pytest.mark.slow
def test_changes_of_the_input_are_tried_without_a_model(records):
    without = ["augmentation without moving pixels", "augmentation without colour changes"]
    assert tried(records, "host") == without
    assert tried(records, "stream") == ["--residency=host", *without]


@pytest.mark.slow
def test_changes_of_the_step_are_tried_with_a_model(records):
    found = tried(records, "host", step=stepping)
    assert found[2:] == ["--batch_size=16", "--precision=mixed_bfloat16"]
    assert "--precision=mixed_bfloat16" not in tried(
        records, "host", step=stepping, any_precision=False
    )


def test_what_could_not_gain_is_not_tried(records):
    context, config = configured(records, "host", step=stepping)
    bases, times = what_if.bases(context, config), diagnosis.Times(1e-6, 1.0, 1.0)
    found = what_if.changes(context, config, bases, times, QUICK)
    assert [change.flag for change in found] == ["--precision=mixed_bfloat16"]
