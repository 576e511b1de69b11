"""Images a second of the training step of every network, fed by the pipeline and by nothing.

    python -m models.benchmark_main --records=photos.records --output=bench

A network trains on batches of the real pipeline (balanced target, photo augmentation) and on one
batch that is always ready, in turns, so what else the machine does strikes both; where the first is
slower, the input is what limits it. The pipeline alone is measured before. Nothing is trained for
keeps. A step that takes longer than --seconds is done once a turn.
"""

import contextlib
import dataclasses
import functools
import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from datapipe import pipeline
from datapipe.augment import options
from datapipe.plan import sampling
from datapipe.profile import turns
from datapipe.rows import host, residency, streaming
from datapipe.rows.base import Rows
from models import run_folder
from models.networks import zoo
from models.training import distribution, loop
from models.training import step as train_step
from records.common import atomic, cli, errors, targets
from records.common.backend import keras, tf
from records.format import manifest, record_set

FILE_NAME = "training.json"
PIPELINE, READY = "pipeline", "batch that is ready"

_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_OUTPUT = flags.DEFINE_string("output", None, f"Folder for {FILE_NAME}.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to train on.")
_MODELS = flags.DEFINE_list("models", list(zoo.MODELS), "Networks to measure.")
_PRECISIONS = flags.DEFINE_list(
    "precisions", None, "Of the arithmetic; by default float32, and on a GPU mixed_float16 too."
)
_JIT_COMPILE = flags.DEFINE_list(
    "jit_compile",
    None,
    "Compile the step with XLA: true, false or both; by default as training does: on a GPU.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a batch.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Turns of each network; the median counts.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Length of a turn, if a step is not longer.")

_SEED = 0
_TARGET, _AUGMENT = "balanced", "photo"
_DEFAULTS = loop.TrainOptions()
# Low, so that no network's loss leaves the finite numbers: a step without an update is another one.
_RATE = 1e-4
_LONGEST = 30.0  # seconds after which no further turn of a network begins
_CHOICES = {"true": True, "false": False}
# What TensorFlow's messages begin with: lines, and marks in a line.
_PLACES = ("Graph execution error:", "Detected at node", "File ")
_NODES = re.compile(r"^(\s*\{\{[^}]*\}\})+")


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to train one network.

    Attributes:
        model: name in the zoo.
        precision: name of the Keras policy.
        jit_compile: whether XLA compiles the step.
    """

    model: str
    precision: str
    jit_compile: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("model", tuple(zoo.MODELS)), ("precision", distribution.PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )

    def __str__(self) -> str:
        return f"{self.system}{' with XLA' if self.jit_compile else ''}"

    @property
    def system(self) -> str:
        """The network and the precision."""
        return f"{self.model} {self.precision}"


@dataclasses.dataclass(frozen=True)
class Call:
    """What one call of the training step did.

    Attributes:
        steps: it was asked for.
        updated: steps of them that changed the weights; others had no finite loss or gradient.
        seconds: from the call to the end of the last step, on the device too.
        waited: seconds of them that went into waiting for batches.
        loss: mean over the steps that changed the weights; 0 without any.
    """

    steps: int
    updated: int
    seconds: float
    waited: float
    loss: float

    def __post_init__(self) -> None:
        if not 0 <= self.updated <= self.steps:
            raise ValueError(f"updated must lie in 0..{self.steps} steps, got {self.updated}")


class Trainer:
    """A new network and its training step, under way.

    Attributes:
        parameters: numbers that the network consists of.
    """

    def __init__(
        self,
        case: Case,
        strategy: tf.distribute.Strategy,
        *,
        num_classes: int,
        image_size: int,
        batch_size: int,
    ):
        """Makes the network with random weights, the same each time.

        Raises:
            ValueError: if the network does not take such images.
        """
        keras.utils.set_random_seed(_SEED)
        with _policy(case.precision), strategy.scope():
            model = zoo.build(case.model, num_classes, (image_size, image_size, 3))
        self.parameters = int(model.count_params())
        self._carry = train_step.first_carry(case.precision)
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
        """Goes on by so many steps, in one call."""
        before, started = self._carry, time.perf_counter()
        after, _, waited = self._step.run(batches, before, num_steps)
        # A GPU is only told what to do; it is done when it says so.
        tf.test.experimental.sync_devices()
        seconds = time.perf_counter() - started
        self._carry, updated = after, int(after.steps - before.steps)
        loss = float(after.loss - before.loss) / max(updated, 1)
        return Call(num_steps, updated, seconds, waited, loss)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the turns of one case gave.

    Attributes:
        case: what was trained.
        parameters: of the network.
        first: the first step, which is compiled.
        calls: one a turn, by what fed them: `PIPELINE` and `READY`.
        batch_size: images of a step.
    """

    case: Case
    parameters: int
    first: Call
    calls: Mapping[str, Sequence[Call]]
    batch_size: int

    @property
    def rows(self) -> dict[str, turns.Row]:
        """Images a second of each feed; ratios are to the batch that is ready."""
        rates = {
            name: [call.steps * self.batch_size / call.seconds for call in calls]
            for name, calls in self.calls.items()
        }
        found = turns.summary("TRAIN_STEP", "images_per_second", rates, [READY])
        return {row.system: row for row in found}

    @property
    def waiting(self) -> float:
        """Median share of the time spent waiting for the pipeline, 0 to 1."""
        return statistics.median(call.waited / call.seconds for call in self.calls[PIPELINE])

    @property
    def not_updated(self) -> int:
        """Steps of all turns that changed nothing."""
        return sum(call.steps - call.updated for calls in self.calls.values() for call in calls)

    def to_json(self) -> dict[str, Any]:
        """Returns the row of the pipeline, and beside it what else is known, by name."""
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
    left_out: list[tuple[Case, str]] = []
    for case in cases:
        print(f"measuring {case}", flush=True)
        dataset = datasets(zoo.MODELS[case.model].input_range)
        result = _tried(case, dataset, timing, opened.manifest, how.strategy)
        if isinstance(result, str):
            left_out.append((case, result))
        else:
            found.append(result)
    print("\n" + _said(found, left_out))
    path = os.path.join(output, FILE_NAME)
    numbers = {
        "machine": machine,
        "pipeline": alone.to_json(),
        "rows": [measured.to_json() for measured in found],
        "left_out": [{**dataclasses.asdict(case), "reason": why} for case, why in left_out],
    }
    atomic.write_whole(path, atomic.json_bytes(numbers, indent=1))
    print(f"written: {path}")
    return cli.DONE


def _timing() -> turns.Timing:
    cli.at_least(1, _BATCH_SIZE, _REPEATS)
    try:
        return turns.Timing(_REPEATS.value, _SECONDS.value, _BATCH_SIZE.value)
    except ValueError as error:
        raise cli.UsageError(f"--{error}") from None


def _cases() -> list[Case]:
    """Returns what is to be measured, each once, after the flags were checked."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    usual = (["float32", "mixed_float16"], ["true"]) if on_gpu else (["float32"], ["false"])
    wanted = []
    for holder, choices, default in (
        (_MODELS, zoo.MODELS, []),
        (_PRECISIONS, distribution.PRECISIONS, usual[0]),
        (_JIT_COMPILE, _CHOICES, usual[1]),
    ):
        values = default if holder.value is None else holder.value
        if not values:
            raise cli.UsageError(f"--{holder.name} must name at least one of {', '.join(choices)}")
        wanted.append(dict.fromkeys(cli.one_of(holder.name, value, choices) for value in values))
    models, precisions, compiled = wanted
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
    return pipeline.training_dataset(rows, plan, options.PRESETS[_AUGMENT], input_range=input_range)


def _alone(dataset: tf.data.Dataset, timing: turns.Timing) -> turns.Row:
    """Returns what the pipeline gives where nothing is trained."""
    with streaming.faults_named():
        rates = turns.rates([turns.System(PIPELINE, lambda: iter(dataset))], timing)
    return turns.summary("PIPELINE", "images_per_second", rates, [PIPELINE])[0]


def _tried(
    case: Case,
    dataset: tf.data.Dataset,
    timing: turns.Timing,
    info: manifest.Manifest,
    strategy: tf.distribute.Strategy,
) -> Measured | str:
    """Returns what was measured, or why nothing can be; the memory is free again after it."""
    make = functools.partial(
        Trainer,
        case,
        strategy,
        num_classes=len(info.class_names),
        image_size=info.image_size,
        batch_size=timing.batch_size,
    )
    try:
        with streaming.faults_named():
            return _measured(case, make, dataset, timing)
    except _CannotTrainError as error:
        return str(error)
    except tf.errors.OpError as error:  # as of no memory, or no such operation in this precision
        return _reason(error)
    finally:
        keras.backend.clear_session()
        gc.collect()


class _CannotTrainError(Exception):
    """The network does not take such images."""


def _measured(
    case: Case, make: Callable[[], Trainer], dataset: tf.data.Dataset, timing: turns.Timing
) -> Measured:
    """Trains by both feeds in turns, until there are enough or it has taken too long."""
    try:
        trainer = make()
    except ValueError as error:
        raise _CannotTrainError(str(error)) from None
    again = tf.data.Dataset.from_tensors(next(iter(dataset))).repeat()
    feeds = {PIPELINE: dataset, READY: again}
    first = trainer.run(iter(again), 1)
    started = time.perf_counter()
    steps = {name: _fitting(trainer, feed, timing.seconds) for name, feed in feeds.items()}
    calls: dict[str, list[Call]] = {name: [] for name in feeds}
    for turn in range(timing.repeats):
        if turn and time.perf_counter() - started > _LONGEST:
            break
        for name, feed in feeds.items():
            calls[name].append(_turn(trainer, feed, steps[name]))
    return Measured(case, trainer.parameters, first, calls, timing.batch_size)


def _fitting(trainer: Trainer, feed: tf.data.Dataset, seconds: float) -> int:
    """Returns how many steps of one call fit into so many seconds, at least 1."""
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
    """Returns an iterator whose first batch, which takes longer, is gone."""
    batches = iter(feed)
    next(batches)
    return batches


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Within, layers are made for a precision."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _reason(error: tf.errors.OpError) -> str:
    """Returns an error in one line: the first that does not say where in a graph it happened."""
    lines = [_NODES.sub("", line).strip() for line in str(error.message).splitlines()]
    told = (line for line in lines if line and not line.startswith(_PLACES))
    return f"{type(error).__name__}: {next(told, 'no message')}"


def _said(found: Sequence[Measured], left_out: Sequence[tuple[Case, str]]) -> str:
    """Returns the table, and below it what is not in it or not as it should be."""
    lines = [_table(found)] if found else []
    for measured in found:
        if measured.not_updated:
            total = sum(call.steps for calls in measured.calls.values() for call in calls)
            lines.append(
                f"{measured.case}: {measured.not_updated:,} of {total:,} steps had no finite loss"
                " or gradient and changed nothing"
            )
    lines += [cli.printable(f"left out: {case}: {why}") for case, why in left_out]
    return "\n".join(lines)


def _table(found: Sequence[Measured]) -> str:
    shown = turns.UNITS["images_per_second"].shown
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
    """Returns what was measured on, by name."""
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
    """Returns the name of the GPU, or that there is none."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    details = tf.config.experimental.get_device_details(gpus[0])
    return str(details.get("device_name", gpus[0].name))


def _processor() -> str:
    """Returns the name that Linux knows the processor by."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        names = [line.split(":", 1)[1] for line in file if line.startswith("model name")]
    return (names or [platform.machine()])[0].strip()


if __name__ == "__main__":
    cli.run(
        main,
        manifest.ManifestError,
        errors.DamagedRecordError,
        host.MemoryBudgetError,
        OSError,
    )
