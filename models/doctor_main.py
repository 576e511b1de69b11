"""Says within about a minute what a training waits for, and the one change to make.

    python -m models.doctor_main --records=photos.records --augment=photo
    python -m models.doctor_main --records=photos.records --model=none --residency=stream

Every stage of the input is measured alone, then the training step on a batch that is ready, then
both together; after that, what single flags would gain. Nothing is trained for keeps. The rule is
in datapipe/diagnosis.py. --model names a network, a .keras file that takes such images, or `none`.
"""

import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from absl import flags

from datapipe import diagnosis, doctor, options, pipeline, residency, resident, sampling
from models import input_range, runs, runtime, single_step, training, zoo
from records import cli, files, manifest, record_set, tfrecord
from records.backend import keras, tf

_Made = TypeVar("_Made")

_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to train on.")
_MODEL = flags.DEFINE_string(
    "model", "convnet", f"{', '.join(sorted(zoo.MODELS))}, a .keras file, or none."
)
_TARGET = flags.DEFINE_enum(
    "target",
    "natural",
    [name for name in options.Target.NAMES if name != "shares"],
    "Class distribution to train on.",
)
_AUGMENT = flags.DEFINE_enum(
    "augment", "none", sorted(options.PRESETS), "Preset of random changes to the images."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a batch.")
_RESIDENCY = flags.DEFINE_enum(
    "residency", "auto", residency.RESIDENCIES, "Where the rows are while training reads them."
)
_PRECISION = flags.DEFINE_enum("precision", "float32", runtime.PRECISIONS, "Of the arithmetic.")
_JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Compile the training step with XLA.")
_SEED = flags.DEFINE_integer("seed", 0, "Of everything random.")
_TURNS = flags.DEFINE_integer("turns", 5, "Measurements of each stage; the median counts.")
_SECONDS = flags.DEFINE_float("seconds", 0.4, "Shortest length of one measurement.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to as well.")

_INPUT, _STEP, _BOTH = "whole input", "model step, batch ready", "training, both together"
_TRANSFER, _IN_STEP = "transfer", "images, within the step"
_LARGER = 4  # times the batch that is tried
_LONG_STEP = 0.1  # seconds; what is fixed is a few milliseconds, so of a longer step too little
_LOADS, _LOADING_SECONDS = 3, 1.0  # a split that loads fast is loaded again, to see the spread


@dataclasses.dataclass(frozen=True)
class _Setup:
    """A way to train; each change that is tried is another.

    Attributes:
        rows: the split.
        residency: where they are.
        plan: which row stands where.
        augment: how images are changed.
        precision: name of the Keras policy.
        jit_compile: whether XLA compiles the step.
    """

    rows: pipeline.Rows
    residency: str
    plan: sampling.SamplingPlan
    augment: options.AugmentOptions
    precision: str
    jit_compile: bool

    @property
    def images_later(self) -> bool:
        """Whether the step makes the images."""
        return self.residency == "device"


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A change to try: the flag, what to say of it, the setup, and the stages that it touches."""

    flag: str
    why: str
    setup: Callable[[], _Setup]
    touches: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Bench:
    """What all setups share.

    Attributes:
        strategy: who computes.
        model: makes the model anew, under the policy that is set; None without a model.
        input_range: of the images.
    """

    strategy: tf.distribute.Strategy
    model: Callable[[], keras.Model] | None
    input_range: str

    def input(self, setup: _Setup, name: str) -> doctor.Stage:
        """Returns the stage of the whole input, up to the device."""
        period = doctor.period_of(setup.rows, setup.plan)
        return doctor.Stage(name, self._batches(setup), setup.plan.batch_size, period=period)

    def step(self, setup: _Setup, name: str, batch: Any) -> doctor.Stage:
        """Returns the stage of training on one batch again and again."""
        how, plan = training.TrainOptions(), setup.plan
        work = single_step.compiled(
            self._made(setup.precision),
            self.strategy,
            how,
            total_steps=how.epochs * plan.steps_per_epoch,
            images=self.images(setup) if setup.images_later else None,
            jit_compile=setup.jit_compile,
        )
        return doctor.Stage(name, lambda: itertools.repeat(batch), plan.batch_size, work)

    def images(self, setup: _Setup) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Returns what makes the images of a batch that has none."""
        return pipeline.image_maker(
            setup.rows, setup.plan, setup.augment, input_range=self.input_range
        )

    def _batches(self, setup: _Setup) -> Callable[[], Iterator[Any]]:
        dataset = pipeline.training_dataset(
            setup.rows,
            setup.plan,
            setup.augment,
            input_range=self.input_range,
            images_later=setup.images_later,
        )
        distributed = self.strategy.distribute_datasets_from_function(lambda _: dataset)
        return lambda: iter(distributed)

    def _made(self, precision: str) -> keras.Model:
        if self.model is None:
            raise ValueError("a step needs a model, got none")
        before = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy(precision)
        try:
            with self.strategy.scope():
                return self.model()
        finally:
            keras.mixed_precision.set_global_policy(before)


@dataclasses.dataclass(frozen=True)
class _Found:
    """All that was measured.

    Attributes:
        loads: of the rows into memory, where that is done once; else None.
        rates: of each stage.
        stages: seconds of one image in each stage of the input.
        times: seconds of one image.
        changes: that were tried.
        diagnosis: what follows.
    """

    loads: doctor.Rates | None
    rates: Mapping[str, doctor.Rates]
    stages: Mapping[str, float]
    times: diagnosis.Times
    changes: Sequence[diagnosis.Change]
    diagnosis: diagnosis.Diagnosis


def main(arguments: Sequence[str]) -> int:
    """Reads options, measures the stages, tries changes, says what was found."""
    timing = _timing(arguments)
    opened = record_set.open_set(cli.require_folder("records", _RECORDS.value))
    cli.one_of(_SPLIT.name, _SPLIT.value, opened.manifest.splits)
    plan = _checked(lambda: _plan(opened, _BATCH_SIZE.value))
    how = runtime.configure(strategy="one", precision=_PRECISION.value, seed=_SEED.value)
    bench = _checked(lambda: _bench(how.strategy, opened.manifest))
    found, loads = _opened(opened)
    setup = _Setup(
        rows=found.rows,
        residency=found.residency,
        plan=plan,
        augment=options.PRESETS[_AUGMENT.value],
        precision=_PRECISION.value,
        jit_compile=_JIT_COMPILE.value,
    )
    print(f"{found.description}\n{_settings(setup)}", flush=True)
    bases = _bases(bench, setup)
    rates, stages = _measured(bench, setup, bases, timing)
    print(f"\n{_table(rates, stages, loads, plan)}", flush=True)
    times = _times(rates)
    trials = _trials(bench, setup, opened, times)
    changes = _tried(bench, bases, trials, times, timing)
    told = diagnosis.diagnose(times, stages, changes)
    print(f"\n{_conclusion(told, changes, rates)}")
    if _JSON.value:
        found_all = _Found(loads, rates, stages, times, changes, told)
        numbers = _numbers(opened, setup, found_all)
        files.write_whole(_JSON.value, files.json_bytes(numbers, indent=1))
        print(f"written: {_JSON.value}")
    return cli.DONE


def _checked(make: Callable[[], _Made]) -> _Made:
    """Calls `make`; what it finds wrong with the flags is the user's to mend."""
    try:
        return make()
    except ValueError as error:
        raise cli.UsageError(str(error)) from None


def _timing(arguments: Sequence[str]) -> doctor.Timing:
    """Returns how to measure, after all was checked that needs no records."""
    cli.no_arguments(arguments)
    cli.at_least(1, _BATCH_SIZE, _TURNS)
    model = _MODEL.value
    if _is_file(model) and not os.path.isfile(model):
        raise cli.UsageError(f"--model must be an existing file, got {model!r}")
    if not _is_file(model):
        cli.one_of(_MODEL.name, model, [*sorted(zoo.MODELS), "FILE.keras", "none"])
    without_effect = {"none": (_PRECISION, _JIT_COMPILE)}.get(model, ())
    for holder in (_PRECISION,) if _is_file(model) else without_effect:
        if holder.present:
            raise cli.UsageError(f"--{holder.name} has no effect with --model={model}")
    if _JSON.value and not os.path.isdir(os.path.dirname(_JSON.value) or "."):
        raise cli.UsageError(f"--json must lie in an existing folder, got {_JSON.value!r}")
    try:
        return doctor.Timing(_TURNS.value, _SECONDS.value)
    except ValueError as error:
        raise cli.UsageError(f"--{error}") from None


def _is_file(model: str) -> bool:
    return model.endswith(".keras")


def _plan(opened: record_set.RecordSet, batch_size: int) -> sampling.SamplingPlan:
    return sampling.plan(
        opened.index(_SPLIT.value).label,
        opened.manifest.class_names,
        options.Target(_TARGET.value),
        seed=_SEED.value,
        batch_size=batch_size,
    )


def _bench(strategy: tf.distribute.Strategy, info: manifest.Manifest) -> _Bench:
    """Returns the bench.

    Raises:
        ValueError: if the model in a file cannot be read or does not fit the records.
    """
    name, classes = _MODEL.value, len(info.class_names)
    shape = (info.image_size, info.image_size, 3)
    if name == "none":
        return _Bench(strategy, None, zoo.INPUT_RANGE)
    if not _is_file(name):
        return _Bench(strategy, lambda: zoo.MODELS[name](classes, shape), zoo.INPUT_RANGE)
    model = _loaded(name)
    takes, gives = model.input_shape, model.output_shape
    if takes != (None, *shape) or gives != (None, classes):
        raise ValueError(
            f"the model in {name} must take {(None, *shape)} and give {(None, classes)}, got"
            f" {takes} and {gives}"
        )
    taken = input_range.expected(model) or zoo.INPUT_RANGE
    return _Bench(strategy, lambda: _loaded(name), taken)


def _loaded(path: str) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras has no error class of its own
        raise ValueError(f"cannot read the model in {path}: {error}") from None


def _opened(opened: record_set.RecordSet) -> tuple[residency.Opened, doctor.Rates | None]:
    """Returns the rows, and how fast they were loaded where that is done once."""
    by_turn: list[float] = []
    started = time.perf_counter()
    while True:
        before = time.perf_counter()
        found = residency.open_rows(opened, _SPLIT.value, residency=_RESIDENCY.value)
        by_turn.append(len(found.rows) / (time.perf_counter() - before))
        if found.residency == "stream":
            return found, None
        if len(by_turn) == _LOADS or time.perf_counter() - started > _LOADING_SECONDS:
            return found, doctor.Rates(tuple(by_turn), (1.0,) * len(by_turn))
        del found  # before its memory is wanted again


def _bases(bench: _Bench, setup: _Setup) -> dict[str, doctor.Stage]:
    """Returns the whole input and, with a model, the step."""
    bases = {_INPUT: bench.input(setup, _INPUT)}
    if bench.model is not None:
        bases[_STEP] = bench.step(setup, _STEP, next(bases[_INPUT].batches()))
    return bases


def _measured(
    bench: _Bench, setup: _Setup, bases: Mapping[str, doctor.Stage], timing: doctor.Timing
) -> tuple[dict[str, doctor.Rates], dict[str, float]]:
    """Returns the rates of all stages, and the seconds of one image in those of the input."""
    parts = doctor.input_stages(
        setup.rows,
        setup.plan,
        setup.augment,
        input_range=bench.input_range,
        images_later=setup.images_later,
    )
    if _gpus() and not setup.images_later:
        parts.append(_transfer(setup.plan.batch_size, setup.rows.image_size))
    wholes = list(bases.values())
    if _STEP in bases:
        work = bases[_STEP].work
        wholes.append(dataclasses.replace(bases[_INPUT], name=_BOTH, work=work))
        if setup.images_later:
            wholes.insert(1, _images_in_step(bench, setup, bases[_STEP]))
    rates = doctor.measured([*parts, *wholes], timing)
    return rates, doctor.seconds_of_stages({part.name: rates[part.name] for part in parts})


def _transfer(batch_size: int, image_size: int) -> doctor.Stage:
    with tf.device("CPU:0"):
        batch = tf.zeros([batch_size, image_size, image_size, 3])

    def copy(images: tf.Tensor) -> tf.Tensor:
        with tf.device("GPU:0"):
            return tf.identity(images)

    return doctor.Stage(_TRANSFER, lambda: itertools.repeat(batch), batch_size, copy)


def _images_in_step(bench: _Bench, setup: _Setup, step: doctor.Stage) -> doctor.Stage:
    make = bench.images(setup)

    @tf.function
    def images(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return bench.strategy.run(make, args=(batch["row"], batch["numbers"]))

    return dataclasses.replace(step, name=_IN_STEP, work=images)


def _times(rates: Mapping[str, doctor.Rates]) -> diagnosis.Times:
    of_input = 1 / rates[_INPUT].median
    if _STEP not in rates:
        return diagnosis.Times(of_input, 0.0, of_input)
    return diagnosis.Times(of_input, 1 / rates[_STEP].median, 1 / rates[_BOTH].median)


def _tried(
    bench: _Bench,
    bases: Mapping[str, doctor.Stage],
    trials: Iterable[_Trial],
    times: diagnosis.Times,
    timing: doctor.Timing,
) -> list[diagnosis.Change]:
    """Returns what single changes bring, each measured in turns with the setup as it is."""
    worth = dict(zip((_INPUT, _STEP), diagnosis.worth_trying(times), strict=True))
    tried, stages = [], []
    for trial in trials:
        if any(worth[kind] for kind in trial.touches) and (made := _stages(bench, bases, trial)):
            tried.append(trial)
            stages += made
    touched = [base for kind, base in bases.items() if any(kind in t.touches for t in tried)]
    rates = doctor.measured([*touched, *stages], timing)
    return [_change(trial, rates) for trial in tried]


def _change(trial: _Trial, rates: Mapping[str, doctor.Rates]) -> diagnosis.Change:
    speeds = {kind: rates[_name(trial, kind)].over(rates[kind]) for kind in trial.touches}
    of_input, of_step = speeds.get(_INPUT, 1.0), speeds.get(_STEP, 1.0)
    why = trial.why.format(fixed=diagnosis.fixed_share(of_step, _LARGER))
    return diagnosis.Change(trial.flag, why, of_input, of_step)


def _stages(bench: _Bench, bases: Mapping[str, doctor.Stage], trial: _Trial) -> list[doctor.Stage]:
    """Returns the stages that a trial touches; none if there is no room for it."""
    try:
        setup, stages = trial.setup(), []
        if trial.touches == (_STEP,) and not setup.images_later:
            ready = next(bases[_STEP].batches())
            batch = _repeated(ready, setup.plan.batch_size // bases[_STEP].images)
        else:
            feed = bench.input(setup, _name(trial, _INPUT))
            batch = next(feed.batches())
            stages += [feed] if _INPUT in trial.touches else []
        if _STEP in trial.touches:
            stages.append(bench.step(setup, _name(trial, _STEP), batch))
        for stage in stages:
            if stage.work:
                stage.work(batch)
        return stages
    except (tf.errors.ResourceExhaustedError, resident.MemoryBudgetError):
        return []


def _repeated(batch: Mapping[str, tf.Tensor], times: int) -> dict[str, tf.Tensor]:
    return {name: tf.concat([value] * times, axis=0) for name, value in batch.items()}


def _name(trial: _Trial, kind: str) -> str:
    return f"{kind} with {trial.flag}"


def _trials(
    bench: _Bench, setup: _Setup, opened: record_set.RecordSet, times: diagnosis.Times
) -> Iterator[_Trial]:
    """Yields what may help with this setup, on this machine."""
    with_model = bench.model is not None
    yield from _residency_trials(setup, opened, with_model)
    maker = _STEP if setup.images_later else _INPUT
    if with_model or maker == _INPUT:
        for kind, (used, fewer) in doctor.kinds_of_change(setup.augment).items():
            yield _Trial(
                f"augmentation without {kind}",
                f"leave out {', '.join(used)}; the images vary less then, so compare the accuracy",
                lambda fewer=fewer: dataclasses.replace(setup, augment=fewer),  # type: ignore[misc]
                (maker,),
            )
    if with_model:
        yield from _step_trials(setup, opened, times)


def _residency_trials(
    setup: _Setup, opened: record_set.RecordSet, with_model: bool
) -> Iterator[_Trial]:
    def moved(where: str) -> _Setup:
        found = residency.open_rows(opened, _SPLIT.value, residency=where)
        return dataclasses.replace(setup, rows=found.rows, residency=where)

    needed = resident.needed_bytes(opened, _SPLIT.value)
    if setup.residency == "stream" and needed < resident.free_memory():
        yield _Trial(
            "--residency=host",
            f"the {needed / 1e9:,.2f} GB of pixels fit into memory and are read once",
            lambda: moved("host"),
            (_INPUT,),
        )
    if not _gpus() or not with_model:
        return
    if setup.residency == "host":
        yield _Trial(
            "--residency=device",
            "the pixels stay on the GPU, which makes the images in the training step",
            lambda: moved("device"),
            (_INPUT, _STEP),
        )
    if setup.residency == "device":
        yield _Trial(
            "--residency=host",
            "the processor makes the images while the GPU trains",
            lambda: moved("host"),
            (_INPUT, _STEP),
        )


def _step_trials(
    setup: _Setup, opened: record_set.RecordSet, times: diagnosis.Times
) -> Iterator[_Trial]:
    size, larger = setup.plan.batch_size, setup.plan.batch_size * _LARGER
    if larger <= setup.plan.epoch_length and times.step * size < _LONG_STEP:
        yield _Trial(
            f"--batch_size={larger}",
            f"{{fixed:.0%}} of a step with {size} images is a fixed cost; choose the"
            " --learning_rate anew",
            lambda: dataclasses.replace(setup, plan=_plan(opened, larger)),
            (_STEP,),
        )
    other = "float32" if setup.precision != "float32" else "mixed_bfloat16"
    if not _is_file(_MODEL.value):
        yield _Trial(
            f"--precision={other}",
            f"this device computes the step faster than in {setup.precision}; compare the accuracy",
            lambda: dataclasses.replace(setup, precision=other),
            (_STEP,),
        )
    if _gpus() or setup.jit_compile:
        yield _Trial(
            "--nojit_compile" if setup.jit_compile else "--jit_compile",
            f"XLA makes this step {'slower' if setup.jit_compile else 'faster'}",
            lambda: dataclasses.replace(setup, jit_compile=not setup.jit_compile),
            (_STEP,),
        )


def _gpus() -> list[str]:
    """Returns the names of the GPUs."""
    details = tf.config.experimental.get_device_details
    gpus = tf.config.list_physical_devices("GPU")
    return [details(gpu).get("device_name", gpu.name) for gpu in gpus]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _settings(setup: _Setup) -> str:
    device = ", ".join(_gpus()[:1]) or "no GPU"
    model = "no model" if _MODEL.value == "none" else f"{_MODEL.value} in {setup.precision}"
    return (
        f"{_cores()} cores, {device}; {model}; batch {setup.plan.batch_size},"
        f" target {_TARGET.value}, augmentation {_AUGMENT.value}, residency {setup.residency}"
    )


def _table(
    rates: Mapping[str, doctor.Rates],
    stages: Mapping[str, float],
    loads: doctor.Rates | None,
    plan: sampling.SamplingPlan,
) -> str:
    """Returns a line for each stage; those of the input with their share of it."""
    head = ("", "images/s", "lowest", "highest", "ms a batch", "of the input")
    lines: list[Sequence[object]] = [head]
    if loads:
        lines.append(("loading, once at the start", *_speeds(loads), "", ""))
    total = sum(stages.values())
    for name, found in rates.items():
        share = f"{stages[name] / total:.0%}" if name in stages else ""
        batch = f"{plan.batch_size * 1000 / found.median:.2f}"
        lines.append((name, *_speeds(found), batch, share))
    return cli.table(lines)


def _speeds(rates: doctor.Rates) -> tuple[int, int, int]:
    return round(rates.median), round(min(rates.by_turn)), round(max(rates.by_turn))


def _conclusion(
    told: diagnosis.Diagnosis,
    changes: Sequence[diagnosis.Change],
    rates: Mapping[str, doctor.Rates],
) -> str:
    lines = [told.headline]
    if _BOTH in rates:
        share = rates[_BOTH].median / rates[_STEP].median
        lines.append(
            f"  training reaches {share:.0%} of what the model does on a batch that is ready;"
            f" {rates[_BOTH].waiting:.1%} of a step is waiting for its batch"
        )
    if changes:
        head = ("tried, one at a time", "input", "step", "training, expected")
        tried: list[Sequence[object]] = [head]
        for change, gain in zip(changes, told.gains, strict=True):
            speeds = (change.input_speed, change.step_speed, gain)
            tried.append((change.flag, *(f"x {diagnosis.number(value)}" for value in speeds)))
        lines += ["", cli.table(tried)]
    return "\n".join([*lines, "", f"DO: {told.advice}"])


def _numbers(opened: record_set.RecordSet, setup: _Setup, found: _Found) -> dict[str, Any]:
    """Returns all numbers by name."""
    return {
        "records": os.path.abspath(opened.folder),
        "split": _SPLIT.value,
        "rows": len(setup.rows),
        "image_size": setup.rows.image_size,
        "model": _MODEL.value,
        "batch_size": setup.plan.batch_size,
        "target": _TARGET.value,
        "augment": _AUGMENT.value,
        "residency": setup.residency,
        "precision": setup.precision,
        "jit_compile": setup.jit_compile,
        "cores": _cores(),
        "gpus": _gpus(),
        "versions": runs.versions(),
        "loading": found.loads.to_json() if found.loads else None,
        "stages": {name: rates.to_json() for name, rates in found.rates.items()},
        "input_seconds_per_image": dict(found.stages),
        "seconds_per_image": dataclasses.asdict(found.times),
        "changes": [dataclasses.asdict(change) for change in found.changes],
        "diagnosis": dataclasses.asdict(found.diagnosis),
    }


if __name__ == "__main__":
    cli.run(
        main,
        manifest.ManifestError,
        tfrecord.DamagedRecordError,
        resident.MemoryBudgetError,
        tf.errors.InvalidArgumentError,
        OSError,
    )
