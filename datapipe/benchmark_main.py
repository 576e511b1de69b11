"""Images a second, in one run, next to memcpy and next to a pipeline as tutorials write it.

    python -m datapipe.benchmark_main --records=photos.records --output=bench

The systems take turns, so what else the machine does strikes all of them; read the ratios first.
READ is shuffled batches of stored pixels. TRAIN_FEED adds a flip, rotation, shift and zoom and
gives float32 in 0..1. BALANCED is TRAIN_FEED with equal draws of each class.
"""

import functools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from datapipe import augment, options, pipeline, resident, sampling
from records import cli, files, manifest, record_set, tfrecord, tiling
from records.backend import tf

_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for benchmark.json.")
_SPLIT = flags.DEFINE_string("split", "train", "Split to read.")
_ROWS = flags.DEFINE_integer(
    "rows", 32_768, "Rows to measure on; the split is repeated under new keys up to that number."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images in a batch.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Measurements of each system; the median counts.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Shortest length of one measurement.")

_AUGMENT = options.AugmentOptions(
    rotation_range=30,
    width_shift_range=0.3,
    height_shift_range=0.3,
    zoom_range=0.2,
    horizontal_flip=True,
)


def main(arguments: Sequence[str]) -> int:
    """Makes a record set of the wanted size, measures, prints the table, writes the JSON."""
    cli.no_arguments(arguments)
    output = cli.require("output", _OUTPUT.value)
    opened = record_set.open_set(cli.require_folder("records", _RECORDS.value))
    cli.at_least(1, _ROWS, _BATCH_SIZE, _REPEATS)
    cli.one_of("split", _SPLIT.value, opened.manifest.splits)
    if opened.manifest.encoding != "raw":
        raise cli.UsageError(
            f"--records must hold raw pixels to be compared, got {opened.manifest.encoding}"
        )
    if _BATCH_SIZE.value > _ROWS.value:
        raise cli.UsageError(f"--batch_size must not exceed {_ROWS.value} --rows")
    with tempfile.TemporaryDirectory(prefix="datapipe-benchmark-") as folder:
        print(f"writing {_ROWS.value:,} rows of {opened.folder} to a temporary record set")
        tiled = tiling.tile(opened, _SPLIT.value, _ROWS.value, folder)
        rates = _measure(_systems(tiled))
    rows = [
        {
            "task": task,
            "system": system,
            "images_per_second": statistics.median(values),
            "repeats": len(values),
            "lowest": min(values),
            "highest": max(values),
        }
        for (task, system), values in rates.items()
    ]
    os.makedirs(output, exist_ok=True)
    path = os.path.join(output, "benchmark.json")
    text = json.dumps({"machine": _machine(), "rows": rows}, indent=1) + "\n"
    files.write_whole(path, text.encode())
    print(_table(rows))
    print(f"benchmark: {path}")
    return cli.DONE


def _systems(
    records: record_set.RecordSet,
) -> dict[tuple[str, str], Callable[[], Iterator[Any]]]:
    """Returns what is measured: (task, system) to a function that begins to give batches."""
    rows = resident.load(records, _SPLIT.value)
    plans = {target: _plan(records, target) for target in ("natural", "balanced")}
    return {
        ("READ", "memcpy, 1 thread"): functools.partial(_memcpy, rows),
        ("READ", "datapipe"): lambda: iter(_read(rows, plans["natural"])),
        ("READ", "tutorial tf.data"): lambda: iter(_tutorial(records, changed=False)),
        ("TRAIN_FEED", "datapipe"): lambda: iter(
            pipeline.training_dataset(rows, plans["natural"], _AUGMENT)
        ),
        ("TRAIN_FEED", "tutorial tf.data"): lambda: iter(_tutorial(records, changed=True)),
        ("BALANCED", "datapipe"): lambda: iter(
            pipeline.training_dataset(rows, plans["balanced"], _AUGMENT)
        ),
    }


def _plan(records: record_set.RecordSet, target: str) -> sampling.SamplingPlan:
    labels, names = records.index(_SPLIT.value).label, records.manifest.class_names
    return sampling.plan(
        labels, names, options.Target(target), seed=0, batch_size=_BATCH_SIZE.value
    )


def _memcpy(rows: resident.ResidentRows) -> Iterator[np.ndarray]:
    """Copies consecutive batches into one buffer: the bound for any system that moves pixels."""
    source = rows.images.numpy()
    size = _BATCH_SIZE.value
    buffer = np.empty_like(source[:size])
    while True:
        for start in range(0, len(source) - size + 1, size):
            np.copyto(buffer, source[start : start + size])
            yield buffer


def _read(rows: resident.ResidentRows, plan: sampling.SamplingPlan) -> tf.data.Dataset:
    at = tf.range(_BATCH_SIZE.value, dtype=tf.int64)
    ds = tf.data.Dataset.range(tf.int64.max)
    ds = ds.map(
        lambda step: rows.gather(plan.rows_at(step * _BATCH_SIZE.value + at)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return ds.prefetch(tf.data.AUTOTUNE)


def _tutorial(records: record_set.RecordSet, *, changed: bool) -> tf.data.Dataset:
    """Returns the pipeline of the TensorFlow guides: parse and change one image at a time."""
    shards = records.manifest.split(_SPLIT.value).shards
    size = records.manifest.image_size
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(payload: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_single_example(payload, spec)
        image = tf.io.decode_raw(features["image"], tf.uint8)
        return tf.reshape(image, [size, size, 3]), features["label"]

    def change(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps = augment.matrices(_AUGMENT, size, tf.random.uniform([1, 8]))
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(image, tf.float32)[None] / 255,
            transforms=tf.concat([maps, tf.zeros([1, 2])], axis=1),
            output_shape=[size, size],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )
        return moved[0], label

    auto = tf.data.AUTOTUNE
    ds = tf.data.TFRecordDataset([records.path(s) for s in shards], num_parallel_reads=auto)
    ds = ds.map(parse, num_parallel_calls=auto).shuffle(4096).repeat()
    if changed:
        ds = ds.map(change, num_parallel_calls=auto)
    return ds.batch(_BATCH_SIZE.value, drop_remainder=True).prefetch(auto)


def _measure(
    systems: dict[tuple[str, str], Callable[[], Iterator[Any]]],
) -> dict[tuple[str, str], list[float]]:
    """Returns images a second of each repeat; systems take turns, the first round is not counted.

    Only one system's iterator is alive at a time, so none prefetches on another's time.
    """
    rates: dict[tuple[str, str], list[float]] = {name: [] for name in systems}
    for repeat in range(_REPEATS.value + 1):
        for name, begin in systems.items():
            batches = begin()
            for _ in range(8):  # buffers filled, functions compiled
                next(batches)
            rate = _rate(batches)
            del batches
            if repeat:
                rates[name].append(rate)
    return rates


def _rate(batches: Iterator[Any]) -> float:
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < _SECONDS.value:
        next(batches)
        count += 1
    return count * _BATCH_SIZE.value / (time.perf_counter() - started)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    tutorial = {
        row["task"]: row["images_per_second"] for row in rows if row["system"].startswith("tuto")
    }
    lines: list[Sequence[object]] = [
        ("task", "system", "times tutorial", "images/s", "lowest", "highest")
    ]
    for row in rows:
        base = tutorial.get(row["task"], tutorial["TRAIN_FEED"])
        numbers = [round(row[key]) for key in ("images_per_second", "lowest", "highest")]
        lines.append((row["task"], row["system"], f"{numbers[0] / base:.1f}", *numbers))
    return cli.table(lines)


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "tensorflow": tf.__version__,
        "rows": _ROWS.value,
        "batch_size": _BATCH_SIZE.value,
    }


if __name__ == "__main__":
    cli.run(
        main,
        manifest.ManifestError,
        tfrecord.DamagedRecordError,
        resident.MemoryBudgetError,
        OSError,
    )
