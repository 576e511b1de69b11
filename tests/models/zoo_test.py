"""One check for every model, and the parameter counts that papers and reports state."""

import numpy as np
import pytest

from models import lenet, runtime, zoo
from records.backend import keras, tf


@pytest.fixture(params=runtime.PRECISIONS)
def precision(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_model(name, precision, tmp_path):
    model = zoo.MODELS[name](5, (32, 32, 3))
    images = tf.random.stateless_uniform([3, 32, 32, 3], [0, 1])
    logits = model(images, training=False)
    assert logits.shape == (3, 5) and logits.dtype == tf.float32
    assert model.layers[-1].name == "logits"
    assert {variable.dtype for variable in model.trainable_variables} == {tf.float32}
    inner = model.layers[-2].output
    assert inner.dtype == {"float32": tf.float32, "mixed_float16": tf.float16}.get(
        precision, tf.bfloat16
    )
    model.save_weights(tmp_path / "w.weights.h5")
    again = zoo.MODELS[name](5, (32, 32, 3))
    again.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(again(images, training=False), logits)


@pytest.mark.parametrize(
    ("name", "size", "outputs", "parameters"),
    [
        ("lenet", 150, 1, 1_212_513),
        ("lenet", 64, 1, 176_225),
        ("convnet", 64, 2, 489_834),
    ],
)
def test_parameter_counts(name, size, outputs, parameters):
    assert zoo.MODELS[name](outputs, (size, size, 3)).count_params() == parameters


def test_lenet_is_the_table_of_its_docstring():
    kinds = [type(layer).__name__ for layer in lenet.build(2, (64, 64, 3)).layers]
    assert kinds == [*["Conv2D", "MaxPooling2D"] * 3, "Flatten", "Dense", "Dropout", "Dense"]
