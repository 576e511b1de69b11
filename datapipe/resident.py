"""Every row of a split in host memory, decoded once; a batch is one gather."""

import concurrent.futures
import dataclasses
import mmap
import os

import numpy as np
from tqdm import tqdm

from records import images, manifest, schema, tfrecord
from records.backend import tf
from records.index import Index
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
    size, encoding = record_set.manifest.image_size, record_set.manifest.encoding
    index = record_set.index(split)
    pixels = _allocate(info.count, (size, size, schema.CHANNELS))
    off = None if show_progress else True  # None: off where standard error is no terminal
    bar = tqdm(total=info.count, desc=f"loading {split}", unit=" rows", disable=off)
    with bar, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(_load_shard, record_set.path(shard), number, index, pixels, encoding)
            for number, shard in enumerate(info.shards)
        ]
        for job in jobs:
            bar.update(job.result())
    with tf.device("CPU:0"):
        labels = tf.convert_to_tensor(index.label)
    # DLPack hands the array over; any other way copies it and needs the memory twice.
    return ResidentRows(tf.experimental.dlpack.from_dlpack(pixels.__dlpack__()), labels)


def _allocate(rows: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns uint8 [rows, *shape], aligned so that TensorFlow can take it over."""
    size = rows * int(np.prod(shape))
    free = _free_memory()
    if size > free:
        raise MemoryBudgetError(
            f"{rows:,} rows need {size / 1e9:,.1f} GB of memory and {free / 1e9:,.1f} GB are free;"
            " build the records with a smaller --image_size or on a machine with more memory"
        )
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].reshape(rows, *shape)


def _free_memory() -> int:
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


def _load_shard(path: str, number: int, index: Index, pixels: np.ndarray, encoding: str) -> int:
    """Decodes the images of one shard to their rows; returns how many."""
    rows = np.flatnonzero(index.shard == number)
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for row in rows.tolist():
            offset, checksum = int(index.offset[row]), int(index.checksum[row])
            try:
                payload = tfrecord.payload_at(data, offset, checksum)
                _decode(payload, encoding, pixels[row])
            except ValueError as error:  # a damaged record or image
                raise tfrecord.DamagedRecordError(
                    f"{path}, row {row}, key {index.key(row)!r}: {error};"
                    f" python -m records.inspect_main verify --records={os.path.dirname(path)}"
                ) from None
    return len(rows)


def _decode(payload: bytes, encoding: str, out: np.ndarray) -> None:
    """Writes the image of a record to `out`, uint8 [size, size, 3]."""
    if encoding == "raw":  # its size is known, and the image is the last feature of a record
        out.reshape(-1)[:] = np.frombuffer(payload, np.uint8, offset=len(payload) - out.size)
    else:
        out[:] = images.decode(schema.decode(payload).image, encoding, len(out))
