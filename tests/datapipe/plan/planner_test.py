"""Plans and class weights over real records: what fits, what does not, what is warned of."""

import re

import numpy as np
import pytest

from datapipe.plan import class_weights, planner
from datapipe.plan.options import SamplingOptions
from records.common.targets import Target
from tests import fakes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    counts = {"rare": 5, "usual": 20}
    return fakes.built(tmp_path_factory.mktemp("planner"), counts, ratios={"train": 1})


def planned(opened, *, seed=0, batch_size=5, **options):
    options = SamplingOptions(**options)
    return planner.plan(opened, "train", options, seed=seed, batch_size=batch_size), options


def test_a_plan_is_over_the_rows_of_the_split(opened):
    made, _ = planned(
        opened, seed=3, target=Target("undersample"), strata="group", stratified_batches=True
    )
    assert made.draws.tolist() == [5, 5]
    assert made.stratified_batches and made.has_strata
    assert (made.seed, made.batch_size) == (3, 5)


def test_strata_of_one_value_are_refused(opened):
    with pytest.raises(ValueError, match="strata=domain has no effect: no class of train has rows"):
        planned(opened, strata="domain")


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("none", lambda plan: None),
        ("balanced", class_weights.balanced),
        ("effective", lambda plan: class_weights.effective(plan, 0.999)),
        ({"rare": 3, "usual": 1}, lambda plan: class_weights.explicit(plan, {"rare": 3})),
    ],
)
def test_class_weights(opened, asked, wanted):
    made = planner.class_weights(*planned(opened, class_weights=asked))
    np.testing.assert_array_equal(made, wanted(planned(opened)[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": Target("shares", shares={"who": 1})}, "shares name 'who'"),
        ({"class_weights": {"rare": -1.0}}, "weight of 'rare' must be at least 0 and finite, got"),
        ({"class_weights": "blanced"}, "class_weights must be one of none, balanced, effective"),
        ({"strata": "colour"}, "strata must be one of none, domain, group, got 'colour'"),
    ],
)
def test_what_does_not_fit_is_refused(opened, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        planner.class_weights(*planned(opened, **options))


def test_a_double_correction_is_warned_of(opened, capsys):
    target = Target("balanced")
    planner.class_weights(*planned(opened, target=target, class_weights={"rare": 4.0}))
    said = capsys.readouterr().out
    assert said.startswith("warning: target 'balanced' and the class weights both correct")
