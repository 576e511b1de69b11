"""That the other ways do the same work as ours."""

import itertools
import threading

import numpy as np
import pytest

from datapipe.augment import warp
from datapipe.benchmark import numpy_baselines as arrays
from datapipe.benchmark import systems
from records.common.backend import tf
from records.image import decode
from tests import fakes

BATCH, SIZE = 6, 16
PIXELS = np.stack([fakes.pixels(seed, SIZE) for seed in range(20)])
ORDER = np.random.default_rng(0).permutation(18).reshape(3, BATCH)


def first(batches, count):
    """Returns copies of the first batches, as their memory may be used again."""
    return [batch.copy() for batch in itertools.islice(batches, count)]


@pytest.mark.parametrize("num_threads", [1, 2, 5, 7])
def test_copies_hold_all_rows_in_order_and_begin_again(num_threads):
    found = first(arrays.copied(PIXELS, BATCH, num_threads), 5)
    for step, batch in enumerate(found):
        start = step % 3 * BATCH
        np.testing.assert_array_equal(batch, PIXELS[start : start + BATCH])


@pytest.mark.parametrize("num_threads", [0, 1, 2, 5])
def test_taken_rows_are_those_of_the_order(num_threads):
    if num_threads:
        batches = arrays.taken_by_threads(PIXELS, ORDER, num_threads)
    else:
        batches = arrays.taken(PIXELS, ORDER)
    for rows in (*ORDER, ORDER[0]):
        np.testing.assert_array_equal(next(batches), PIXELS[rows])


def test_threads_stay_two_batches_ahead_and_no_further():
    begun, may_go_on = [], threading.Event()

    def work(step, batch, part):
        begun.append(step)
        if step == 2:
            may_go_on.wait(10)
        batch[part] = step

    batches = arrays._by_threads(work, np.zeros(4), 2, itertools.count())
    assert next(batches).tolist() == [0] * 4
    may_go_on.set()
    assert max(begun) <= 2
    assert next(batches).tolist() == [1] * 4
    batches.close()
    assert sorted(begun) == sorted([0, 1, 2, 3] * 2)


def test_what_fails_in_a_thread_is_not_lost():
    def work(step, batch, part):
        raise ValueError(f"batch {step}")

    with pytest.raises(ValueError, match="batch 0"):
        next(arrays._by_threads(work, np.zeros(4), 2, range(3)))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_opencv_moves_images_as_ours_does(num_threads):
    pytest.importorskip("cv2")
    uniforms = tf.random.stateless_uniform([ORDER.size, 8], [1, 2])
    maps = warp.matrices(warp.WARP.sample(systems.FEED, uniforms, 1.0, SIZE), SIZE).numpy()
    batches = arrays.warped_by_cv2(PIXELS, ORDER, maps.reshape(3, BATCH, 6), num_threads)
    for step, batch in enumerate(first(batches, 4)):
        at = step % 3
        ours = warp.apply(
            tf.constant(PIXELS[ORDER[at]]), maps[at * BATCH : (at + 1) * BATCH], fill_mode="nearest"
        )
        assert batch.dtype == np.float32
        # OpenCV rounds coordinates to fractions of a pixel and the result to whole shades.
        np.testing.assert_allclose(batch, ours, atol=2.5 / 255)


def test_opencv_decodes_every_file_once():
    pytest.importorskip("cv2")
    files = [decode.encode(picture, "jpeg") for picture in PIXELS]
    found = first(arrays.decoded_by_cv2(files, SIZE, BATCH, 2), 99)
    ours = np.stack([decode.decode(data, "jpeg", SIZE) for data in files])
    assert len(found) == 3  # what does not fill a batch is left out
    np.testing.assert_allclose(np.concatenate(found).astype(int), ours[:18], atol=3)


def test_a_module_that_is_missing_is_none():
    assert arrays.optional("json").dumps([]) == "[]"
    assert arrays.optional("no_such_module_here") is None
