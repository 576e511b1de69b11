"""Finds the bottleneck of a training in about a minute, and recommends one change.

    python -m models.doctor_main --records=photos.records --augment=photo
    python -m models.doctor_main --records=photos.records --model=none --residency=stream

Every stage of the input is measured alone, then the training step on a batch in memory, then both
together; after that, the gain of changing single flags. No model is saved. The rule is in
datapipe/profile/diagnosis.py. The flags of sampling and augmentation are those of training.
--model is a network, a .keras file that fits the records, or `none`.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from datapipe import flags as input_flags
from models.networks.options import NETWORKS
from models.training.options import PRECISIONS
from records.common import cli

_SAMPLING, _AUGMENTATION = input_flags.Sampling(), input_flags.Augmentation()
_STORAGE = input_flags.Storage()
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to train on.")
_MODEL = flags.DEFINE_string(
    "model",
    "convnet",
    f"Network ({', '.join(sorted(NETWORKS))}), a .keras file, or none to time the input alone.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images per batch.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", PRECISIONS, "Compute precision (Keras mixed-precision policy)."
)
_JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Compile the training step with XLA.")
_SEED = flags.DEFINE_integer(
    "seed", 0, "Random seed of sampling, augmentation and initial weights."
)
_TURNS = flags.DEFINE_integer("turns", 5, "Measurements of each stage; the median is reported.")
_SECONDS = flags.DEFINE_float("seconds", 0.4, "Minimum length of one measurement, in seconds.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")

GROUPS = {
    "training to look at": ["records", "split", "model", "batch_size", "seed"],
    "measuring": ["turns", "seconds", "json"],
    "hardware": ["precision", "jit_compile", *_STORAGE.names],
    "sampling": _SAMPLING.names,
    "augmentation": _AUGMENTATION.names,
}
cli.begin(__name__, GROUPS)

# What follows needs TensorFlow, whose import takes three seconds.
from datapipe.plan import explain, planner, sampling
from datapipe.profile import diagnosis, stages, what_if
from datapipe.profile.timing import Rates, Timing
from datapipe.rows import residency
from models import run_folder
from models.networks import input_range, zoo
from models.training import distribution, loop, optimizers
from models.training import step as train_step
from records.common import atomic, errors
from records.common.backend import keras, tf
from records.format import manifest, record_set

_PLAIN_RANGE = "0..1"  # of images without a model, or for a model without a scaling layer
_LOADS, _LOADING_SECONDS = 3, 1.0  # a split that loads fast is loaded again, to measure the spread


def main(arguments: Sequence[str]) -> int:
    """Reads options, measures the stages, tries changes, reports the diagnosis."""
    timing, augment = _timing(arguments), _AUGMENTATION.read()
    _STORAGE.read().check_sampling(_SAMPLING.read())  # before records are opened
    opened = record_set.open_set(cli.require_folder("records", _RECORDS.value))
    cli.one_of(_SPLIT.name, _SPLIT.value, opened.manifest.splits)
    with errors.config_errors():
        plan = _plan(opened, _BATCH_SIZE.value)
    if _SAMPLING.explains:
        print(explain.explain(plan))
        return cli.DONE
    how = distribution.configure(strategy="one", precision=_PRECISION.value, seed=_SEED.value)
    context = cli.checked(lambda: _context(opened, plan, how.strategy))
    at, loads = _opened(opened)
    config = what_if.Configuration(
        at.rows, at.residency, plan, augment, _PRECISION.value, bool(_JIT_COMPILE.value)
    )
    print(f"{at.description}\n{_settings(context, config)}", flush=True)
    bases = cli.checked(lambda: what_if.bases(context, config))
    found = what_if.measure(context, config, bases, timing)
    print(f"\n{_table(found, loads, plan.batch_size)}", flush=True)
    changes = what_if.changes(context, config, bases, found.times, timing)
    result = diagnosis.diagnose(found.times, found.seconds, changes)
    print(f"\n{_conclusion(result, changes, found)}")
    if _JSON.value:
        numbers = {
            **_circumstances(context, config),
            "loading": loads.to_json() if loads else None,
            "stages": {_key(name): rates.to_json() for name, rates in found.rates.items()},
            "input_seconds_per_image": {_key(name): s for name, s in found.seconds.items()},
            "seconds_per_image": dataclasses.asdict(found.times),
            "changes": [dataclasses.asdict(change) for change in changes],
            "diagnosis": {**result.to_json(), "stage": _key(result.stage)},
        }
        atomic.write_whole(_JSON.value, atomic.json_bytes(numbers, indent=1))
        print(f"written: {_JSON.value}")
    return cli.DONE


def _key(stage: str) -> str:
    """Returns the name of a stage in the JSON file, which keeps an older name for one."""
    return "handing a batch over" if stage == stages.ITERATOR else stage


def _timing(arguments: Sequence[str]) -> Timing:
    """Checks the flags; returns how to measure."""
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
        raise cli.UsageError(f"--json must be in an existing folder, got {_JSON.value!r}")
    try:
        return Timing(_TURNS.value, _SECONDS.value)
    except ValueError as error:
        raise cli.UsageError(f"--{error}") from None


def _is_file(model: str) -> bool:
    return model.endswith(".keras")


def _plan(opened: record_set.RecordSet, batch_size: int) -> sampling.SamplingPlan:
    return planner.plan(
        opened, _SPLIT.value, _SAMPLING.read(), seed=_SEED.value, batch_size=batch_size
    )


def _context(
    opened: record_set.RecordSet, plan: sampling.SamplingPlan, strategy: tf.distribute.Strategy
) -> what_if.Context:
    """Returns the context that all configurations share.

    Raises:
        ValueError: if the model in a file cannot be read or does not fit the records.
    """
    model, taken = _model(opened.manifest)

    def computed(work: what_if.Work) -> what_if.Work:
        return tf.function(lambda batch: strategy.run(work, args=(batch,)))

    return what_if.Context(
        records=opened,
        split=_SPLIT.value,
        plan=lambda batch_size: _plan(opened, batch_size),
        computed=computed,
        step=_step_of(model, strategy) if model else None,
        any_precision=not _is_file(_MODEL.value),
        gpus=tuple(_gpus()),
        class_weights=planner.class_weights(plan, _SAMPLING.read()),
        input_range=taken,
    )


def _model(info: manifest.Manifest) -> tuple[Callable[[], keras.Model] | None, str]:
    """Returns a function that creates the model, if there is one, and the range of its images."""
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
            f"the model in {name} must have input shape {(None, *shape)} and output shape"
            f" {(None, classes)}, got {takes} and {gives}"
        )
    return lambda: _loaded(name), input_range.expected(model) or _PLAIN_RANGE


def _loaded(path: str) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras has no error class of its own
        raise ValueError(f"cannot read the model in {path}: {error}") from None


def _step_of(
    model: Callable[[], keras.Model], strategy: tf.distribute.Strategy
) -> Callable[[what_if.Configuration, what_if.Images | None], what_if.Work]:
    """Returns a function that creates the training step of a configuration, with a new model."""

    def step(config: what_if.Configuration, images: what_if.Images | None) -> what_if.Work:
        options = loop.TrainOptions()

        def rate(number: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
            return optimizers.rate_at(
                options.schedule,
                options.optimizer.learning_rate,
                number,
                steps_per_epoch=config.plan.steps_per_epoch,
                epochs=options.epochs,
                factor=factor,
            )

        return train_step.TrainStep(
            _made(model, strategy, config.precision),
            strategy,
            loss=options.loss,
            optimizer=options.optimizer,
            rate=rate,
            batch_size=config.plan.batch_size,
            images=images,
            jit_compile=config.jit_compile,
        ).single()

    return step


def _made(
    model: Callable[[], keras.Model], strategy: tf.distribute.Strategy, precision: str
) -> keras.Model:
    """Returns the model, created under a precision that is restored afterwards."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        with strategy.scope():
            return model()
    finally:
        keras.mixed_precision.set_global_policy(before)


def _opened(opened: record_set.RecordSet) -> tuple[residency.Opened, Rates | None]:
    """Returns the rows, and how fast they were loaded, unless they are streamed."""
    by_turn: list[float] = []
    started = time.perf_counter()
    while True:
        before = time.perf_counter()
        where = _STORAGE.read()
        found = residency.open_rows(
            opened,
            _SPLIT.value,
            residency=where.residency,
            window_bytes=where.window_mb << 20,
        )
        by_turn.append(len(found.rows) / (time.perf_counter() - before))
        if found.residency == "stream":
            return found, None
        if len(by_turn) == _LOADS or time.perf_counter() - started > _LOADING_SECONDS:
            return found, Rates(tuple(by_turn), (1.0,) * len(by_turn))
        del found  # frees its memory before the next load


def _gpus() -> list[str]:
    """Returns the names of the GPUs."""
    details = tf.config.experimental.get_device_details
    gpus = tf.config.list_physical_devices("GPU")
    return [details(gpu).get("device_name", gpu.name) for gpu in gpus]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _settings(context: what_if.Context, config: what_if.Configuration) -> str:
    device = ", ".join(context.gpus[:1]) or "no GPU"
    model = "no model" if context.step is None else f"{_MODEL.value} in {config.precision}"
    return (
        f"{_cores()} cores, {device}; {model}; batch {config.plan.batch_size},"
        f" target {config.plan.target.name}, augmentation {_AUGMENTATION.description()},"
        f" residency {config.residency}"
    )


def _table(found: what_if.Measured, loads: Rates | None, batch_size: int) -> str:
    """Returns a line for each stage, with its share of the input's time."""
    head = ("", "images/s", "lowest", "highest", "ms per batch", "of the input")
    lines: list[Sequence[object]] = [head]
    if loads:
        lines.append(("loading, once at the start", *_speeds(loads), "", ""))
    total = sum(found.seconds.values())
    for name, rates in found.rates.items():
        share = f"{found.seconds[name] / total:.0%}" if name in found.seconds else ""
        batch = f"{batch_size * 1000 / rates.median:.2f}"
        lines.append((name, *_speeds(rates), batch, share))
    return cli.table(lines)


def _speeds(rates: Rates) -> tuple[int, int, int]:
    return round(rates.median), round(min(rates.by_turn)), round(max(rates.by_turn))


def _conclusion(
    result: diagnosis.Diagnosis,
    changes: Sequence[diagnosis.Change],
    found: what_if.Measured,
) -> str:
    lines = [result.headline]
    if what_if.BOTH in found.rates:
        both = found.rates[what_if.BOTH]
        share = both.median / found.rates[what_if.STEP].median
        lines.append(
            f"  training reaches {share:.0%} of the model's speed on a batch in memory;"
            f" {both.waiting:.1%} of a step is spent waiting for its batch"
        )
    if changes:
        head = ("tried, one at a time", "input", "step", "training, expected")
        tried: list[Sequence[object]] = [head]
        for change, gain in zip(changes, result.gains, strict=True):
            speeds = (change.input_speed, change.step_speed, gain)
            tried.append((change.flag, *(f"x {diagnosis.number(value)}" for value in speeds)))
        lines += ["", cli.table(tried)]
    return "\n".join([*lines, "", f"Recommendation: {result.advice}"])


def _circumstances(context: what_if.Context, config: what_if.Configuration) -> dict[str, Any]:
    """Returns the conditions of the measurement, by name."""
    return {
        "records": os.path.abspath(context.records.folder),
        "split": context.split,
        "rows": len(config.rows),
        "image_size": config.rows.image_size,
        "model": _MODEL.value,
        "batch_size": config.plan.batch_size,
        "target": config.plan.target.name,
        "augment": _AUGMENTATION.description(),
        "residency": config.residency,
        "precision": config.precision,
        "jit_compile": config.jit_compile,
        "cores": _cores(),
        "gpus": list(context.gpus),
        "versions": run_folder.versions(),
    }


if __name__ == "__main__":
    cli.run(main, groups=GROUPS)
