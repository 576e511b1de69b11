"""Ours against that of `tf_keras.applications`, and what is trained of it."""

import numpy as np
import pytest

from models.networks import transfer, vgg
from records.common.backend import keras, tf

applications = keras.applications


@pytest.mark.parametrize(
    ("build", "application"), [(vgg.vgg16, applications.VGG16), (vgg.vgg19, applications.VGG19)]
)
def test_features_are_those_of_the_application(build, application):
    model = build(2, (32, 32, 3))
    theirs = application(include_top=False, weights=None, input_shape=(32, 32, 3))
    theirs.set_weights([variable.numpy() for variable in transfer.base_variables(model)])
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    ours = keras.Model(model.input, transfer.head_layers(model)[0].input)
    wanted = theirs(applications.vgg16.preprocess_input(images.copy()))
    assert np.ptp(wanted) > 0
    np.testing.assert_allclose(ours(images), wanted, rtol=1e-4, atol=1e-5)


def test_frozen_it_trains_50178_numbers():
    with tf.Graph().as_default():
        model = vgg.vgg16(2, (224, 224, 3))
    transfer.freeze(model)
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == 50_178
