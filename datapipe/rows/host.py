"""Every row of a split in host memory, decoded once; a batch is one gather."""

import concurrent.futures
import dataclasses
import math
import os

import numpy as np
from tqdm import tqdm

from datapipe.plan.batch_slice import WHOLE, Slice
from datapipe.plan.sampling import SamplingPlan
from records.common import errors
from records.common.backend import tf
from records.format import example, manifest, tfrecord
from records.format.index import Index
from records.format.record_set import RecordSet
from records.image import decode as images
from records.image import jpeg

_ALIGNMENT = 64  # bytes; TensorFlow takes over only memory that is so aligned
# Positions that are planned in one call, which costs 0.2 ms however few they are: with a call for
# each batch of 256, reading takes 1.1 times as long (2 cores).
_PLANNED = 8192
_PART_BYTES = 8 << 20  # of pixels or of a file, whichever is more, loaded by a thread at a time


class MemoryBudgetError(errors.DatapipeError, RuntimeError):
    """The rows do not fit into the memory that is free."""


@dataclasses.dataclass(frozen=True)
class ResidentRows:
    """The pixels and labels of a split.

    Attributes:
        images: uint8 [rows, size, size, 3], a host tensor.
        labels: int32 [rows].
    """

    images: tf.Tensor
    labels: tf.Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def image_size(self) -> int:
        """Height and width, in pixels."""
        return self.images.shape[1]

    def batches(
        self, plan: SamplingPlan, *, start_step: int = 0, part: Slice = WHOLE
    ) -> tf.data.Dataset:
        """Returns the endless stream of the plan's draws, from `start_step` on.

        Args:
            start_step: where to begin; a stream begun at s equals the rest of one begun at 0.
            part: which part of each global batch.

        Returns:
            A dataset of `label` int32 [n], `row` int64 [n] and `position` int64 [n], n being the
            size of the part; `pixels` gives the images.

        Raises:
            ValueError: if the plan is not over these rows or its batch does not divide evenly.
        """
        if len(plan.by_class) != len(self):
            raise ValueError(f"the plan must be over {len(self)} rows, got {len(plan.by_class)}")
        by_class = np.repeat(np.arange(len(plan.counts)), plan.counts)
        if not np.array_equal(self.labels.numpy()[plan.by_class], by_class):
            raise ValueError("the plan must be over the labels of these rows, got one over others")
        size = part.size(plan.batch_size)
        at_once = max(1, _PLANNED // size)

        def planned(first: tf.Tensor) -> dict[str, tf.Tensor]:
            number = first + tf.range(at_once, dtype=tf.int64)
            start = part.first_position(number, plan.batch_size)
            position = start[:, None] + tf.range(size, dtype=tf.int64)
            row = tf.reshape(plan.compiled_rows_at(tf.reshape(position, [-1])), [at_once, size])
            return {"label": tf.gather(self.labels, row), "row": row, "position": position}

        ds = tf.data.Dataset.range(part.first_element(start_step), tf.int64.max, at_once)
        ds = ds.map(planned, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return _as_written(ds.unbatch())

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """Returns every row once, in order, as `label` and `row`; the last batch may be short."""
        rows = {"label": self.labels, "row": tf.range(len(self), dtype=tf.int64)}
        return _as_written(tf.data.Dataset.from_tensor_slices(rows).batch(batch_size))

    def pixels(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Returns the stored images of a batch, uint8 [n, size, size, 3]."""
        return tf.gather(self.images, batch["row"])


def _as_written(ds: tf.data.Dataset) -> tf.data.Dataset:
    """Keeps TensorFlow from rewriting the graph, for which it copies all tensors that go in.

    So making an iterator over a dataset that gathers from the rows took their memory twice (2.21);
    without the rewriting a process takes the rows and 190 to 200 MiB.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return ds.with_options(options)


def load(
    record_set: RecordSet,
    split: str,
    *,
    memory: np.ndarray | None = None,
    show_progress: bool = True,
) -> ResidentRows:
    """Reads a split into memory, every record checked against its checksum and the index.

    Args:
        memory: from `allocate`, of rows that are no longer needed; new memory if not given.
        show_progress: draws a bar where standard error is a terminal.

    Raises:
        DamagedRecordError: if a record is not as written, with shard, row and key.
        MemoryBudgetError: if the rows need more memory than is free.
        ManifestError: if there is no such split or it has no rows.
        ValueError: if the memory is not made for such rows.
    """
    if memory is not None:
        _check_memory(memory, _shape(record_set, split))
    pixels = allocate(record_set, split) if memory is None else memory
    index = record_set.index(split)
    _read_all(record_set, split, index, pixels, show_progress)
    with tf.device("CPU:0"):
        labels = tf.convert_to_tensor(index.label)
    # DLPack hands the array over; any other way copies it and needs the memory twice.
    return ResidentRows(tf.experimental.dlpack.from_dlpack(pixels.__dlpack__()), labels)


def allocate(record_set: RecordSet, split: str) -> np.ndarray:
    """Returns memory for the pixels of a split, uint8 [rows, size, size, 3], not yet filled.

    Raises:
        MemoryBudgetError: if that is more than is free.
        ManifestError: if there is no such split or it has no rows.
    """
    needed, free = needed_bytes(record_set, split), free_memory()
    shape = _shape(record_set, split)
    if needed > free:
        stream = "" if record_set.is_view else "stream them (--residency=stream), or "
        raise MemoryBudgetError(
            f"{shape[0]:,} rows of {split!r} need {needed / 1e9:,.2f} GB of memory and"
            f" {free / 1e9:,.2f} GB are free; {stream}build the records with a smaller --image_size"
        )
    raw = np.empty(needed + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + needed].reshape(shape)


def _shape(record_set: RecordSet, split: str) -> tuple[int, int, int, int]:
    info = record_set.manifest
    return (info.split(split).count, info.image_size, info.image_size, example.CHANNELS)


def _check_memory(memory: np.ndarray, shape: tuple[int, ...]) -> None:
    aligned = memory.flags.c_contiguous and memory.ctypes.data % _ALIGNMENT == 0
    if (memory.shape, memory.dtype, aligned) != (shape, np.uint8, True):
        raise ValueError(
            f"memory must be uint8 {list(shape)} as `allocate` makes it, got {memory.dtype}"
            f" {list(memory.shape)}{'' if aligned else ', not aligned'}"
        )


def needed_bytes(record_set: RecordSet, split: str) -> int:
    """Returns how much memory the decoded pixels of a split take.

    Raises:
        ManifestError: if there is no such split or it has no rows.
    """
    info = record_set.manifest.split(split)
    if info.count == 0:
        raise manifest.ManifestError(f"split {split!r} of {record_set.folder} has no rows")
    return math.prod(_shape(record_set, split))


def free_memory() -> int:
    """Returns the bytes that this process may still take: of the machine and of its container."""
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    free = int(fields["MemAvailable"].split()[0]) << 10
    try:  # control groups, version 2; what is in the page cache is given up when asked
        limit, used = (_read(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
        cache = dict(line.split() for line in _read("/sys/fs/cgroup/memory.stat").splitlines())
        return min(free, int(limit) - int(used) + int(cache["inactive_file"]))
    except (OSError, KeyError, ValueError):  # no such group, or no limit: "max"
        return free


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _read_all(
    record_set: RecordSet, split: str, index: Index, pixels: np.ndarray, show_progress: bool
) -> None:
    """Decodes all images of a split to their rows, parts of shards in parallel."""
    info, encoding = record_set.manifest.split(split), record_set.manifest.encoding
    off = None if show_progress else True  # None: off where standard error is no terminal
    bar = tqdm(total=info.count, desc=f"loading {split}", unit=" rows", disable=off)
    with bar, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs, start = [], 0
        for shard in info.shards:
            end = start + shard.records
            # Of a view rows lie apart, and what lies between them is read with them.
            apart = shard.bytes // max(1, shard.records)
            at_once = max(1, _PART_BYTES // max(record_set.manifest.image_bytes, apart))
            for first in range(start, end, at_once):
                rows = range(first, min(first + at_once, end))
                path = record_set.path(shard)
                jobs.append(pool.submit(_read_rows, path, rows, index, pixels, encoding))
            start = end
        try:
            for job in jobs:
                bar.update(job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _read_rows(path: str, rows: range, index: Index, pixels: np.ndarray, encoding: str) -> int:
    """Decodes the images of some rows of one shard; returns how many."""
    part = slice(rows.start, rows.stop)
    offsets, lengths = index.offset[part], index.length[part]
    end = (offsets + lengths).max() + tfrecord.FRAME_BYTES
    columns = (offsets - offsets[0], lengths, index.checksum[part])
    records = zip(rows, pixels[part], *(column.tolist() for column in columns), strict=True)
    # Read, not mapped: raw rows load in 0.7 of the time, JPEG rows in the same.
    with open(path, "rb") as file:
        file.seek(int(offsets[0]))
        data = file.read(int(end - offsets[0]))
    for row, out, offset, length, checksum in records:
        try:
            payload = tfrecord.payload_at(data, offset, length, checksum)
            _decode(payload, encoding, out)
        except ValueError as error:  # a damaged record or image
            raise errors.DamagedRecordError(
                f"{path}, row {row}, key {index.key(row)!r}: {error};"
                f" python -m records.inspect_main verify --records={os.path.dirname(path)}"
            ) from None
    return len(rows)


def _decode(payload: bytes, encoding: str, out: np.ndarray) -> None:
    """Writes the image of a record to `out`, uint8 [size, size, 3]."""
    if encoding == "raw":  # its size is known, and the image is the last feature of a record
        out.reshape(-1)[:] = np.frombuffer(payload, np.uint8, offset=len(payload) - out.size)
        return
    image = example.image_of(payload)
    if encoding != "jpeg" or not jpeg.decode_into(image, out):
        out[:] = images.decode(image, encoding, len(out))
