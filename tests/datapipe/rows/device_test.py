"""Rows in the memory of a device give the streams and the pixels of those on the host."""

import itertools

import numpy as np
import pytest

from datapipe.plan import sampling
from datapipe.rows import device, host
from records.common.backend import tf
from records.common.targets import Target
from tests import fakes

IMAGES = np.stack([fakes.pixels(seed, 8) for seed in range(12)])
LABELS = np.arange(12) % 2


@pytest.fixture(scope="module")
def on_host():
    return host.ResidentRows(tf.constant(IMAGES), tf.constant(LABELS, tf.int32))


@pytest.fixture(scope="module")
def moved(on_host):
    return device.moved(on_host)


def test_the_rows_are_the_same(moved, on_host):
    assert (len(moved), moved.image_size) == (len(on_host), on_host.image_size) == (12, 8)
    np.testing.assert_array_equal(moved.labels, on_host.labels)


def test_the_host_keeps_one_pixel_of_each_image(moved):
    assert moved.host.images.shape == [12, 1, 1, 3]


@pytest.mark.parametrize("compiled", [False, True])
def test_pixels_are_those_of_the_rows(moved, compiled):
    gather = tf.function(moved.pixels) if compiled else moved.pixels
    row = tf.constant([5, 0, 5, 11], tf.int64)
    np.testing.assert_array_equal(gather({"row": row}), IMAGES[[5, 0, 5, 11]])


def test_streams_are_those_of_the_host_and_carry_no_pixels(moved, on_host):
    plan = sampling.plan(LABELS, ("a", "b"), Target(), seed=3, batch_size=4)
    for made in (lambda rows: rows.batches(plan, start_step=2), lambda rows: rows.in_order(5)):
        both = zip(made(moved), made(on_host), strict=False)
        for mine, other in itertools.islice(both, 4):
            assert "image" not in mine and mine.keys() == other.keys()
            for name, value in mine.items():
                np.testing.assert_array_equal(value, other[name])
