import numpy as np
import pytest

from models.networks import dropout
from records.common.backend import keras, tf


def dropped(layer, first, rows, shape=(5, 3), seed=7, dtype=tf.float32):
    with dropout.keyed(seed, tf.constant(first, tf.int64)):
        return layer(tf.ones([rows, *shape], dtype), training=True).numpy()


def test_a_row_keeps_its_mask_whatever_batch_it_comes_in():
    layer = dropout.Dropout(0.4)
    whole = dropped(layer, 16, 8)
    np.testing.assert_array_equal(whole[:4], dropped(layer, 16, 4))
    np.testing.assert_array_equal(whole[4:], dropped(layer, 20, 4))
    assert set(np.unique(whole)) == {0, np.float32(1 / 0.6)}


@pytest.mark.parametrize("change", ["first", "seed", "number"])
def test_masks_differ_by(change):
    layer, other = dropout.Dropout(0.5), dropout.Dropout(0.5)
    other.number = 1 if change == "number" else 0
    one = dropped(layer, 0, 64)
    two = dropped(other, 64 if change == "first" else 0, 64, seed=8 if change == "seed" else 7)
    assert 0.4 < (one == two).mean() < 0.6


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate(rate):
    values = dropped(dropout.Dropout(rate), 0, 1000, (40,))
    assert abs((values == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / values.size)
    assert abs(values.mean() - 1) < 0.05
    per_unit = (values == 0).mean(0)  # neighbours, and places far apart, are independent
    assert np.abs(per_unit - rate).max() < 6 * np.sqrt(rate * (1 - rate) / 1000)
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.03


def test_whole_maps_can_be_dropped_together():
    layer = dropout.Dropout(0.5, noise_shape=(None, 1, 1, 1))
    values = dropped(layer, 0, 64, (4, 4, 2))
    assert {len(np.unique(row)) for row in values} == {1}
    assert 0.2 < (values[:, 0, 0, 0] == 0).mean() < 0.8


def test_half_precision_stays_so():
    layer = dropout.Dropout(0.5, dtype="mixed_float16")
    assert dropped(layer, 0, 4, dtype=tf.float16).dtype == np.float16


def test_without_a_place_it_is_that_of_keras_and_without_training_nothing():
    layer = dropout.Dropout(0.5)
    assert 0 < (layer(tf.ones([100, 10]), training=True).numpy() == 0).mean() < 1
    with dropout.keyed(0, tf.constant(0, tf.int64)):
        np.testing.assert_array_equal(layer(tf.ones([4, 4]), training=False), np.ones([4, 4]))


def test_layers_are_numbered_and_those_of_keras_refused():
    layers = [keras.Input((4,)), dropout.Dropout(0.1), dropout.Dropout(0.2)]
    model = keras.Sequential(layers, name="two")
    dropout.number_layers(model)
    dropout.check(model)
    assert [layer.number for layer in model.layers] == [0, 1]
    model.add(keras.layers.GaussianNoise(0.1, name="noise"))
    with pytest.raises(ValueError, match=r"'noise' of model 'two' is Keras' GaussianNoise"):
        dropout.check(model)
