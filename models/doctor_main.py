"""Says within about a minute what a training waits for, and the one change to make.

    python -m models.doctor_main --records=photos.records --augment=photo
    python -m models.doctor_main --records=photos.records --model=none --residency=stream

Every stage of the input is measured alone, then the training step on a batch that is ready, then
both together; after that, what single flags would gain. Nothing is trained for keeps. The rule is
in datapipe/diagnosis.py. The flags that say what is drawn and how images are changed are those of
training. --model names a network, a .keras file that takes such images, or `none`.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from datapipe.augment import flags as augment_flags
from datapipe.plan import flags as plan_flags
from datapipe.plan import sampling
from datapipe.profile import diagnosis, measure, what_if
from datapipe.rows import flags as rows_flags
from datapipe.rows import host, residency
from models import run_folder
from models.networks import input_range, zoo
from models.training import distribution, loop, optimizers
from models.training import step as train_step
from records.common import atomic, cli, errors
from records.common.backend import keras, tf
from records.format import manifest, record_set

for module in (plan_flags, augment_flags, rows_flags):
    flags.adopt_module_key_flags(module)
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to train on.")
_MODEL = flags.DEFINE_string(
    "model", "convnet", f"{', '.join(sorted(zoo.MODELS))}, a .keras file, or none."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a batch.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", distribution.PRECISIONS, "Of the arithmetic."
)
_JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Compile the training step with XLA.")
_SEED = flags.DEFINE_integer("seed", 0, "Of everything random.")
_TURNS = flags.DEFINE_integer("turns", 5, "Measurements of each stage; the median counts.")
_SECONDS = flags.DEFINE_float("seconds", 0.4, "Shortest length of one measurement.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to as well.")

_PLAIN_RANGE = "0..1"  # of images for no model, or for one that says nothing
_LOADS, _LOADING_SECONDS = 3, 1.0  # a split that loads fast is loaded again, to see the spread


def main(arguments: Sequence[str]) -> int:
    """Reads options, measures the stages, tries changes, says what was found."""
    timing, augment = _timing(arguments), augment_flags.augment_options()
    plan_flags.target()  # refused, if it must be, before records are opened
    rows_flags.check()
    opened = record_set.open_set(cli.require_folder("records", _RECORDS.value))
    cli.one_of(_SPLIT.name, _SPLIT.value, opened.manifest.splits)
    plan = _plan(opened, _BATCH_SIZE.value)
    rows_flags.check_plan(plan)
    if plan_flags.explained(plan):
        return cli.DONE
    how = distribution.configure(strategy="one", precision=_PRECISION.value, seed=_SEED.value)
    bench = cli.checked(lambda: _bench(opened, plan, how.strategy))
    at, loads = _opened(opened)
    setup = what_if.Setup(
        at.rows, at.residency, plan, augment, _PRECISION.value, bool(_JIT_COMPILE.value)
    )
    print(f"{at.description}\n{_settings(bench, setup)}", flush=True)
    bases = cli.checked(lambda: what_if.bases(bench, setup))
    found = what_if.measure(bench, setup, bases, timing)
    print(f"\n{_table(found, loads, plan.batch_size)}", flush=True)
    changes = what_if.tried(bench, setup, bases, found.times, timing)
    told = diagnosis.diagnose(found.times, found.seconds, changes)
    print(f"\n{_conclusion(told, changes, found)}")
    if _JSON.value:
        numbers = {
            **_circumstances(bench, setup),
            "loading": loads.to_json() if loads else None,
            "stages": {name: rates.to_json() for name, rates in found.rates.items()},
            "input_seconds_per_image": dict(found.seconds),
            "seconds_per_image": dataclasses.asdict(found.times),
            "changes": [dataclasses.asdict(change) for change in changes],
            "diagnosis": told.to_json(),
        }
        atomic.write_whole(_JSON.value, atomic.json_bytes(numbers, indent=1))
        print(f"written: {_JSON.value}")
    return cli.DONE


def _timing(arguments: Sequence[str]) -> measure.Timing:
    """Returns how to measure, after its own flags were checked."""
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
        return measure.Timing(_TURNS.value, _SECONDS.value)
    except ValueError as error:
        raise cli.UsageError(f"--{error}") from None


def _is_file(model: str) -> bool:
    return model.endswith(".keras")


def _plan(opened: record_set.RecordSet, batch_size: int) -> sampling.SamplingPlan:
    return plan_flags.plan(opened, _SPLIT.value, seed=_SEED.value, batch_size=batch_size)


def _bench(
    opened: record_set.RecordSet, plan: sampling.SamplingPlan, strategy: tf.distribute.Strategy
) -> what_if.Bench:
    """Returns what all setups share.

    Raises:
        ValueError: if the model in a file cannot be read or does not fit the records.
    """
    model, taken = _model(opened.manifest)

    def computed(work: what_if.Work) -> what_if.Work:
        return tf.function(lambda batch: strategy.run(work, args=(batch,)))

    return what_if.Bench(
        records=opened,
        split=_SPLIT.value,
        plan=lambda batch_size: _plan(opened, batch_size),
        computed=computed,
        step=_step_of(model, strategy) if model else None,
        any_precision=not _is_file(_MODEL.value),
        gpus=tuple(_gpus()),
        class_weights=plan_flags.class_weights(plan),
        input_range=taken,
    )


def _model(info: manifest.Manifest) -> tuple[Callable[[], keras.Model] | None, str]:
    """Returns what makes the model anew, if there is one, and the range of its images."""
    name, classes = _MODEL.value, len(info.class_names)
    shape = (info.image_size, info.image_size, 3)
    if name == "none":
        return None, _PLAIN_RANGE
    if not _is_file(name):
        return lambda: zoo.build(name, classes, shape), zoo.MODELS[name].input_range
    model = _loaded(name)
    takes, gives = model.input_shape, model.output_shape
    if takes != (None, *shape) or gives != (None, classes):
        raise ValueError(
            f"the model in {name} must take {(None, *shape)} and give {(None, classes)}, got"
            f" {takes} and {gives}"
        )
    return lambda: _loaded(name), input_range.expected(model) or _PLAIN_RANGE


def _loaded(path: str) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras has no error class of its own
        raise ValueError(f"cannot read the model in {path}: {error}") from None


def _step_of(
    model: Callable[[], keras.Model], strategy: tf.distribute.Strategy
) -> Callable[[what_if.Setup, what_if.Images | None], what_if.Work]:
    """Returns what makes the training step of a setup, with a model of its own."""

    def step(setup: what_if.Setup, images: what_if.Images | None) -> what_if.Work:
        how = loop.TrainOptions()

        def rate(number: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
            return optimizers.rate_at(
                how.schedule,
                how.optimizer.learning_rate,
                number,
                steps_per_epoch=setup.plan.steps_per_epoch,
                epochs=how.epochs,
                factor=factor,
            )

        return train_step.TrainStep(
            _made(model, strategy, setup.precision),
            strategy,
            loss=how.loss,
            optimizer=how.optimizer,
            rate=rate,
            batch_size=setup.plan.batch_size,
            images=images,
            jit_compile=setup.jit_compile,
        ).single()

    return step


def _made(
    model: Callable[[], keras.Model], strategy: tf.distribute.Strategy, precision: str
) -> keras.Model:
    """Returns the model, made under a precision that is then put back."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        with strategy.scope():
            return model()
    finally:
        keras.mixed_precision.set_global_policy(before)


def _opened(opened: record_set.RecordSet) -> tuple[residency.Opened, measure.Rates | None]:
    """Returns the rows, and how fast they were loaded where that is done once."""
    by_turn: list[float] = []
    started = time.perf_counter()
    while True:
        before = time.perf_counter()
        found = rows_flags.open_rows(opened, _SPLIT.value)
        by_turn.append(len(found.rows) / (time.perf_counter() - before))
        if found.residency == "stream":
            return found, None
        if len(by_turn) == _LOADS or time.perf_counter() - started > _LOADING_SECONDS:
            return found, measure.Rates(tuple(by_turn), (1.0,) * len(by_turn))
        del found  # before its memory is wanted again


def _gpus() -> list[str]:
    """Returns the names of the GPUs."""
    details = tf.config.experimental.get_device_details
    gpus = tf.config.list_physical_devices("GPU")
    return [details(gpu).get("device_name", gpu.name) for gpu in gpus]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _settings(bench: what_if.Bench, setup: what_if.Setup) -> str:
    device = ", ".join(bench.gpus[:1]) or "no GPU"
    model = "no model" if bench.step is None else f"{_MODEL.value} in {setup.precision}"
    return (
        f"{_cores()} cores, {device}; {model}; batch {setup.plan.batch_size},"
        f" target {setup.plan.target.name}, augmentation {augment_flags.description()},"
        f" residency {setup.residency}"
    )


def _table(found: what_if.Measured, loads: measure.Rates | None, batch_size: int) -> str:
    """Returns a line for each stage; those of the input with their share of it."""
    head = ("", "images/s", "lowest", "highest", "ms a batch", "of the input")
    lines: list[Sequence[object]] = [head]
    if loads:
        lines.append(("loading, once at the start", *_speeds(loads), "", ""))
    total = sum(found.seconds.values())
    for name, rates in found.rates.items():
        share = f"{found.seconds[name] / total:.0%}" if name in found.seconds else ""
        batch = f"{batch_size * 1000 / rates.median:.2f}"
        lines.append((name, *_speeds(rates), batch, share))
    return cli.table(lines)


def _speeds(rates: measure.Rates) -> tuple[int, int, int]:
    return round(rates.median), round(min(rates.by_turn)), round(max(rates.by_turn))


def _conclusion(
    told: diagnosis.Diagnosis,
    changes: Sequence[diagnosis.Change],
    found: what_if.Measured,
) -> str:
    lines = [told.headline]
    if what_if.BOTH in found.rates:
        both = found.rates[what_if.BOTH]
        share = both.median / found.rates[what_if.STEP].median
        lines.append(
            f"  training reaches {share:.0%} of what the model does on a batch that is ready;"
            f" {both.waiting:.1%} of a step is waiting for its batch"
        )
    if changes:
        head = ("tried, one at a time", "input", "step", "training, expected")
        tried: list[Sequence[object]] = [head]
        for change, gain in zip(changes, told.gains, strict=True):
            speeds = (change.input_speed, change.step_speed, gain)
            tried.append((change.flag, *(f"x {diagnosis.number(value)}" for value in speeds)))
        lines += ["", cli.table(tried)]
    return "\n".join([*lines, "", f"DO: {told.advice}"])


def _circumstances(bench: what_if.Bench, setup: what_if.Setup) -> dict[str, Any]:
    """Returns what was measured, and on what, by name."""
    return {
        "records": os.path.abspath(bench.records.folder),
        "split": bench.split,
        "rows": len(setup.rows),
        "image_size": setup.rows.image_size,
        "model": _MODEL.value,
        "batch_size": setup.plan.batch_size,
        "target": setup.plan.target.name,
        "augment": augment_flags.description(),
        "residency": setup.residency,
        "precision": setup.precision,
        "jit_compile": setup.jit_compile,
        "cores": _cores(),
        "gpus": list(bench.gpus),
        "versions": run_folder.versions(),
    }


if __name__ == "__main__":
    cli.run(
        main,
        manifest.ManifestError,
        errors.DamagedRecordError,
        host.MemoryBudgetError,
        tf.errors.InvalidArgumentError,
        OSError,
    )
