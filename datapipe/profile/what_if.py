"""Ways to train: what the stages of one take, and what single changes of it bring.

A `Setup` is a way to train, a `Bench` is what all setups share. How a training step is made and
where it is computed is for the caller to say; `doctor` says how stages are measured.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from datapipe import pipeline
from datapipe.augment.options import AugmentOptions
from datapipe.pipeline import Batch
from datapipe.plan.sampling import SamplingPlan
from datapipe.profile import diagnosis
from datapipe.profile import measure as doctor
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
class Setup:
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
    def images_later(self) -> bool:
        """Whether the step makes the images."""
        return self.residency == "device"


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all setups share.

    Attributes:
        records: the record set.
        split: of it, the one to train on.
        plan: makes the sampling plan for a size of batch.
        computed: makes of a function of a batch one that is computed there.
        step: makes the training step of a setup, given what makes the images within it, if
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
    step: Callable[[Setup, Images | None], Work] | None = None
    any_precision: bool = True
    gpus: tuple[str, ...] = ()
    class_weights: np.ndarray | None = None
    input_range: str = "0..1"

    def input_stage(self, setup: Setup, name: str) -> doctor.Stage:
        """Returns the stage of the whole input."""
        dataset = pipeline.training_dataset(
            setup.rows,
            setup.plan,
            setup.augment,
            class_weights=self.class_weights,
            input_range=self.input_range,
            images_later=setup.images_later,
        )
        period = doctor.period_of(setup.rows, setup.plan)
        return doctor.Stage(name, lambda: iter(dataset), setup.plan.batch_size, period=period)

    def step_stage(self, setup: Setup, name: str, batch: Batch) -> doctor.Stage:
        """Returns the stage of training on one batch again and again.

        Raises:
            ValueError: if there is no model.
        """
        if self.step is None:
            raise ValueError("a step needs a model, got none")
        work = self.step(setup, self.images(setup) if setup.images_later else None)
        return doctor.Stage(name, lambda: itertools.repeat(batch), setup.plan.batch_size, work)

    def images(self, setup: Setup) -> Images:
        """Returns what makes the images of a batch that has none."""
        return pipeline.image_maker(
            setup.rows, setup.plan, setup.augment, input_range=self.input_range
        )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the stages of a setup take.

    Attributes:
        rates: of each stage, by name.
        seconds: of one image, in each stage that the input consists of.
    """

    rates: Mapping[str, doctor.Rates]
    seconds: Mapping[str, float]

    @property
    def times(self) -> diagnosis.Times:
        """Seconds of one image in the input, in the step, and in training."""
        of_input = 1 / self.rates[INPUT].median
        if STEP not in self.rates:
            return diagnosis.Times(of_input, 0.0, of_input)
        return diagnosis.Times(of_input, 1 / self.rates[STEP].median, 1 / self.rates[BOTH].median)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A change to try: the flag, what to say of it, the setup, and the stages that it touches."""

    flag: str
    why: str
    setup: Callable[[], Setup]
    touches: tuple[str, ...]

    def name(self, kind: str) -> str:
        """Returns the name of a stage that it touches."""
        return f"{kind} with {self.flag}"


def bases(bench: Bench, setup: Setup) -> dict[str, doctor.Stage]:
    """Returns the whole input and, with a model, the step.

    Raises:
        ValueError: if plan, augmentation and rows do not fit each other.
    """
    found = {INPUT: bench.input_stage(setup, INPUT)}
    if bench.step is not None:
        found[STEP] = bench.step_stage(setup, STEP, next(found[INPUT].batches()))
    return found


def measure(
    bench: Bench, setup: Setup, of: Mapping[str, doctor.Stage], timing: doctor.Timing
) -> Measured:
    """Returns what all stages take, those of the input and its `bases`."""
    parts = doctor.input_stages(
        setup.rows,
        setup.plan,
        setup.augment,
        input_range=bench.input_range,
        images_later=setup.images_later,
    )
    wholes = list(of.values())
    if STEP in of:
        wholes.append(dataclasses.replace(of[INPUT], name=BOTH, work=of[STEP].work))
        if setup.images_later:
            wholes.insert(1, _images_in_step(bench, setup, of[STEP]))
        elif bench.gpus:
            wholes.insert(1, _transfer(setup.plan.batch_size, setup.rows.image_size))
    rates = doctor.measured([*parts, *wholes], timing)
    return Measured(
        rates, doctor.seconds_of_stages({part.name: rates[part.name] for part in parts})
    )


def _transfer(batch_size: int, image_size: int) -> doctor.Stage:
    with tf.device("CPU:0"):
        batch = tf.zeros([batch_size, image_size, image_size, 3])

    def copy(images: tf.Tensor) -> tf.Tensor:
        with tf.device("GPU:0"):
            return tf.identity(images)

    return doctor.Stage(_TRANSFER, lambda: itertools.repeat(batch), batch_size, copy)


def _images_in_step(bench: Bench, setup: Setup, step: doctor.Stage) -> doctor.Stage:
    make = bench.images(setup)
    work = bench.computed(lambda batch: make(batch["row"], batch["numbers"]))
    return dataclasses.replace(step, name=_IN_STEP, work=work)


def tried(
    bench: Bench,
    setup: Setup,
    of: Mapping[str, doctor.Stage],
    times: diagnosis.Times,
    timing: doctor.Timing,
) -> list[diagnosis.Change]:
    """Returns what single changes bring, each measured in turns with the `bases` of the setup."""
    worth = dict(zip((INPUT, STEP), diagnosis.worth_trying(times), strict=True))
    made = []
    for trial in _trials(bench, setup, times):
        if any(worth[kind] for kind in trial.touches) and (stages := _stages(bench, of, trial)):
            made.append((trial, stages))
    touched = {kind for trial, _ in made for kind in trial.touches}
    before = [stage for kind, stage in of.items() if kind in touched]
    after = [stage for _, stages in made for stage in stages]
    rates = doctor.measured([*before, *after], timing)
    return [_change(trial, rates) for trial, _ in made]


def _change(trial: _Trial, rates: Mapping[str, doctor.Rates]) -> diagnosis.Change:
    speeds = {kind: rates[trial.name(kind)].over(rates[kind]) for kind in trial.touches}
    of_input, of_step = speeds.get(INPUT, 1.0), speeds.get(STEP, 1.0)
    why = trial.why.format(fixed=diagnosis.fixed_share(of_step, _LARGER))
    return diagnosis.Change(trial.flag, why, of_input, of_step)


def _stages(bench: Bench, of: Mapping[str, doctor.Stage], trial: _Trial) -> list[doctor.Stage]:
    """Returns the stages that a trial touches; none if there is no room for it."""
    try:
        setup, stages = trial.setup(), []
        if trial.touches == (STEP,) and not setup.images_later:
            ready = next(of[STEP].batches())
            batch = _repeated(ready, setup.plan.batch_size // of[STEP].images)
        else:
            feed = bench.input_stage(setup, trial.name(INPUT))
            batch = next(feed.batches())
            stages += [feed] if INPUT in trial.touches else []
        if STEP in trial.touches:
            stages.append(bench.step_stage(setup, trial.name(STEP), batch))
        for stage in stages:
            if stage.work:
                stage.work(batch)
        return stages
    except (tf.errors.ResourceExhaustedError, host.MemoryBudgetError):
        return []


def _repeated(batch: Batch, times: int) -> dict[str, tf.Tensor]:
    return {name: tf.concat([value] * times, axis=0) for name, value in batch.items()}


def _trials(bench: Bench, setup: Setup, times: diagnosis.Times) -> Iterator[_Trial]:
    """Yields what may help with this setup, on this machine."""
    yield from _residency_trials(bench, setup)
    if bench.step is not None or not setup.images_later:
        yield from _augment_trials(setup)
    if bench.step is not None:
        yield from _step_trials(bench, setup, times)


def _residency_trials(bench: Bench, setup: Setup) -> Iterator[_Trial]:
    def moved(where: str) -> Setup:
        found = residency.open_rows(bench.records, bench.split, residency=where)
        return dataclasses.replace(setup, rows=found.rows, residency=where)

    needed = host.needed_bytes(bench.records, bench.split)
    if setup.residency == "stream" and needed < host.free_memory():
        yield _Trial(
            "--residency=host",
            f"the {residency.in_words(needed)} of pixels fit into memory and are read once",
            lambda: moved("host"),
            (INPUT,),
        )
    if not bench.gpus or bench.step is None:
        return
    if setup.residency == "host":
        yield _Trial(
            "--residency=device",
            "the pixels stay on the GPU, which makes the images in the training step",
            lambda: moved("device"),
            (INPUT, STEP),
        )
    if setup.residency == "device":
        yield _Trial(
            "--residency=host",
            "the processor makes the images while the GPU trains",
            lambda: moved("host"),
            (INPUT, STEP),
        )


def _augment_trials(setup: Setup) -> Iterator[_Trial]:
    for kind, (used, fewer) in doctor.kinds_of_change(setup.augment).items():
        yield _Trial(
            f"augmentation without {kind}",
            f"leave out {', '.join(used)}; the images vary less then, so compare the accuracy",
            lambda fewer=fewer: dataclasses.replace(setup, augment=fewer),  # type: ignore[misc]
            (STEP if setup.images_later else INPUT,),
        )


def _step_trials(bench: Bench, setup: Setup, times: diagnosis.Times) -> Iterator[_Trial]:
    size, larger = setup.plan.batch_size, setup.plan.batch_size * _LARGER
    if larger <= setup.plan.epoch_length and times.step * size < _LONG_STEP:
        yield _Trial(
            f"--batch_size={larger}",
            f"{{fixed:.0%}} of a step with {size} images is a fixed cost; choose the"
            " --learning_rate anew",
            lambda: dataclasses.replace(setup, plan=bench.plan(larger)),
            (STEP,),
        )
    other = "float32" if setup.precision != "float32" else "mixed_bfloat16"
    if bench.any_precision:
        yield _Trial(
            f"--precision={other}",
            f"this device computes the step faster than in {setup.precision}; compare the accuracy",
            lambda: dataclasses.replace(setup, precision=other),
            (STEP,),
        )
    if bench.gpus or setup.jit_compile:
        yield _Trial(
            "--nojit_compile" if setup.jit_compile else "--jit_compile",
            f"XLA makes this step {'slower' if setup.jit_compile else 'faster'}",
            lambda: dataclasses.replace(setup, jit_compile=not setup.jit_compile),
            (STEP,),
        )
