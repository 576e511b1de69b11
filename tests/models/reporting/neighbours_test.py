"""Neighbours by features that are known, and padding that is nobody's neighbour."""

import numpy as np

from models.reporting import neighbours
from records.common.backend import keras, tf


def model():
    """Features are the mean of each colour; the logits are the same."""
    inputs = keras.Input((4, 4, 3))
    means = keras.layers.GlobalAveragePooling2D()(inputs)
    logits = keras.layers.Dense(3, kernel_initializer="identity", name="logits")(means)
    return keras.Model(inputs, logits)


def batches(colours, size):
    images = np.broadcast_to(np.float32(colours)[:, None, None], (len(colours), 4, 4, 3))
    for start in range(0, len(images), size):
        part = images[start : start + size]
        short = size - len(part)
        yield {
            "image": tf.constant(np.concatenate([part, part[-1:].repeat(short, 0)])),
            "row": tf.constant(np.r_[np.arange(start, start + len(part)), [start] * short]),
            "weight": tf.constant(np.r_[np.ones(len(part)), np.zeros(short)]),
        }


COLOURS = [[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0, 1], [2, 0, 0]]


def test_the_nearest_images_come_first():
    seen = neighbours.embed(model(), batches(COLOURS, 2))
    assert seen.rows.tolist() == [0, 1, 2, 3, 4]
    assert seen.predicted.tolist() == [0, 1, 0, 2, 0]
    np.testing.assert_allclose(np.linalg.norm(seen.features, axis=1), 1, rtol=1e-6)
    found = neighbours.nearest(neighbours.select(seen, [2, 3]), seen, 3)
    assert [each.row for each in found[0]] == [2, 0, 4]  # 0 and 4 are as near: by row
    assert found[0][0].similarity > 0.999 > found[0][1].similarity
    assert found[1][0].row == 3 and found[1][1].similarity == 0


def test_the_size_of_a_batch_makes_no_difference():
    whole, cut = (neighbours.embed(model(), batches(COLOURS, size)) for size in (5, 3))
    np.testing.assert_array_equal(whole.rows, cut.rows)
    np.testing.assert_allclose(whole.features, cut.features)


def test_there_may_be_fewer_than_wanted_and_black_has_no_direction():
    seen = neighbours.embed(model(), batches([[0, 0, 0], [1, 1, 0]], 2))
    found = neighbours.nearest(neighbours.select(seen, [0]), seen, 9)
    assert [each.similarity for each in found[0]] == [0, 0]


def test_only_as_many_batches_are_seen_as_hold_the_rows():
    assert len(list(neighbours.take(batches(COLOURS, 2), 3, 2))) == 2
    assert len(list(neighbours.take(batches(COLOURS, 2), 99, 2))) == 3
