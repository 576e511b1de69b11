"""Ours against those of `tf_keras.applications`: same layers, same features of the same weights."""

import numpy as np
import pytest

from models.networks import applications as pretrained
from models.networks import transfer
from records.common.backend import keras, tf

applications = keras.applications
SHAPE = (32, 32, 3)


def imagenet_statistics(model):
    """Puts into Keras' normalization what its two layers together do with weights of ImageNet."""
    deviations = np.array([0.229, 0.224, 0.225])
    numbers = [np.array([0.485, 0.456, 0.406]), deviations**2, np.array(0)]
    model.get_layer(index=2).set_weights(numbers)
    return model


CASES = [
    ("resnet50", applications.ResNet50, applications.resnet50.preprocess_input, (0, 255)),
    ("efficientnet", applications.EfficientNetB0, lambda images: images, (0, 255)),
    ("mobilenet", applications.MobileNetV2, lambda images: images, (-1, 1)),
]


def normalized_for(model, images):
    """Makes a batch's statistics those of a model, which lets next to nothing through before."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)


@pytest.fixture
def double():
    # Fifty normalizations of four images make percents of the last bits of float32.
    keras.mixed_precision.set_global_policy("float64")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "application", "preprocess", "limits"), CASES)
def test_features_are_those_of_the_application(name, application, preprocess, limits, double):
    model = getattr(pretrained, name)(2, SHAPE)
    images = np.random.default_rng(0).uniform(*limits, (4, *SHAPE)).astype(np.float32)
    normalized_for(model, images)
    theirs = application(include_top=False, weights=None, input_shape=SHAPE)
    if name == "efficientnet":
        imagenet_statistics(theirs)
    for layer in transfer.base_layers(model):
        if layer.weights:
            theirs.get_layer(layer.name).set_weights(layer.get_weights())
    wanted = theirs(preprocess(images.copy()), training=False)
    ours = keras.Model(model.input, transfer.head_layers(model)[0].input)
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(ours(images, training=False), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_whole_residuals_are_dropped_at_the_paper_s_rates():
    model = pretrained.efficientnet(2, SHAPE, dropout=0.3)
    dropping = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    *within, last = dropping
    assert {layer.noise_shape for layer in within} == {(None, 1, 1, 1)}
    rates = [layer.rate for layer in within]
    assert rates == sorted(rates) and 0 < rates[0] < rates[-1] < 0.2
    assert (last.name, last.rate, last.noise_shape) == ("head_dropout", 0.3, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "application"),
    [(pretrained.vgg16, applications.VGG16), (pretrained.vgg19, applications.VGG19)],
)
def test_features_of_vgg_are_those_of_the_application(build, application):
    model = build(2, (32, 32, 3))
    theirs = application(include_top=False, weights=None, input_shape=(32, 32, 3))
    theirs.set_weights([variable.numpy() for variable in transfer.base_variables(model)])
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    ours = keras.Model(model.input, transfer.head_layers(model)[0].input)
    wanted = theirs(applications.vgg16.preprocess_input(images.copy()))
    assert np.ptp(wanted) > 0
    np.testing.assert_allclose(ours(images), wanted, rtol=1e-4, atol=1e-5)


def test_frozen_vgg16_trains_50178_numbers():
    with tf.Graph().as_default():
        model = pretrained.vgg16(2, (224, 224, 3))
    transfer.freeze(model)
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == 50_178
