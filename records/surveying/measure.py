"""What is known of the images of a source or record set: a value, and what makes it from both.

Of each image some numbers are kept, never its pixels; the few that are to be shown are read again.
Images stand in the order of their keys, so that a source and the records made from it are alike.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import threadpoolctl

from records.builder import shard_writer
from records.common import errors, worker_pool
from records.common.byte_strings import Strings, text
from records.image import near_duplicates
from records.image import statistics as looks
from records.inspect import leaks

_BATCH_BYTES = 8 << 20  # of pixels that are measured together: 64 MiB as float64


class GatheringError(errors.DatapipeError, RuntimeError):
    """There is no image that could be measured, or one cannot be read a second time."""


@dataclasses.dataclass(frozen=True)
class Headers:
    """What image files say of themselves.

    Attributes:
        size: int64 [n, 2], width and height of the upright picture or of its box, in pixels.
        kind: int64 [n], position in `kinds`.
        kinds: format and mode of the stored pixels, such as `("PNG", "RGBA")`.
    """

    size: np.ndarray
    kind: np.ndarray
    kinds: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What is known of the images, in columns of equal length, and of the files left out.

    Attributes:
        origin: `records` or `source`.
        path: of the record set or source.
        keys: of the images, in rising order.
        columns: split, label, group, digests.
        domain: int [n], position in `domains`.
        looks: float64 [n, 3], see `looks.measure`.
        prints: uint8 [n, F], see `near_duplicates.fingerprints`.
        headers: None of a record set, which does not know its files.
        class_names: in label order.
        split_names: in order; empty where nothing is split.
        given_splits: whether the source says the split of each image, or said it to the build.
        only_split: the one split that was taken of several; empty where all were.
        domains: names.
        image_size: height and width of the measured pixels.
        rejects: files that are left out, each with its reason; none of `only_split`, as their
            splits are not known.
        notes: what was done to images, with how many; likewise.
        warnings: what looks unintended, a sentence each.
        pixels: gives the pixels of a row, uint8 [size, size, 3].
    """

    origin: str
    path: str
    keys: Strings
    columns: leaks.Columns
    domain: np.ndarray
    looks: np.ndarray
    prints: np.ndarray
    headers: Headers | None
    class_names: tuple[str, ...]
    split_names: tuple[str, ...]
    given_splits: bool
    only_split: str
    domains: tuple[str, ...]
    image_size: int
    rejects: tuple[shard_writer.Reject, ...]
    notes: Mapping[str, int]
    warnings: tuple[str, ...]
    pixels: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, row: int) -> str:
        """Returns the key of a row as text."""
        return text(self.keys[row])

    def class_of(self, row: int) -> str:
        """Returns the name of the class of a row."""
        return self.class_names[self.columns.label[row]]

    def split_of(self, row: int) -> str:
        """Returns the name of the split of a row, empty where nothing is split."""
        return self.split_names[self.columns.split[row]] if self.split_names else ""

    def counts(self) -> dict[str, np.ndarray]:
        """Returns the images of each class, int64 [classes], by split; of all as `all`."""
        num_classes = len(self.class_names)
        if not self.split_names:
            return {"all": np.bincount(self.columns.label, minlength=num_classes)}
        return {
            name: np.bincount(self.columns.label[self.columns.split == at], minlength=num_classes)
            for at, name in enumerate(self.split_names)
        }


def batch_size(image_size: int, most: int) -> int:
    """Returns how many images a worker measures together, at least 1 and at most `most`."""
    return max(1, min(most, _BATCH_BYTES // (image_size**2 * 3)))


def measure(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns looks and fingerprints of images, uint8 [n, size, size, 3], in a worker process."""
    with threadpoolctl.threadpool_limits(1, "blas"):  # each core has its worker already
        return looks.measure(images), near_duplicates.fingerprints(images)


def in_order(results: Iterator[tuple[int, worker_pool.Result]]) -> list[worker_pool.Result]:
    """Returns what a crew yields, in the order of its items."""
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def by_key(keys: Strings) -> tuple[Strings, np.ndarray]:
    """Returns the keys in rising order, and at which row each stood."""
    values = list(keys)
    order = sorted(range(len(values)), key=values.__getitem__)
    return Strings.of(values[at] for at in order), np.array(order)
