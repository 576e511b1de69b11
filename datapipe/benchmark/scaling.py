"""What an image costs as the rows grow in number, and as they grow in size."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from datapipe.benchmark import systems
from datapipe.profile.timing import Row, Timing, rows
from records.format.record_set import RecordSet
from records.image import decode

TASKS = {
    "READ": (systems.read_in_memory, ("numpy.take",)),
    "TRAIN_FEED": (systems.feed_in_memory, ("numpy + cv2", systems.OURS)),
}
_SOURCES = 1024  # real images, which are resized and repeated


@dataclasses.dataclass(frozen=True)
class Point:
    """A number of rows of one size that is measured.

    Attributes:
        curve: `rows` or `image_size`: what changes along it.
        num_rows: rows in memory.
        image_size: their height and width, in pixels.
    """

    curve: str
    num_rows: int
    image_size: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return self.num_rows * self.image_size**2 * 3

    def __str__(self) -> str:
        return f"{self.num_rows:,} rows of {self.image_size}x{self.image_size}"


# All at one size, at which a million rows take 3.1 GB.
_BY_ROWS = [Point("rows", count, 32) for count in (1_000, 10_000, 100_000, 1_000_000)]
# As many bytes at each size as 32,768 rows of 64x64 have.
_BYTES = 384 << 20
_BY_SIZE = [Point("image_size", _BYTES // (size**2 * 3), size) for size in (32, 64, 96, 128, 224)]
POINTS = (*_BY_ROWS, *_BY_SIZE)


@dataclasses.dataclass(frozen=True)
class Curves:
    """What was measured at each point, and which points the memory did not suffice for."""

    rows: Sequence[tuple[Point, Row]]
    left_out: Sequence[Point]

    def to_json(self) -> dict[str, Any]:
        """Returns a line for each point, task and system, and the names of the other points."""
        lines = [{**dataclasses.asdict(point), **row.to_json()} for point, row in self.rows]
        return {"rows": lines, "left_out": [str(point) for point in self.left_out]}


def measured(
    records: RecordSet,
    split: str,
    timing: Timing,
    batch_size: int,
    points: Iterable[Point] = POINTS,
) -> Curves:
    """Returns the curves over real images of a split, resized and repeated in memory."""
    batches = records.pixel_batches(split)
    pixels = np.concatenate(list(itertools.islice(batches, _SOURCES // 256)))
    labels = records.index(split).label[: len(pixels)]
    names = records.manifest.class_names
    found, left_out = [], []
    for point in points:
        # Our rows and the array that they are made of lie in memory at the same time.
        if 2 * point.num_bytes > systems.ours_free_memory():
            left_out.append(point)
            continue
        held = _in_memory(pixels, labels, names, point, batch_size)
        found += [(point, row) for row in _rows(held, timing)]
        del held  # before the next point needs as much
    return Curves(found, left_out)


def _in_memory(
    pixels: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    point: Point,
    batch_size: int,
) -> systems.InMemory:
    label = labels[np.arange(point.num_rows) % len(labels)]
    held = systems.ours_of_arrays(_resized(pixels, point), label)
    return systems.InMemory(held, systems.plan(label, class_names, "natural", batch_size))


def _rows(memory: systems.InMemory, timing: Timing) -> Iterator[Row]:
    for task, (systems_of, bases) in TASKS.items():
        rates = systems.rates(systems_of(memory), timing, memory.plan.batch_size)
        yield from rows(task, "images_per_second", rates, bases)


def _resized(pixels: np.ndarray, point: Point) -> np.ndarray:
    """Returns uint8 [rows, size, size, 3], as many as the point has, from fewer of another size."""
    side = (point.image_size, point.image_size)
    originals = map(Image.fromarray, pixels[: point.num_rows])
    small = np.stack([np.asarray(image.resize(side, decode.FILTER)) for image in originals])
    return np.take(small, np.arange(point.num_rows) % len(small), axis=0)
