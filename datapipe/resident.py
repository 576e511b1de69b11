"""Every row of a split in host memory, decoded once; a batch is one gather."""

import concurrent.futures
import dataclasses
import mmap
import os

import numpy as np
from tqdm import tqdm

from records import manifest, schema, tfrecord
from records.backend import tf
from records.record_set import RecordSet

_ALIGNMENT = 64  # bytes; TensorFlow takes over only memory that is so aligned


class MemoryBudgetError(RuntimeError):
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

    def gather(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images uint8 [n, size, size, 3] and labels int32 [n] of int64 [n] rows."""
        return tf.gather(self.images, rows), tf.gather(self.labels, rows)


def load(record_set: RecordSet, split: str, *, show_progress: bool = True) -> ResidentRows:
    """Reads a split into memory, every record checked against its checksum and the index.

    Raises:
        DamagedRecordError: if a record is not as written, with shard, row and key.
        MemoryBudgetError: if the rows need more memory than is free.
        ManifestError: if there is no such split or it has no rows.
    """
    info = record_set.manifest.split(split)
    if info.count == 0:
        raise manifest.ManifestError(f"split {split!r} of {record_set.folder} has no rows")
    size = record_set.manifest.image_size
    pixels = _allocate(info.count, (size, size, schema.CHANNELS))
    off = None if show_progress else True  # None: off where standard error is no terminal
    bar = tqdm(total=info.count, desc=f"loading {split}", unit=" rows", disable=off)
    numbers = range(len(info.shards))
    with bar, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for count in pool.map(
            lambda number: _load_shard(record_set, split, number, pixels), numbers
        ):
            bar.update(count)
    with tf.device("CPU:0"):
        labels = tf.convert_to_tensor(record_set.index(split).label)
    # DLPack hands the array over; any other way copies it and needs the memory twice.
    return ResidentRows(tf.experimental.dlpack.from_dlpack(pixels.__dlpack__()), labels)


def _allocate(rows: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns uint8 [rows, *shape], aligned so that TensorFlow can take it over."""
    size = rows * int(np.prod(shape))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _reclaimable()
    if size > free:
        raise MemoryBudgetError(
            f"{rows:,} rows need {size / 1e9:,.1f} GB of memory and {free / 1e9:,.1f} GB are free;"
            " build the records with a smaller --image_size or on a machine with more memory"
        )
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].reshape(rows, *shape)


def _reclaimable() -> int:
    """Returns the bytes of the page cache, which the kernel gives up when asked."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["Cached"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return 0


def _load_shard(record_set: RecordSet, split: str, number: int, pixels: np.ndarray) -> int:
    """Copies the images of one shard to their rows; returns how many."""
    index = record_set.index(split)
    shard = record_set.manifest.split(split).shards[number]
    rows = np.flatnonzero(index.shard == number)
    flat = pixels.reshape(len(pixels), -1)
    suffix = schema.image_suffix(flat.shape[1])
    ends = (len(suffix) + flat.shape[1], flat.shape[1])
    with (
        open(record_set.path(shard), "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for row in rows.tolist():
            try:
                payload = tfrecord.payload_at(data, int(index.offset[row]))
                if payload[-ends[0] : -ends[1]] != suffix:
                    raise ValueError(f"holds no image of {flat.shape[1]} bytes")
            except ValueError as error:
                raise tfrecord.DamagedRecordError(
                    f"{record_set.path(shard)}, row {row}, key {index.key(row)!r}: {error};"
                    f" python -m records.inspect_main verify --records={record_set.folder}"
                ) from None
            flat[row] = np.frombuffer(payload, np.uint8, offset=len(payload) - flat.shape[1])
    return len(rows)
