"""What measured times of a training say: what limits it, and the one change to make. Pure rules.

i, s and t are the seconds of one image: in the input alone, in the training step alone on a batch
that is ready, and in training itself, where both run together.

- The factor is s / i. Below 1 training is *input-bound*, else *compute-bound*, and the factor says
  how many times as fast as needed the input is.
- The overlap o = (i + s - t) / min(i, s), within 0..1, says how much of the shorter of the two is
  hidden behind the longer: near 1 where a GPU does the steps, near 0 where both share the cores.
- A change that makes the input a and the step b times as fast is expected to bring t to
  i / a + s / b - o min(i / a, s / b), plus what t is above i + s now.
- The advice is the change with the largest expected gain, if training becomes at least `WORTH`
  times as fast. If no change does, it says what is left: of an input that limits, its slowest stage
  and what its end would gain; of a model that limits, the most that any input could gain.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from records.common import checks

WORTH = 1.1  # gains below are within what a shared machine varies by
INPUT_BOUND, COMPUTE_BOUND, NO_MODEL = "input-bound", "compute-bound", "no model"

REMEDIES = {
    "read": "put the records on a faster disk, or build them with a smaller --image_size",
    "plan": "give it more cores",
    "random numbers": "give it more cores",
    "gather": "give it more cores, or build the records with a smaller --image_size",
    "to float32": "give it more cores, or build the records with a smaller --image_size",
    "augmentation": "augment less, or give it more cores",
    "iterator overhead": "use a larger --batch_size, which has fewer batches to hand over",
}


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one image.

    Attributes:
        input: of the whole input, alone.
        step: of the training step on a batch that is ready; 0 if there is no model.
        training: of both together; that of the input if there is no model.
    """

    input: float
    step: float
    training: float

    def __post_init__(self) -> None:
        for name, ends in (("input", "()"), ("step", "[)"), ("training", "()")):
            checks.between(name, getattr(self, name), 0, float("inf"), ends)

    @property
    def factor(self) -> float:
        """How many times as fast as the step the input is; 0 if there is no model."""
        return self.step / self.input

    @property
    def overlap(self) -> float:
        """Share of the shorter of input and step that is hidden behind the longer, 0 to 1."""
        shorter = min(self.input, self.step)
        hidden = self.input + self.step - self.training
        return min(max(hidden / shorter, 0.0), 1.0) if shorter else 1.0

    def gain(self, *, input_speed: float = 1.0, step_speed: float = 1.0) -> float:
        """Returns how many times as fast training is expected to become.

        Args:
            input_speed: times as fast as now; infinite for an input that takes no time.
            step_speed: times as fast as now.
        """
        now = self._together(self.input, self.step)
        extra = max(0.0, self.training - now)
        then = self._together(self.input / input_speed, self.step / step_speed) + extra
        return (now + extra) / then if then else float("inf")

    def _together(self, input_time: float, step_time: float) -> float:
        return input_time + step_time - self.overlap * min(input_time, step_time)


@dataclasses.dataclass(frozen=True)
class Change:
    """Something that was tried.

    Attributes:
        flag: what to give or leave out, short.
        why: what it does, and what else it changes.
        input_speed: times as fast as now, as measured.
        step_speed: times as fast as now, as measured.
    """

    flag: str
    why: str
    input_speed: float = 1.0
    step_speed: float = 1.0

    def __post_init__(self) -> None:
        for name in ("input_speed", "step_speed"):
            checks.between(name, getattr(self, name), 0, float("inf"), "()")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What limits the training.

    Attributes:
        verdict: `input-bound`, `compute-bound`, or `no model`.
        factor: times as fast as the model the input is.
        overlap: as of `Times`.
        stage: the slowest of the input.
        stage_share: of the time of all its stages.
        most_gain: times as fast training would be if the input took no time.
        gains: expected gain of each change that was tried, in their order.
        headline: the verdict as a sentence.
        advice: the one change to make, as a sentence.
        gain: expected of the advice; 1 if there is nothing to change.
    """

    verdict: str
    factor: float
    overlap: float
    stage: str
    stage_share: float
    most_gain: float
    gains: tuple[float, ...]
    headline: str
    advice: str
    gain: float

    def to_json(self) -> dict[str, Any]:
        """Returns the fields by name; JSON has no infinity, so a gain without bound is None."""
        fields = dataclasses.asdict(self)
        return {name: None if value == float("inf") else value for name, value in fields.items()}


def diagnose(times: Times, stages: Mapping[str, float], changes: Sequence[Change]) -> Diagnosis:
    """Returns what limits a training and the one change to make, by the rule above.

    Args:
        stages: seconds of one image in each stage of the input, at least one above 0.

    Raises:
        ValueError: if no stage takes time.
    """
    total = sum(stages.values())
    if not total > 0:
        raise ValueError(f"stages must take time, got {dict(stages)}")
    stage = max(stages, key=lambda name: stages[name])
    share = stages[stage] / total
    gains = tuple(
        times.gain(input_speed=change.input_speed, step_speed=change.step_speed)
        for change in changes
    )
    verdict = _verdict(times)
    best = max(range(len(gains)), key=lambda number: gains[number], default=None)
    if best is not None and gains[best] >= WORTH:
        gain, what = gains[best], changes[best]
        advice = f"{what.flag}: {what.why}. Expected: {_faster(verdict, gain)}."
    else:
        gain, advice = _without_change(times, verdict, stage, share)
    if verdict == NO_MODEL:
        advice = f"if the input limits training, which --model would tell: {advice}"
    return Diagnosis(
        verdict=verdict,
        factor=times.factor,
        overlap=times.overlap,
        stage=stage,
        stage_share=share,
        most_gain=_most(times),
        gains=gains,
        headline=_headline(times, verdict),
        advice=advice,
        gain=gain,
    )


def worth_trying(times: Times) -> tuple[bool, bool]:
    """Returns whether a change of the input, and one of the step, could gain enough to be tried."""
    of_step = bool(times.step) and times.gain(step_speed=float("inf")) >= WORTH
    return not times.step or _most(times) >= WORTH, of_step


def fixed_share(times_as_fast: float, times_as_large: float) -> float:
    """Returns the share of a step that does not depend on the size of its batch, 0 to 1.

    Of a step that takes a + b n seconds for n images that is a / (a + b n).

    Args:
        times_as_fast: images a second with the larger batch, over those with this one.
        times_as_large: the larger batch over this one, above 1.
    """
    share = times_as_large / (times_as_large - 1) * (1 - 1 / times_as_fast)
    return min(max(share, 0.0), 1.0)


def _verdict(times: Times) -> str:
    if not times.step:
        return NO_MODEL
    return INPUT_BOUND if times.factor < 1 else COMPUTE_BOUND


def _most(times: Times) -> float:
    """Returns the gain of an input that takes no time; without a model there is no bound."""
    return times.gain(input_speed=float("inf")) if times.step else float("inf")


def _headline(times: Times, verdict: str) -> str:
    if verdict == NO_MODEL:
        return "no model: only the input was measured, so it cannot be said what limits training"
    if verdict == INPUT_BOUND:
        return f"{verdict}: the model is {number(1 / times.factor)} times as fast as its input"
    return f"{verdict}: the input is {number(times.factor)} times as fast as the model"


def _without_change(times: Times, verdict: str, stage: str, share: float) -> tuple[float, str]:
    """Returns what is left where no change that was tried is worth it: its gain and a sentence."""
    if verdict == COMPUTE_BOUND and _most(times) < WORTH:
        return 1.0, (
            "leave the input as it is: if it took no time at all, training would be"
            f" {number(_most(times))} times as fast. A smaller model or a faster device is what"
            " would help."
        )
    gain = times.gain(input_speed=1 / (1 - share) if share < 1 else float("inf"))
    remedy = REMEDIES.get(stage, "make it faster")
    return gain, (
        f"none of the settings tried improves throughput by {WORTH - 1:.0%} or more; the slowest"
        f" input stage is '{stage}' ({share:.0%} of the input): {remedy}. If it took no time,"
        f" expect at most {_faster(verdict, gain)}."
    )


def _faster(verdict: str, gain: float) -> str:
    what = "the input" if verdict == NO_MODEL else "training"
    if gain == float("inf"):
        return f"an unbounded speed-up of {what}"
    return f"{what} {number(gain)} times as fast"


def number(value: float) -> str:
    """Returns a factor as it is printed: two decimals below 10, whole numbers from there on."""
    if value == float("inf"):
        return "unbounded"
    return f"{value:.2f}" if value < 9.995 else f"{value:,.0f}"
