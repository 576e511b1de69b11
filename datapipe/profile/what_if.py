"""What-if measurements: what the stages of a training take, and what single changes of it bring.

A `Configuration` is a way to train, a `Context` is what all of them share. How a training step is
made and where it is computed is for the caller to say; `timing` says how stages are measured.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from datapipe import pipeline
from datapipe.augment import chain
from datapipe.augment.options import AugmentOptions
from datapipe.pipeline import Batch
from datapipe.plan.sampling import SamplingPlan
from datapipe.profile import diagnosis
from datapipe.profile.stages import input_stages, period_of, seconds_of_stages
from datapipe.profile.timing import Rates, Stage, Timing, measured
from datapipe.rows import host, residency
from datapipe.rows.base import Rows
from records.common.backend import tf
from records.format.record_set import RecordSet

INPUT, STEP, BOTH = "whole input", "model step, batch ready", "training, both together"
_TRANSFER, _IN_STEP = "transfer, within the step", "images, within the step"
_LARGER = 4  # times the batch that is tried
_LONG_STEP = 0.1  # seconds; what is fixed is a few milliseconds, so of a longer step too little

Images = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Work = Callable[[Batch], object]


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A way to train; each change that is tried is another.

    Attributes:
        rows: the split.
        residency: where they are.
        plan: which row stands where.
        augment: how images are changed.
        precision: name of the Keras policy.
        jit_compile: whether XLA compiles the step.
    """

    rows: Rows
    residency: str
    plan: SamplingPlan
    augment: AugmentOptions
    precision: str = "float32"
    jit_compile: bool = False

    @property
    def augment_on_device(self) -> bool:
        """Whether the step makes the images."""
        return self.residency == "device"


@dataclasses.dataclass(frozen=True)
class Context:
    """What all configurations share.

    Attributes:
        records: the record set.
        split: of it, the one to train on.
        plan: makes the sampling plan for a size of batch.
        computed: makes of a function of a batch one that is computed there.
        step: makes the training step of a configuration, given what makes the images within it, if
            anything does; None without a model.
        any_precision: whether the model can be made in every precision.
        gpus: names of the GPUs.
        class_weights: as of `pipeline.training_dataset`.
        input_range: of the images.
    """

    records: RecordSet
    split: str
    plan: Callable[[int], SamplingPlan]
    computed: Callable[[Work], Work]
    step: Callable[[Configuration, Images | None], Work] | None = None
    any_precision: bool = True
    gpus: tuple[str, ...] = ()
    class_weights: np.ndarray | None = None
    input_range: str = "0..1"

    def input_stage(self, config: Configuration, name: str) -> Stage:
        """Returns the stage of the whole input."""
        dataset = pipeline.training_dataset(
            config.rows,
            config.plan,
            config.augment,
            class_weights=self.class_weights,
            input_range=self.input_range,
            augment_on_device=config.augment_on_device,
        )
        period = period_of(config.rows, config.plan)
        return Stage(name, lambda: iter(dataset), config.plan.batch_size, period=period)

    def step_stage(self, config: Configuration, name: str, batch: Batch) -> Stage:
        """Returns the stage of training on one batch again and again.

        Raises:
            ValueError: if there is no model.
        """
        if self.step is None:
            raise ValueError("a step needs a model, got none")
        work = self.step(config, self.images(config) if config.augment_on_device else None)
        return Stage(name, lambda: itertools.repeat(batch), config.plan.batch_size, work)

    def images(self, config: Configuration) -> Images:
        """Returns what makes the images of a batch that has none."""
        return pipeline.image_maker(
            config.rows, config.plan, config.augment, input_range=self.input_range
        )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the stages of a configuration take.

    Attributes:
        rates: of each stage, by name.
        seconds: of one image, in each stage that the input consists of.
    """

    rates: Mapping[str, Rates]
    seconds: Mapping[str, float]

    @property
    def times(self) -> diagnosis.Times:
        """Seconds of one image in the input, in the step, and in training."""
        of_input = 1 / self.rates[INPUT].median
        if STEP not in self.rates:
            return diagnosis.Times(of_input, 0.0, of_input)
        return diagnosis.Times(of_input, 1 / self.rates[STEP].median, 1 / self.rates[BOTH].median)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A change to try: the flag, what to say of it, the configuration, the stages it touches."""

    flag: str
    why: str
    make: Callable[[], Configuration]
    touches: tuple[str, ...]

    def name(self, kind: str) -> str:
        """Returns the name of a stage that it touches."""
        return f"{kind} with {self.flag}"


def bases(context: Context, config: Configuration) -> dict[str, Stage]:
    """Returns the whole input and, with a model, the step.

    Raises:
        ValueError: if plan, augmentation and rows do not fit each other.
    """
    found = {INPUT: context.input_stage(config, INPUT)}
    if context.step is not None:
        found[STEP] = context.step_stage(config, STEP, next(found[INPUT].batches()))
    return found


def measure(
    context: Context, config: Configuration, of: Mapping[str, Stage], timing: Timing
) -> Measured:
    """Returns what all stages take, those of the input and its `bases`."""
    parts = input_stages(
        config.rows,
        config.plan,
        config.augment,
        input_range=context.input_range,
        augment_on_device=config.augment_on_device,
    )
    wholes = list(of.values())
    if STEP in of:
        wholes.append(dataclasses.replace(of[INPUT], name=BOTH, work=of[STEP].work))
        if config.augment_on_device:
            wholes.insert(1, _images_in_step(context, config, of[STEP]))
        elif context.gpus:
            wholes.insert(1, _transfer(config.plan.batch_size, config.rows.image_size))
    rates = measured([*parts, *wholes], timing)
    return Measured(rates, seconds_of_stages({part.name: rates[part.name] for part in parts}))


def _transfer(batch_size: int, image_size: int) -> Stage:
    with tf.device("CPU:0"):
        batch = tf.zeros([batch_size, image_size, image_size, 3])

    def copy(images: tf.Tensor) -> tf.Tensor:
        with tf.device("GPU:0"):
            return tf.identity(images)

    return Stage(_TRANSFER, lambda: itertools.repeat(batch), batch_size, copy)


def _images_in_step(context: Context, config: Configuration, step: Stage) -> Stage:
    make = context.images(config)
    work = context.computed(lambda batch: make(batch["row"], batch["numbers"]))
    return dataclasses.replace(step, name=_IN_STEP, work=work)


def changes(
    context: Context,
    config: Configuration,
    of: Mapping[str, Stage],
    times: diagnosis.Times,
    timing: Timing,
) -> list[diagnosis.Change]:
    """Returns what single changes bring, each measured in turns with the `bases`."""
    worth = dict(zip((INPUT, STEP), diagnosis.worth_trying(times), strict=True))
    made = []
    for candidate in _candidates(context, config, times):
        if any(worth[kind] for kind in candidate.touches) and (
            stages := _stages(context, of, candidate)
        ):
            made.append((candidate, stages))
    touched = {kind for candidate, _ in made for kind in candidate.touches}
    before = [stage for kind, stage in of.items() if kind in touched]
    after = [stage for _, stages in made for stage in stages]
    rates = measured([*before, *after], timing)
    return [_change(candidate, rates) for candidate, _ in made]


def _change(candidate: _Candidate, rates: Mapping[str, Rates]) -> diagnosis.Change:
    speeds = {kind: rates[candidate.name(kind)].over(rates[kind]) for kind in candidate.touches}
    of_input, of_step = speeds.get(INPUT, 1.0), speeds.get(STEP, 1.0)
    why = candidate.why.format(fixed=diagnosis.fixed_share(of_step, _LARGER))
    return diagnosis.Change(candidate.flag, why, of_input, of_step)


def _stages(context: Context, of: Mapping[str, Stage], candidate: _Candidate) -> list[Stage]:
    """Returns the stages that a candidate touches, none if there is no room for it."""
    try:
        config, stages = candidate.make(), []
        if candidate.touches == (STEP,) and not config.augment_on_device:
            ready = next(of[STEP].batches())
            batch = _repeated(ready, config.plan.batch_size // of[STEP].images)
        else:
            feed = context.input_stage(config, candidate.name(INPUT))
            batch = next(feed.batches())
            stages += [feed] if INPUT in candidate.touches else []
        if STEP in candidate.touches:
            stages.append(context.step_stage(config, candidate.name(STEP), batch))
        for stage in stages:
            if stage.work:
                stage.work(batch)
        return stages
    except (tf.errors.ResourceExhaustedError, host.MemoryBudgetError):
        return []


def _repeated(batch: Batch, times: int) -> dict[str, tf.Tensor]:
    return {name: tf.concat([value] * times, axis=0) for name, value in batch.items()}


def _candidates(
    context: Context, config: Configuration, times: diagnosis.Times
) -> Iterator[_Candidate]:
    """Yields what may help with this configuration, on this machine."""
    yield from _other_residencies(context, config)
    if context.step is not None or not config.augment_on_device:
        yield from _less_augmentation(config)
    if context.step is not None:
        yield from _other_steps(context, config, times)


def _other_residencies(context: Context, config: Configuration) -> Iterator[_Candidate]:
    def moved(where: str) -> Configuration:
        found = residency.open_rows(context.records, context.split, residency=where)
        return dataclasses.replace(config, rows=found.rows, residency=where)

    needed = host.needed_bytes(context.records, context.split)
    if config.residency == "stream" and needed < host.free_memory():
        yield _Candidate(
            "--residency=host",
            f"the {residency.in_words(needed)} of pixels fit into memory and are read once",
            functools.partial(moved, "host"),
            (INPUT,),
        )
    if not context.gpus or context.step is None:
        return
    if config.residency == "host":
        yield _Candidate(
            "--residency=device",
            "the pixels stay on the GPU, which makes the images in the training step",
            functools.partial(moved, "device"),
            (INPUT, STEP),
        )
    if config.residency == "device":
        yield _Candidate(
            "--residency=host",
            "the processor makes the images while the GPU trains",
            functools.partial(moved, "host"),
            (INPUT, STEP),
        )


def _less_augmentation(config: Configuration) -> Iterator[_Candidate]:
    for each in chain.AUGMENTATIONS:
        if used := config.augment.switched_on(each.kind):
            fewer = config.augment.without(each.kind)
            yield _Candidate(
                f"augmentation without {each.title}",
                f"leave out {', '.join(used)}; the images vary less then, so compare the accuracy",
                functools.partial(dataclasses.replace, config, augment=fewer),
                (STEP if config.augment_on_device else INPUT,),
            )


def _other_steps(
    context: Context, config: Configuration, times: diagnosis.Times
) -> Iterator[_Candidate]:
    size, larger = config.plan.batch_size, config.plan.batch_size * _LARGER
    if larger <= config.plan.epoch_length and times.step * size < _LONG_STEP:
        yield _Candidate(
            f"--batch_size={larger}",
            f"{{fixed:.0%}} of a step with {size} images is a fixed cost; choose the"
            " --learning_rate anew",
            lambda: dataclasses.replace(config, plan=context.plan(larger)),
            (STEP,),
        )
    other = "float32" if config.precision != "float32" else "mixed_bfloat16"
    if context.any_precision:
        yield _Candidate(
            f"--precision={other}",
            f"this device computes the step faster than in {config.precision}; compare the"
            " accuracy",
            functools.partial(dataclasses.replace, config, precision=other),
            (STEP,),
        )
    if context.gpus or config.jit_compile:
        yield _Candidate(
            "--nojit_compile" if config.jit_compile else "--jit_compile",
            f"XLA makes this step {'slower' if config.jit_compile else 'faster'}",
            functools.partial(dataclasses.replace, config, jit_compile=not config.jit_compile),
            (STEP,),
        )
