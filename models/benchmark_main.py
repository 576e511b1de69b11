"""Images per second of the training step of every network, with and without the input pipeline.

    python -m models.benchmark_main --records=photos.records --output=bench

A network trains alternately on batches of the real pipeline (balanced target, photo augmentation)
and on one batch in memory, so that other load on the machine affects both; if the first is slower,
the input is the bottleneck. The pipeline alone is measured first. No model is saved. A step that
takes longer than --seconds is made once per turn.
"""

import contextlib
import dataclasses
import functools
import gc
import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from models.networks.options import NETWORKS
from records.common import cli

FILE_NAME = "training.json"
PIPELINE, READY = "pipeline", "batch that is ready"

_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_OUTPUT = flags.DEFINE_string("output", None, f"Folder for {FILE_NAME}.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to train on.")
_MODELS = flags.DEFINE_list("models", list(NETWORKS), "Networks to measure.")
_PRECISIONS = flags.DEFINE_list(
    "precisions", None, "Compute precisions; float32 if not given, and on a GPU mixed_float16 too."
)
_JIT_COMPILE = flags.DEFINE_list(
    "jit_compile",
    None,
    "Compile the step with XLA: true, false or both; if not given as training does, on a GPU.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images per batch.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements per network; the median is reported.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Minimum length of one measurement, in seconds.")
cli.begin(__name__)

# What follows needs TensorFlow, whose import takes three seconds.
from datapipe import pipeline
from datapipe.augment import presets
from datapipe.plan import sampling
from datapipe.profile.timing import UNITS, Row, Stage, Timing, in_turns, rows
from datapipe.profile.timing import measured as rates_of
from datapipe.rows import residency, streaming
from datapipe.rows.base import Rows
from models import run_folder
from models.networks import zoo
from models.training import distribution, loop
from models.training import step as train_step
from records.common import atomic, checks, targets
from records.common.backend import keras, tf
from records.format import manifest, record_set

_SEED = 0
_TARGET, _AUGMENT = "balanced", "photo"
_DEFAULTS = loop.TrainOptions()
# Low, so that every network's loss stays finite: a step without an update has another speed.
_RATE = 1e-4
_BUDGET = 30.0  # seconds after which a network has no further turns
_CHOICES = {"true": True, "false": False}
# Locations in TensorFlow's messages: beginnings of lines, and marks within a line.
_PLACES = ("Graph execution error:", "Detected at node", "File ")
_NODES = re.compile(r"^(\s*\{\{[^}]*\}\})+")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, a precision, and whether XLA compiles the step."""

    model: str
    precision: str
    jit_compile: bool = False

    def __post_init__(self) -> None:
        checks.one_of("model", self.model, zoo.MODELS)
        checks.one_of("precision", self.precision, distribution.PRECISIONS)

    def __str__(self) -> str:
        return f"{self.system}{' with XLA' if self.jit_compile else ''}"

    @property
    def system(self) -> str:
        """The network and the precision."""
        return f"{self.model} {self.precision}"


@dataclasses.dataclass(frozen=True)
class Call:
    """The result of one call of the training step."""

    steps: int
    updated: int  # steps that changed the weights; others had a non-finite loss or gradient
    seconds: float  # until the device has finished the last step
    waited: float  # seconds spent waiting for batches
    loss: float  # mean over the steps that changed the weights; 0 without any

    def __post_init__(self) -> None:
        checks.between("updated", self.updated, 0, self.steps)


class Trainer:
    """A new network with `parameters` parameters, and its training step."""

    def __init__(
        self,
        case: Case,
        strategy: tf.distribute.Strategy,
        *,
        num_classes: int,
        image_size: int,
        batch_size: int,
    ):
        """Creates the network, always with the same random weights.

        Raises:
            ValueError: if the images are too small for the network.
        """
        keras.utils.set_random_seed(_SEED)
        with _policy(case.precision), strategy.scope():
            model = zoo.build(case.model, num_classes, (image_size, image_size, 3))
        self.parameters = int(model.count_params())
        self._state = train_step.initial_state(case.precision)
        self._step = train_step.TrainStep(
            model,
            strategy,
            loss=_DEFAULTS.loss,
            optimizer=_DEFAULTS.optimizer,
            rate=lambda step, factor: _RATE * factor,
            batch_size=batch_size,
            seed=_SEED,
            jit_compile=case.jit_compile,
        )

    def run(self, batches: Iterator[train_step.Batch], num_steps: int) -> Call:
        """Trains for `num_steps` steps, in one call."""
        before, started = self._state, time.perf_counter()
        after, _, waited = self._step.run(batches, before, num_steps)
        # A GPU computes asynchronously.
        tf.test.experimental.sync_devices()
        seconds = time.perf_counter() - started
        self._state, updated = after, int(after.steps - before.steps)
        loss = float(after.loss - before.loss) / max(updated, 1)
        return Call(num_steps, updated, seconds, waited, loss)


@dataclasses.dataclass(frozen=True)
class Measured:
    """The measurements of one case."""

    case: Case
    parameters: int
    first: Call  # the first step, which compiles
    calls: Mapping[str, Sequence[Call]]  # one per turn, by feed: `PIPELINE` and `READY`
    batch_size: int

    @property
    def rows(self) -> dict[str, Row]:
        """Images per second of each feed; ratios are to `READY`."""
        rates = {
            name: [call.steps * self.batch_size / call.seconds for call in calls]
            for name, calls in self.calls.items()
        }
        found = rows("TRAIN_STEP", "images_per_second", rates, [READY])
        return {row.system: row for row in found}

    @property
    def waiting(self) -> float:
        """Median share of the time spent waiting for the pipeline, 0 to 1."""
        return statistics.median(call.waited / call.seconds for call in self.calls[PIPELINE])

    @property
    def not_updated(self) -> int:
        """Steps of all turns without an update."""
        return sum(call.steps - call.updated for calls in self.calls.values() for call in calls)

    def to_json(self) -> dict[str, Any]:
        """Returns the pipeline's row and all other measurements, by name."""
        rows, ready = self.rows, self.calls[READY]
        return {
            **rows[PIPELINE].to_json(),
            "system": self.case.system,
            **dataclasses.asdict(self.case),
            "parameters": self.parameters,
            "waiting_for_input": self.waiting,
            "ready_images_per_second": rows[READY].median,
            "ready_lowest": rows[READY].lowest,
            "ready_highest": rows[READY].highest,
            "first_step_seconds": self.first.seconds,
            "steps": sum(call.steps for call in self.calls[PIPELINE]),
            "ready_steps": sum(call.steps for call in ready),
            "not_updated": self.not_updated,
            "first_loss": self.first.loss,
            "last_loss": ready[-1].loss,
        }


def main(arguments: Sequence[str]) -> int:
    """Reads options, measures the pipeline, then each network; prints a table, writes JSON."""
    cli.no_arguments(arguments)
    timing, cases, output = _timing(), _cases(), cli.require("output", _OUTPUT.value)
    opened = record_set.open_set(cli.require_folder("records", _RECORDS.value))
    cli.one_of(_SPLIT.name, _SPLIT.value, opened.manifest.splits)
    os.makedirs(output, exist_ok=True)  # before minutes of measuring
    how = distribution.configure(strategy="one", precision="float32", seed=_SEED)
    plan = cli.checked(lambda: _plan(opened))
    at = residency.open_rows(opened, _SPLIT.value)
    machine = _machine(opened, at)
    print(f"{at.description}\n{_settings(machine)}", flush=True)
    datasets = functools.cache(functools.partial(_dataset, at.rows, plan))
    alone = _alone(datasets(zoo.MODELS[cases[0].model].input_range), timing)
    print(f"the pipeline alone: {alone.median:,.0f} images/s", flush=True)
    found: list[Measured] = []
    skipped: list[tuple[Case, str]] = []
    for case in cases:
        print(f"measuring {case}", flush=True)
        dataset = datasets(zoo.MODELS[case.model].input_range)
        result = _tried(case, dataset, timing, opened.manifest, how.strategy)
        if isinstance(result, str):
            skipped.append((case, result))
        else:
            found.append(result)
    print("\n" + _summary(found, skipped))
    path = os.path.join(output, FILE_NAME)
    numbers = {
        "machine": machine,
        "pipeline": alone.to_json(),
        "rows": [measured.to_json() for measured in found],
        "left_out": [{**dataclasses.asdict(case), "reason": why} for case, why in skipped],
    }
    atomic.write_whole(path, atomic.json_bytes(numbers, indent=1))
    print(f"written: {path}")
    return cli.DONE


def _timing() -> Timing:
    cli.at_least(1, _BATCH_SIZE, _REPEATS)
    try:
        return Timing(_REPEATS.value, _SECONDS.value, budget=_BUDGET, min_turns=1)
    except ValueError as error:
        raise cli.UsageError(f"--{error}") from None


def _cases() -> list[Case]:
    """Checks the flags; returns the distinct cases to measure."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    selected = []
    for holder, choices, default in (
        (_MODELS, zoo.MODELS, []),
        (_PRECISIONS, distribution.PRECISIONS, ["float32", "mixed_float16"][: 1 + on_gpu]),
        (_JIT_COMPILE, _CHOICES, ["true" if on_gpu else "false"]),
    ):
        values = default if holder.value is None else holder.value
        if not values:
            raise cli.UsageError(f"--{holder.name} must name at least one of {', '.join(choices)}")
        selected.append(dict.fromkeys(cli.one_of(holder.name, value, choices) for value in values))
    models, precisions, compiled = selected
    return [Case(m, p, _CHOICES[jit]) for m in models for p in precisions for jit in compiled]


def _plan(opened: record_set.RecordSet) -> sampling.SamplingPlan:
    return sampling.plan(
        opened.index(_SPLIT.value).label,
        opened.manifest.class_names,
        targets.Target(_TARGET),
        seed=_SEED,
        batch_size=_BATCH_SIZE.value,
    )


def _dataset(rows: Rows, plan: sampling.SamplingPlan, input_range: str) -> tf.data.Dataset:
    return pipeline.training_dataset(rows, plan, presets.PRESETS[_AUGMENT], input_range=input_range)


def _alone(dataset: tf.data.Dataset, timing: Timing) -> Row:
    """Returns the speed of the pipeline without training."""
    with streaming.faults_named():
        stage = Stage(PIPELINE, lambda: iter(dataset), _BATCH_SIZE.value)
        always = dataclasses.replace(timing, budget=math.inf, warm_up_batches=8)
        rates = {name: found.by_turn for name, found in rates_of([stage], always).items()}
    return rows("PIPELINE", "images_per_second", rates, [PIPELINE])[0]


def _tried(
    case: Case,
    dataset: tf.data.Dataset,
    timing: Timing,
    info: manifest.Manifest,
    strategy: tf.distribute.Strategy,
) -> Measured | str:
    """Returns the measurements, or the reason why there are none; frees the memory."""
    make = functools.partial(
        Trainer,
        case,
        strategy,
        num_classes=len(info.class_names),
        image_size=info.image_size,
        batch_size=_BATCH_SIZE.value,
    )
    try:
        with streaming.faults_named():
            return _measured(case, make, dataset, timing)
    except _CannotTrainError as error:
        return str(error)
    except tf.errors.OpError as error:  # such as out of memory, or an unsupported precision
        return _reason(error)
    finally:
        keras.backend.clear_session()
        gc.collect()


class _CannotTrainError(Exception):
    """The images are too small for the network."""


def _measured(
    case: Case, make: Callable[[], Trainer], dataset: tf.data.Dataset, timing: Timing
) -> Measured:
    """Trains alternately with both feeds, until there are enough turns or time is up."""
    try:
        trainer = make()
    except ValueError as error:
        raise _CannotTrainError(str(error)) from None
    ready = tf.data.Dataset.from_tensors(next(iter(dataset))).repeat()
    feeds = {PIPELINE: dataset, READY: ready}
    first = trainer.run(iter(ready), 1)
    cases = {
        name: functools.partial(_turn, trainer, feed, _fitting(trainer, feed, timing.seconds))
        for name, feed in feeds.items()
    }
    calls = in_turns(cases, timing, uncounted=0)
    return Measured(case, trainer.parameters, first, calls, _BATCH_SIZE.value)


def _fitting(trainer: Trainer, feed: tf.data.Dataset, seconds: float) -> int:
    """Returns how many steps of one call fit into `seconds`, at least 1."""
    batches, steps = _begun(feed), 1
    for _ in range(2):  # a step alone takes longer than one of many
        call = trainer.run(batches, steps)
        steps = max(1, int(seconds * call.steps / call.seconds))
        if steps == 1:
            break
    return steps


def _turn(trainer: Trainer, feed: tf.data.Dataset, steps: int) -> Call:
    batches = _begun(feed)
    if steps > 1:  # tf.data tunes its buffers and threads while it runs
        trainer.run(batches, steps // 2)
    return trainer.run(batches, steps)


def _begun(feed: tf.data.Dataset) -> Iterator[train_step.Batch]:
    """Returns an iterator after its first batch, which takes longer."""
    batches = iter(feed)
    next(batches)
    return batches


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """A context in which layers are created with a precision."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _reason(error: tf.errors.OpError) -> str:
    """Returns the first line of an error that is not a location in a graph."""
    lines = [_NODES.sub("", line).strip() for line in str(error.message).splitlines()]
    messages = (line for line in lines if line and not line.startswith(_PLACES))
    return f"{type(error).__name__}: {next(messages, 'no message')}"


def _summary(found: Sequence[Measured], skipped: Sequence[tuple[Case, str]]) -> str:
    """Returns the table, then the cases that failed and the steps without an update."""
    lines = [_table(found)] if found else []
    for measured in found:
        if measured.not_updated:
            total = sum(call.steps for calls in measured.calls.values() for call in calls)
            lines.append(
                f"{measured.case}: {measured.not_updated:,} of {total:,} steps had a non-finite"
                " loss or gradient and were skipped"
            )
    lines += [cli.printable(f"skipped: {case}: {why}") for case, why in skipped]
    return "\n".join(lines)


def _table(found: Sequence[Measured]) -> str:
    shown = UNITS["images_per_second"].shown
    head = ("network", "precision", "XLA", "parameters", "images/s", "lowest", "highest")
    table: list[Sequence[object]] = [(*head, READY, "share of it", "waiting", "turns")]
    for measured in found:
        row, ready, case = measured.rows[PIPELINE], measured.rows[READY], measured.case
        speeds = map(shown, (row.median, row.lowest, row.highest, ready.median))
        compiled, shares = "yes" if case.jit_compile else "no", (row.ratio, measured.waiting)
        named = (case.model, case.precision, compiled, measured.parameters)
        table.append((*named, *speeds, *(f"{share:.0%}" for share in shares), row.repeats))
    return cli.table(table)


def _machine(opened: record_set.RecordSet, at: residency.Opened) -> dict[str, Any]:
    """Returns the conditions of the measurement, by name."""
    return {
        "device": _device(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "versions": run_folder.versions(),
        "records": os.path.abspath(opened.folder),
        "split": _SPLIT.value,
        "rows": len(at.rows),
        "residency": at.residency,
        "image_size": opened.manifest.image_size,
        "num_classes": len(opened.manifest.class_names),
        "batch_size": _BATCH_SIZE.value,
        "seconds": _SECONDS.value,
        "target": _TARGET,
        "augment": _AUGMENT,
    }


def _settings(machine: Mapping[str, Any]) -> str:
    return (
        "{device}, {cores} cores; batch {batch_size} of {image_size}x{image_size}, target {target},"
        " augmentation {augment}"
    ).format(**machine)


def _device() -> str:
    """Returns the name of the GPU, or `CPU`."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    details = tf.config.experimental.get_device_details(gpus[0])
    return str(details.get("device_name", gpus[0].name))


def _processor() -> str:
    """Returns the name of the processor."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        names = [line.split(":", 1)[1] for line in file if line.startswith("model name")]
    return (names or [platform.machine()])[0].strip()


if __name__ == "__main__":
    cli.run(main)
