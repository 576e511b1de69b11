"""Images a second, in one run, next to other ways to feed the same images.

    python -m datapipe.benchmark_main --records=photos.records --output=bench

The systems take turns, so what else the machine does strikes all of them; read the ratios first.
The tasks of --tasks:

    READ         shuffled batches of stored pixels
    READ_JPEG    the first pass over JPEG records, from files to batches; later ones are READ
    TRAIN_FEED   flip, rotation 30, shift 0.3, zoom 0.2, to float32 in 0..1
    BALANCED     TRAIN_FEED with equal draws of each class
    STREAM       READ without loading first
    FIRST_BATCH  seconds from nothing to the first training batch, in a new process
    MEMORY       what that process takes at most, above what imports take

--curve also measures READ and TRAIN_FEED over the number and the size of images, in memory.
"""

import functools
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from records.common import cli

_TASKS = (
    *("READ", "READ_JPEG", "TRAIN_FEED", "BALANCED", "STREAM"),
    *("FIRST_BATCH", "MEMORY"),
)
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set, in any encoding.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for benchmark.json and the charts.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to read.")
_ROWS = flags.DEFINE_integer(
    "rows", 32_768, "Rows to measure on; the split is repeated under new keys up to that number."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images per batch.")
_REPEATS = flags.DEFINE_integer(
    "repeats", 7, "Measurements of each system, at most 3 new processes; the median is reported."
)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Minimum length of one measurement, in seconds.")
_WANTED = flags.DEFINE_list("tasks", list(_TASKS), "Tasks to measure, as listed above.")
_CURVE = flags.DEFINE_bool("curve", False, "Also measure over the number and size of images.")
cli.begin(__name__)

# What follows needs TensorFlow, whose import takes three seconds.
import numpy as np

from datapipe.benchmark import chart, cold_start, numpy_baselines, scaling, systems
from datapipe.profile.timing import UNITS, Row, Timing
from datapipe.profile.timing import rows as summary
from records.builder import replicate
from records.common import atomic
from records.common.backend import tf
from records.format import record_set

_ABOUT = {**{name: task.about for name, task in systems.TASKS.items()}, **cold_start.TASKS}

_PROCESSES = 3  # a new one takes some five seconds to import TensorFlow

_OPTIONAL = {
    "cv2": ("opencv-python-headless", "numpy + cv2 and cv2.imdecode are"),
    "matplotlib": ("matplotlib", "the charts are"),
    "scipy": ("scipy", "Keras ImageDataGenerator is"),
}


def main(arguments: Sequence[str]) -> int:
    """Makes record sets of the wanted size, measures, prints tables, writes JSON and charts."""
    cli.no_arguments(arguments)
    output = cli.require("output", _OUTPUT.value)
    opened = record_set.open_set(cli.require_folder("records", _RECORDS.value))
    timing = _timing(opened)
    os.makedirs(output, exist_ok=True)  # before minutes of measuring
    for module in _missing():
        package, what = _OPTIONAL[module]
        print(f"{what} left out, for want of {module}: pip install {package}")
    rows = []
    for task, of_task in _measured(opened, timing):
        print(f"\n{_table(task, of_task)}", flush=True)
        rows += of_task
    curves = _curves(opened, timing) if _CURVE.value else None
    print()
    for name, data in _results(rows, curves, _machine(opened)):
        path = os.path.join(output, name)
        atomic.write_whole(path, data)
        print(f"written: {path}")
    return cli.DONE


def _timing(opened: record_set.RecordSet) -> Timing:
    """Returns what the flags say, after all of them were checked."""
    cli.at_least(1, _ROWS, _BATCH_SIZE, _REPEATS)
    cli.one_of("split", _SPLIT.value, opened.manifest.splits)
    if not opened.manifest.split(_SPLIT.value).count:
        raise cli.UsageError(f"--split must name one with rows, got {_SPLIT.value!r}")
    for task in _WANTED.value:
        cli.one_of("tasks", task, _ABOUT)
    if not _WANTED.value and not _CURVE.value:
        raise cli.UsageError("--tasks must name a task where --curve is not given")
    if _BATCH_SIZE.value > _ROWS.value:
        raise cli.UsageError(f"--batch_size must not exceed {_ROWS.value} --rows")
    try:
        return Timing(_REPEATS.value, _SECONDS.value, budget=math.inf, warm_up_batches=8)
    except ValueError as error:
        raise cli.UsageError(f"--{error}") from None


def _missing() -> list[str]:
    return [module for module in _OPTIONAL if numpy_baselines.optional(module) is None]


def _measured(opened: record_set.RecordSet, timing: Timing) -> Iterator[tuple[str, list[Row]]]:
    """Yields the wanted tasks, each with its rows, as they are measured."""
    with tempfile.TemporaryDirectory(prefix="datapipe-benchmark-") as folder:
        inputs = functools.cache(functools.partial(_inputs, opened, folder))
        for name in [task for task in systems.TASKS if task in _WANTED.value]:
            task = systems.TASKS[name]
            ways = task.systems(inputs(task.encoding))
            rates = systems.rates(ways, timing, _BATCH_SIZE.value)
            yield name, summary(name, "images_per_second", rates, task.bases)
        wanted = [task for task in cold_start.TASKS if task in _WANTED.value]
        if wanted:
            yield from cold_start.rows(inputs("raw"), wanted, min(timing.turns, _PROCESSES)).items()


def _inputs(opened: record_set.RecordSet, folder: str, encoding: str) -> systems.Inputs:
    print(f"writing {_ROWS.value:,} rows of {opened.folder} as {encoding}", flush=True)
    path = os.path.join(folder, encoding)
    os.mkdir(path)
    tiled = replicate.tile(opened, _SPLIT.value, _ROWS.value, path, encoding=encoding)
    return systems.Inputs(tiled, _SPLIT.value, _BATCH_SIZE.value)


def _curves(opened: record_set.RecordSet, timing: Timing) -> scaling.Curves:
    print("\nmeasuring the curves", flush=True)
    curves = scaling.measured(opened, _SPLIT.value, timing, _BATCH_SIZE.value)
    for point in curves.left_out:
        print(f"{point} are left out of the curves: the memory does not suffice")
    return curves


def _results(
    rows: Sequence[Row], curves: scaling.Curves | None, machine: dict[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """Yields the files to write, by name."""
    rates = [row.to_json() for row in rows if row.unit == "images_per_second"]
    others = [row.to_json() for row in rows if row.unit != "images_per_second"]
    found = {"machine": machine, "rows": rates, "new_process": others}
    if curves:
        found["curves"] = curves.to_json()
    yield "benchmark.json", (json.dumps(found, indent=1) + "\n").encode()
    if "matplotlib" in _missing():
        return
    where = "batch {batch_size}, {threads} threads, {processor}".format(**machine)
    if rows:
        title = "{rows:,} rows of {image_size}x{image_size}, ".format(**machine) + where
        yield "benchmark.png", chart.bars(rows, _ABOUT, title)
    if curves and curves.rows:
        yield "curve.png", chart.curves(curves.rows, f"What an image costs, {where}")


def _table(task: str, rows: Sequence[Row]) -> str:
    unit = UNITS[rows[0].unit]
    head = ("system", f"times {rows[0].base}", unit.name, "lowest", "highest")
    lines: list[Sequence[object]] = [head]
    for row in rows:
        numbers = (row.median, row.lowest, row.highest)
        lines.append((row.system, f"{row.ratio:.2f}", *map(unit.shown, numbers)))
    return f"{task}: {_ABOUT[task]}; {unit.better} is better\n{cli.table(lines)}"


def _machine(opened: record_set.RecordSet) -> dict[str, Any]:
    cv2 = numpy_baselines.optional("cv2")
    return {
        "cores": os.cpu_count(),
        "threads": systems.num_threads(),
        "processor": _processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tensorflow": tf.__version__,
        "opencv": cv2.__version__ if cv2 else None,
        "rows": _ROWS.value,
        "image_size": opened.manifest.image_size,
        "batch_size": _BATCH_SIZE.value,
        "seconds": _SECONDS.value,
    }


def _processor() -> str:
    """Returns the name that Linux knows the processor by."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        names = (line.split(":", 1)[1] for line in file if line.startswith("model name"))
        return next(names, platform.machine()).strip()


if __name__ == "__main__":
    cli.run(main)
