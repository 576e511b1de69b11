"""Batches of arrays in memory, by NumPy and OpenCV, each written as well as we can.

Which rows stand in which batch, and how each image is moved, is known before the clock starts; ours
finds that out while it runs. What threads fill lies in memory that is used again.
"""

import collections
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np

_BATCHES_AHEAD = 2  # as many as keep all threads at work while the reader looks at a batch


def optional(name: str) -> ModuleType | None:
    """Returns a module that need not be installed, or None."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def copied(pixels: np.ndarray, batch_size: int, num_threads: int) -> Iterator[np.ndarray]:
    """Copies consecutive batches: the bound for any system that moves pixels.

    Args:
        pixels: uint8 [rows, size, size, 3].
        batch_size: at most as many as there are rows.
        num_threads: each copies an equal part of the batch.

    Yields:
        uint8 [batch_size, size, size, 3], in memory that is used again.
    """
    num_batches = len(pixels) // batch_size

    def copy(step: int, batch: np.ndarray, part: slice) -> None:
        start = step % num_batches * batch_size
        np.copyto(batch[part], pixels[start + part.start : start + part.stop])

    return _batches(copy, pixels[:batch_size], num_threads, itertools.count())


def taken(pixels: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
    """Yields `numpy.take` of shuffled rows, each batch a new array.

    Args:
        pixels: uint8 [rows, size, size, 3].
        order: int64 [steps, batch], begun again at its end.
    """
    for rows in itertools.cycle(order):
        yield np.take(pixels, rows, axis=0)


def taken_by_threads(
    pixels: np.ndarray, order: np.ndarray, num_threads: int
) -> Iterator[np.ndarray]:
    """Yields the same, each thread taking an equal part: the bound for shuffled rows.

    Args:
        pixels: uint8 [rows, size, size, 3].
        order: int64 [steps, batch], begun again at its end.
        num_threads: that take.

    Yields:
        uint8 [batch, size, size, 3], in memory that is used again.
    """

    def take(step: int, batch: np.ndarray, part: slice) -> None:
        # With mode "raise" NumPy would take into memory of its own and copy that to `out`.
        np.take(pixels, order[step % len(order), part], axis=0, out=batch[part], mode="clip")

    return _batches(take, pixels[: order.shape[1]], num_threads, itertools.count())


def warped_by_cv2(
    pixels: np.ndarray, order: np.ndarray, maps: np.ndarray, num_threads: int
) -> Iterator[np.ndarray]:
    """Yields images moved by OpenCV, straight from their rows, and scaled to 0..1 by NumPy.

    Args:
        pixels: uint8 [rows, size, size, 3].
        order: int64 [steps, batch], begun again at its end.
        maps: float32 [steps, batch, 6], as from `warp.matrices`.
        num_threads: each makes an equal part of the batch.

    Yields:
        float32 [batch, size, size, 3], in memory that is used again.
    """
    cv2 = _cv2()
    size = pixels.shape[1:3]
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    scale = np.float32(1 / 255)
    affine = maps.reshape(*maps.shape[:2], 2, 3)

    def warp(step: int, batch: np.ndarray, part: slice) -> None:
        moved = np.empty(batch[part].shape, np.uint8)
        at = step % len(order)
        for row, matrix, out in zip(order[at, part], affine[at, part], moved, strict=True):
            cv2.warpAffine(pixels[row], matrix, size, out, how, cv2.BORDER_REPLICATE)
        np.multiply(moved, scale, out=batch[part])

    like = np.empty((order.shape[1], *pixels.shape[1:]), np.float32)
    return _batches(warp, like, num_threads, itertools.count())


def decoded_by_cv2(
    files: Sequence[bytes], image_size: int, batch_size: int, num_threads: int
) -> Iterator[np.ndarray]:
    """Yields the batches of one pass over JPEG files that lie in memory, decoded by OpenCV.

    Args:
        files: the bytes of each.
        image_size: height and width of all, in pixels.
        batch_size: images in a batch; what does not fill the last one is left out.
        num_threads: each decodes an equal part of the batch.

    Yields:
        uint8 [batch_size, image_size, image_size, 3], in memory that is used again.
    """
    cv2 = _cv2()
    bytes_of = [np.frombuffer(data, np.uint8) for data in files]

    def decode(step: int, batch: np.ndarray, part: slice) -> None:
        start = step * batch_size
        for at in range(part.start, part.stop):
            batch[at] = cv2.imdecode(bytes_of[start + at], cv2.IMREAD_COLOR_RGB)

    like = np.empty((batch_size, image_size, image_size, 3), np.uint8)
    return _batches(decode, like, num_threads, range(len(files) // batch_size))


def _cv2() -> ModuleType:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(0)  # the threads are ours; those of OpenCV would come on top
    return cv2


def _batches(
    work: Callable[[int, np.ndarray, slice], Any],
    like: np.ndarray,
    num_threads: int,
    steps: Iterable[int],
) -> Iterator[np.ndarray]:
    """Yields a batch for each step, filled in equal parts by so many threads.

    Args:
        work: fills a part of the batch of a step.
        like: an array of the shape and dtype of a batch.
        num_threads: 1 is this thread, without a pool and its handing over.
        steps: their numbers, each one more than the one before.
    """
    if num_threads > 1:
        yield from _by_threads(work, like, num_threads, steps)
    else:
        batch = np.empty_like(like)
        for step in steps:
            work(step, batch, slice(0, len(like)))
            yield batch


def _by_threads(
    work: Callable[[int, np.ndarray, slice], Any],
    like: np.ndarray,
    num_threads: int,
    steps: Iterable[int],
) -> Iterator[np.ndarray]:
    ends = [len(like) * part // num_threads for part in range(num_threads + 1)]
    parts = [slice(*both) for both in itertools.pairwise(ends)]
    batches = [np.empty_like(like) for _ in range(_BATCHES_AHEAD + 1)]
    begun: collections.deque[tuple[np.ndarray, list[Future]]] = collections.deque()

    def finished() -> np.ndarray:
        batch, jobs = begun.popleft()
        for job in jobs:
            job.result()
        return batch

    with ThreadPoolExecutor(num_threads) as pool:
        for step in steps:
            batch = batches[step % len(batches)]
            begun.append((batch, [pool.submit(work, step, batch, part) for part in parts]))
            if len(begun) > _BATCHES_AHEAD:
                yield finished()
        while begun:
            yield finished()
