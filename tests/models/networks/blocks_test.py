"""The layers of our own, against plain arithmetic, and what stands in a head."""

import subprocess
import sys

import numpy as np
import pytest

from models.networks import blocks
from records.common.backend import keras, tf
from tests import fakes


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_caffe_input_is_keras_own_preprocessing(policy):
    rgb = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    wanted = keras.applications.vgg16.preprocess_input(rgb.copy())
    keras.mixed_precision.set_global_policy(policy)
    try:
        found = blocks.CaffeInput()(rgb)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_min_pooling_keeps_the_smallest_value():
    images = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(blocks.MinPooling2D()(images)[0, :, :, 0], [[0, 2], [8, 10]])


def test_our_layers_come_back_from_a_file(tmp_path):
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), blocks.CaffeInput(), blocks.MinPooling2D(name="least")]
    )
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert [type(layer) for layer in again.layers] == [blocks.CaffeInput, blocks.MinPooling2D]
    images = np.random.default_rng(1).uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(images), model(images))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("gap", "head_pool head_dropout logits"),
        ("flatten", "head_flatten head_dropout logits"),
        (
            "deep",
            "head_flatten head_dense1 head_dropout1 head_dense2 head_dropout2 head_dense3"
            " head_dropout3 head_dense4 head_dropout logits",
        ),
    ],
)
def test_heads(kind, names):
    features = keras.Input((1, 1, 2))
    model = keras.Model(features, blocks.head(features, 5, kind=kind, dropout=0.25))
    assert [layer.name for layer in model.layers[1:]] == names.split()
    rates = {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates == {0.25} and model.output_shape == (None, 5)


# Normalizes rows 0..7 in training, shared by one or two replicas; prints output and statistics.
SHARED = """
import sys
from records.common.backend import tf
count = int(sys.argv[1])
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count)
from models.networks import blocks
strategy = tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(count)])
with strategy.scope():
    layer = blocks.batch_norm("norm")
    layer.build((None, 1, 1, 1))
assert layer.fused == (count == 1)
rows = tf.reshape(tf.range(8.0), [count, -1, 1, 1, 1])
shares = strategy.experimental_distribute_values_from_function(
    lambda context: rows[context.replica_id_in_sync_group])
run = tf.function(lambda share: strategy.run(lambda part: layer(part, training=True), (share,)))
found = tf.concat(strategy.experimental_local_results(run(shares)), 0)
print(*found.numpy().ravel(), layer.moving_mean.numpy()[0], layer.moving_variance.numpy()[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_normalization_has_the_statistics_of_all_replicas(replicas):
    done = subprocess.run(
        [sys.executable, "-c", SHARED, str(replicas)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(fakes.ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *found, mean, variance = map(float, done.stdout.split())
    np.testing.assert_allclose(found, (np.arange(8) - 3.5) / np.sqrt(5.25 + 1e-3), rtol=1e-5)
    assert mean == pytest.approx(0.1 * 3.5) and variance == pytest.approx(0.9 + 0.1 * 5.25)
