import dataclasses
import math

import pytest

from datapipe.profile import diagnosis
from datapipe.profile.diagnosis import Change, Times

STAGES = {"plan": 1.0, "gather": 2.0, "augmentation": 7.0}


@pytest.mark.parametrize(
    ("times", "overlap"),
    [
        (Times(2.0, 6.0, 8.0), 0.0),  # they take turns
        (Times(2.0, 6.0, 6.0), 1.0),  # the input is hidden behind the step
        (Times(6.0, 2.0, 6.0), 1.0),
        (Times(2.0, 6.0, 7.0), 0.5),
        (Times(2.0, 6.0, 9.0), 0.0),  # more than both: something else takes time too
        (Times(2.0, 6.0, 5.0), 1.0),  # less than the longer is chance
        (Times(2.0, 0.0, 2.0), 1.0),  # no model
    ],
)
def test_overlap(times, overlap):
    assert times.overlap == overlap


@pytest.mark.parametrize(
    ("times", "speeds", "gain"),
    [
        # Hidden behind the step, a faster input gains nothing, and a faster step gains all of it
        # until the input is what lasts.
        (Times(2.0, 6.0, 6.0), {"input_speed": 10}, 1.0),
        (Times(2.0, 6.0, 6.0), {"step_speed": 2}, 2.0),
        (Times(2.0, 6.0, 6.0), {"step_speed": 6}, 3.0),
        # On the same cores both add up.
        (Times(2.0, 6.0, 8.0), {"input_speed": 2}, 8 / 7),
        (Times(2.0, 6.0, 8.0), {"input_speed": float("inf")}, 8 / 6),
        (Times(2.0, 6.0, 8.0), {"input_speed": 2, "step_speed": 2}, 2.0),
        # What is above both stays.
        (Times(2.0, 6.0, 10.0), {"step_speed": 3}, 10 / 6),
        (Times(2.0, 0.0, 2.0), {"input_speed": 4}, 4.0),
        (Times(6.0, 2.0, 6.0), {"input_speed": 0.5}, 0.5),
        # Nothing is left.
        (Times(2.0, 0.0, 2.0), {"input_speed": float("inf")}, float("inf")),
    ],
)
def test_expected_gain(times, speeds, gain):
    assert times.gain(**speeds) == pytest.approx(gain)


HOST = Change("--residency=host", "they fit", input_speed=5.0)
BATCH = Change("--batch_size=256", "a fixed cost", step_speed=2.0)
SMALL = Change("--jit_compile", "XLA", step_speed=1.05)
WORSE = Change("--precision=float32", "slower", step_speed=0.5)


@pytest.mark.parametrize(
    ("times", "changes", "verdict", "gain", "advice"),
    [
        (Times(8.0, 2.0, 8.0), [HOST, BATCH], "input-bound", 4.0, "--residency=host: they fit."),
        (Times(2.0, 8.0, 8.0), [HOST, BATCH], "compute-bound", 2.0, "--batch_size=256: a fixed"),
        # They share the cores: the input is the smaller part, but more can be gained there.
        (Times(7.0, 8.0, 15.0), [HOST, BATCH], "compute-bound", 15 / 9.4, "--residency=host"),
        # Nothing gains enough: what is left.
        (Times(0.01, 8.0, 8.0), [SMALL], "compute-bound", 1.0, "leave the input as it is"),
        (Times(8.0, 2.0, 8.0), [], "input-bound", 8 / 2.4, "'augmentation' (70% of the"),
        (Times(8.0, 2.0, 8.0), [SMALL, WORSE], "input-bound", 8 / 2.4, "training 3.33 times"),
        (Times(7.0, 8.0, 15.0), [WORSE], "compute-bound", 15 / 10.1, "'augmentation' (70%"),
        (Times(3.0, 0.0, 3.0), [HOST], "no model", 5.0, "the input 5.00 times as fast"),
        (Times(3.0, 0.0, 3.0), [], "no model", 10 / 3, "augment less"),
    ],
)
def test_verdict_and_advice_follow_from_the_numbers(times, changes, verdict, gain, advice):
    told = diagnosis.diagnose(times, STAGES, changes)
    assert (told.verdict, told.gain) == (verdict, pytest.approx(gain))
    assert advice in told.advice
    assert told.factor == times.step / times.input
    assert (told.stage, told.stage_share) == ("augmentation", pytest.approx(0.7))
    assert len(told.gains) == len(changes)


@pytest.mark.parametrize("stage", [*diagnosis.REMEDIES, "another"])
def test_each_slowest_stage_has_its_remedy(stage):
    told = diagnosis.diagnose(Times(8.0, 2.0, 8.0), {stage: 3.0, "small": 1.0}, [])
    assert told.stage == stage and f"'{stage}' (75% of the input): " in told.advice
    assert diagnosis.REMEDIES.get(stage, "make it faster") in told.advice


def test_a_stage_may_be_all_that_takes_time():
    told = diagnosis.diagnose(Times(3.0, 0.0, 3.0), {"plan": 1.0, "gather": 0.0}, [])
    assert "'plan' (100% of the input)" in told.advice
    assert "an unbounded speed-up of the input" in told.advice
    assert (told.gain, told.to_json()["gain"], told.to_json()["most_gain"]) == (
        math.inf,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("times", "headline"),
    [
        (Times(8.0, 2.0, 8.0), "input-bound: the model is 4.00 times as fast as its input"),
        (Times(0.02, 2.8, 2.8), "compute-bound: the input is 140 times as fast as the model"),
        (Times(2.0, 2.0, 2.0), "compute-bound: the input is 1.00 times as fast as the model"),
    ],
)
def test_headline(times, headline):
    assert diagnosis.diagnose(times, STAGES, []).headline == headline


@pytest.mark.parametrize(
    ("times", "worth"),
    [
        (Times(8.0, 2.0, 8.0), (True, False)),  # hidden behind the input, no step can help
        (Times(2.0, 8.0, 8.0), (False, True)),
        (Times(5.0, 5.0, 10.0), (True, True)),
        (Times(3.0, 0.0, 3.0), (True, False)),
    ],
)
def test_what_is_worth_trying(times, worth):
    assert diagnosis.worth_trying(times) == worth


def test_fixed_share_of_a_step():
    def seconds(images, fixed=3.0):
        return fixed + 0.5 * images

    faster = (40 / seconds(40)) / (10 / seconds(10))
    assert diagnosis.fixed_share(faster, 4) == pytest.approx(3 / 8)
    assert diagnosis.fixed_share(0.9, 4) == 0.0  # a larger batch was slower


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Times(0.0, 1.0, 1.0), "input must be above 0 and finite, got 0.0"),
        (lambda: Times(1.0, -1.0, 1.0), "step must be at least 0 and finite, got -1.0"),
        (lambda: Times(1.0, 1.0, float("nan")), "training must be above 0 and finite, got nan"),
        (
            lambda: dataclasses.replace(HOST, input_speed=0),
            "input_speed must be above 0 and finite, got 0",
        ),
        (lambda: diagnosis.diagnose(Times(1.0, 1.0, 1.0), {"plan": 0.0}, []), "stages must take"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
