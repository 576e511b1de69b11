"""What is measured: for each task ours and the other ways, over the same images and batches.

All that is ours stands at the end, in functions that begin with `_ours`.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from datapipe import pipeline, randomness
from datapipe.augment import options, warp
from datapipe.benchmark import numpy_baselines as arrays
from datapipe.benchmark import tfdata_baselines as tfdata
from datapipe.plan import sampling
from datapipe.profile import timing
from datapipe.profile.timing import Stage as System
from datapipe.rows import host, streaming
from datapipe.rows.base import Rows
from records.common import targets
from records.common.backend import tf
from records.format.record_set import RecordSet

OURS = "datapipe"

# Flip, rotation, shift and zoom, the edge repeated: all that every other way can do as well.
FEED = options.AugmentOptions(
    rotation_range=30,
    width_shift_range=0.3,
    height_shift_range=0.3,
    zoom_range=0.2,
    horizontal_flip=True,
)

_GENERATOR_ROWS = 4096  # it holds float32, four times the memory, and has the same speed with fewer


def num_threads() -> int:
    """Returns how many threads a system may use: one for each core that this process may run on.

    TensorFlow counts the same cores for its pools.
    """
    return len(os.sched_getaffinity(0))


def plan(
    labels: np.ndarray, class_names: Sequence[str], target: str, batch_size: int
) -> sampling.SamplingPlan:
    """Returns the plan that ours follows, and that arrays are told the rows of."""
    wanted = targets.Target(target)
    return sampling.plan(labels, class_names, wanted, seed=0, batch_size=batch_size)


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Rows that lie in memory, and which of them stand in which batch.

    Attributes:
        rows: as ours holds them; the others see the same memory.
        plan: of the batches.
    """

    rows: host.ResidentRows
    plan: sampling.SamplingPlan

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """The pixels of all rows, uint8 [rows, size, size, 3]."""
        return _ours_as_array(self.rows)

    @functools.cached_property
    def order(self) -> np.ndarray:
        """The rows of each batch of about one epoch, int64 [steps, batch]."""
        positions = tf.range(self.plan.steps_per_epoch * self.plan.batch_size, dtype=tf.int64)
        return self.plan.rows_at(positions).numpy().reshape(-1, self.plan.batch_size)

    @functools.cached_property
    def maps(self) -> np.ndarray:
        """How each image of `order` is moved, float32 [steps, batch, 6]."""
        uniforms = randomness.uniforms(self.plan.seed, tf.range(self.order.size, dtype=tf.int64))
        size = self.pixels.shape[1]
        maps = warp.matrices(warp.WARP.sample(FEED, uniforms, 1.0, size), size)
        return maps.numpy().reshape(*self.order.shape, 6)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A record set in one encoding, and what the systems need of it, made when first asked for.

    Attributes:
        records: the set.
        split: the one to read.
        batch_size: images in a batch, at most the rows of the split.
    """

    records: RecordSet
    split: str
    batch_size: int

    @functools.cached_property
    def rows(self) -> host.ResidentRows:
        """The split in memory."""
        return _ours_loaded(self.records, self.split)

    @functools.cached_property
    def files(self) -> list[bytes]:
        """The image of each record, encoded as it stands there."""
        return [self.records.example(self.split, row).image for row in range(self._num_rows)]

    @property
    def shards(self) -> tfdata.Shards:
        """The files of the split."""
        info = self.records.manifest
        paths = [self.records.path(shard) for shard in info.split(self.split).shards]
        return tfdata.Shards(paths, info.image_size, self.batch_size)

    @property
    def labels(self) -> np.ndarray:
        """The class of each row."""
        return self.records.index(self.split).label

    @property
    def num_batches(self) -> int:
        """Whole batches in a pass over the split."""
        return self._num_rows // self.batch_size

    def plan(self, target: str) -> sampling.SamplingPlan:
        """Returns the plan for a target."""
        return plan(self.labels, self.records.manifest.class_names, target, self.batch_size)

    def in_memory(self, target: str) -> InMemory:
        """Returns the rows and the plan for a target."""
        return InMemory(self.rows, self.plan(target))

    @property
    def _num_rows(self) -> int:
        return self.records.manifest.split(self.split).count


def rates(
    systems: Sequence[System], how: timing.Timing, batch_size: int
) -> dict[str, tuple[float, ...]]:
    """Returns images a second, by system and turn."""
    of_images = [dataclasses.replace(system, images=batch_size) for system in systems]
    return {name: found.by_turn for name, found in timing.measured(of_images, how).items()}


def read(inputs: Inputs) -> list[System]:
    """Returns ways to get shuffled batches of stored pixels, and nothing beside them."""
    memory, batch_size = inputs.in_memory("natural"), inputs.batch_size
    most = num_threads()
    copies = [
        System(
            f"memcpy, {_threads(threads)}",
            functools.partial(arrays.copied, memory.pixels, batch_size, threads),
        )
        for threads in sorted({1, most})
    ]
    by_threads = functools.partial(arrays.taken_by_threads, memory.pixels, memory.order, most)
    return [
        *copies,
        *read_in_memory(memory),
        System(f"numpy.take, {_threads(most)}", by_threads),
        System("expert tf.data", _again(lambda: _images(tfdata.expert(inputs.shards, None)))),
        System("tutorial tf.data", _again(lambda: _images(tfdata.tutorial(inputs.shards, None)))),
    ]


def read_in_memory(memory: InMemory) -> list[System]:
    """Returns ours and `numpy.take` into new arrays."""
    taken = functools.partial(arrays.taken, memory.pixels, memory.order)
    return [
        System(OURS, _again(lambda: _ours_read(memory.rows, memory.plan))),
        System("numpy.take", taken),
    ]


def read_jpeg(inputs: Inputs) -> list[System]:
    """Returns ways to make a first pass over records that hold JPEG, from files to batches.

    Each pass builds its dataset; what ours compiles is compiled in the turn that does not count, as
    FIRST_BATCH counts it. cv2 fills the memory of one batch again and again, so ours stands there
    with memory for all rows that is used again, and with new memory.
    """
    batches, plan = inputs.num_batches, inputs.plan("natural")
    memory = host.allocate(inputs.records, inputs.split)

    def ours(into: np.ndarray | None) -> Iterator[Any]:
        return iter(_ours_read(_ours_loaded(inputs.records, inputs.split, into), plan))

    def by_cv2() -> Iterator[Any]:
        size = inputs.shards.image_size
        return arrays.decoded_by_cv2(inputs.files, size, inputs.batch_size, num_threads())

    def by_tf() -> Iterator[Any]:
        return iter(tfdata.decoded_by_tf_data(inputs.shards))

    return [
        System(OURS, functools.partial(ours, memory), pass_batches=batches),
        System(f"{OURS}, new memory", functools.partial(ours, None), pass_batches=batches),
        *_where("cv2", System("cv2.imdecode", by_cv2, pass_batches=batches)),
        System("tf.data decode_jpeg", by_tf, pass_batches=batches),
    ]


def train_feed(inputs: Inputs) -> list[System]:
    """Returns ways to get moved pictures as float32 in 0..1."""
    memory = inputs.in_memory("natural")

    def generator() -> Iterator[Any]:
        pixels = memory.pixels[:_GENERATOR_ROWS]
        return tfdata.image_data_generator(pixels, FEED, inputs.batch_size, num_threads())

    return [
        *feed_in_memory(memory),
        System("expert tf.data", _again(lambda: tfdata.expert(inputs.shards, FEED))),
        System("tutorial tf.data", _again(lambda: tfdata.tutorial(inputs.shards, FEED))),
        *_where("scipy", System("Keras ImageDataGenerator", generator)),
    ]


def feed_in_memory(memory: InMemory) -> list[System]:
    """Returns ours and OpenCV's warp from the rows in memory."""

    def by_cv2() -> Iterator[Any]:
        return arrays.warped_by_cv2(memory.pixels, memory.order, memory.maps, num_threads())

    return [
        System(OURS, _again(lambda: _ours_feed(memory.rows, memory.plan))),
        *_where("cv2", System("numpy + cv2", by_cv2)),
    ]


def balanced(inputs: Inputs) -> list[System]:
    """Returns ways to do the same with equal draws of each class."""
    labels = np.unique(inputs.labels).tolist()
    tutorial = functools.partial(tfdata.tutorial_balanced, inputs.shards, FEED, labels)
    return [
        *feed_in_memory(inputs.in_memory("balanced")),
        System("tutorial tf.data", _again(tutorial)),
    ]


def stream(inputs: Inputs) -> list[System]:
    """Returns ways to get shuffled batches of stored pixels without loading them first."""
    rows = _ours_streamed(inputs.records, inputs.split)
    window = len(rows) // rows.windows_per_epoch

    def as_mixed() -> tf.data.Dataset:
        return _images(tfdata.expert(inputs.shards, None, buffer=window))

    return [
        System(OURS, _again(lambda: _ours_read(rows, inputs.plan("natural")))),
        System("expert tf.data", _again(lambda: _images(tfdata.expert(inputs.shards, None)))),
        System("expert tf.data, same mixing", _again(as_mixed)),
        System("tutorial tf.data", _again(lambda: _images(tfdata.tutorial(inputs.shards, None)))),
    ]


def from_nothing(inputs: Inputs) -> list[System]:
    """Returns ways to begin TRAIN_FEED in a process that has loaded nothing.

    Nothing is loaded to make this list either.
    """

    def loaded() -> tf.data.Dataset:
        return _ours_feed(inputs.rows, inputs.plan("natural"))

    def streamed() -> tf.data.Dataset:
        return _ours_feed(_ours_streamed(inputs.records, inputs.split), inputs.plan("natural"))

    return [
        System(OURS, _again(loaded)),
        System(f"{OURS}, streamed", _again(streamed)),
        System("expert tf.data", _again(lambda: tfdata.expert(inputs.shards, FEED))),
        System("tutorial tf.data", _again(lambda: tfdata.tutorial(inputs.shards, FEED))),
    ]


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to measure.

    Attributes:
        about: what it is, in a few words.
        encoding: of the records that it is measured on.
        systems: makes the systems that take turns.
        bases: the first of these that is there is what ratios are taken to.
    """

    about: str
    encoding: str
    systems: Callable[[Inputs], list[System]]
    bases: tuple[str, ...]


TASKS: Mapping[str, Task] = {
    "READ": Task("shuffled batches of stored pixels", "raw", read, ("numpy.take",)),
    "READ_JPEG": Task(
        *("first pass over JPEG records, from files to batches", "jpeg", read_jpeg),
        ("cv2.imdecode", "tf.data decode_jpeg"),
    ),
    "TRAIN_FEED": Task(
        *("flip, rotation 30, shift 0.3, zoom 0.2, to float32 in 0..1", "raw", train_feed),
        ("numpy + cv2", "tutorial tf.data"),
    ),
    "BALANCED": Task(
        *("TRAIN_FEED with equal draws of each class", "raw", balanced),
        ("numpy + cv2", "tutorial tf.data"),
    ),
    "STREAM": Task("READ without loading first", "raw", stream, ("expert tf.data",)),
}


def _again(make: Callable[[], tf.data.Dataset]) -> Callable[[], Iterator[Any]]:
    """Returns what begins a dataset anew, which is built and compiled when it first begins."""
    made = functools.cache(make)
    return lambda: iter(made())


def _images(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the images alone: each tensor of a batch costs Python some 50 us."""
    return batches.map(lambda image, label: image)


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def _where(module: str, system: System) -> list[System]:
    """Returns the system where the module that it needs is installed."""
    return [system] if arrays.optional(module) else []


def _ours_loaded(
    records: RecordSet, split: str, memory: np.ndarray | None = None
) -> host.ResidentRows:
    return host.load(records, split, memory=memory, show_progress=False)


def _ours_streamed(records: RecordSet, split: str) -> streaming.StreamedRows:
    return streaming.open_stream(records, split)


def ours_of_arrays(pixels: np.ndarray, labels: np.ndarray) -> host.ResidentRows:
    """Returns uint8 [rows, size, size, 3] and int [rows] as ours holds a split in memory."""
    with tf.device("CPU:0"):
        return host.ResidentRows(tf.constant(pixels), tf.constant(labels, tf.int32))


def ours_free_memory() -> int:
    """Returns how many bytes rows may take."""
    return host.free_memory()


def _ours_as_array(rows: host.ResidentRows) -> np.ndarray:
    return np.asarray(rows.images)  # a view; `.numpy()` would be a copy


def _ours_read(rows: Rows, plan: sampling.SamplingPlan) -> tf.data.Dataset:
    ds = rows.batches(plan).map(rows.pixels, num_parallel_calls=tf.data.AUTOTUNE)
    return ds.prefetch(tf.data.AUTOTUNE)


def _ours_feed(rows: Rows, plan: sampling.SamplingPlan) -> tf.data.Dataset:
    return pipeline.training_dataset(rows, plan, FEED)
