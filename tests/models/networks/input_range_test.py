"""Models that scale their images themselves, from `tf_keras.applications` and hand-made."""

import numpy as np
import pytest

from datapipe.augment import value_range
from models.networks import input_range, zoo
from records.common.backend import keras, tf

layers = keras.layers
applications = keras.applications
SHAPE = (32, 32, 3)


def head(*begin):
    """Returns a small model that begins with some layers."""
    return keras.Sequential([keras.Input(SHAPE), *begin, layers.Conv2D(2, 3), layers.Flatten()])


def application(build, **options):
    return build(weights=None, include_top=False, input_shape=SHAPE, **options)


@pytest.fixture(scope="module")
def efficientnet():
    return application(applications.EfficientNetB0)


@pytest.mark.slow
def test_applications(efficientnet):
    assert input_range.expected(efficientnet) == "0..255"
    small = applications.MobileNetV3Small
    assert input_range.expected(application(small)) == "0..255"
    assert input_range.expected(application(small, include_preprocessing=False)) is None
    assert input_range.expected(application(applications.ResNet50)) is None
    convnext = application(applications.ConvNeXtTiny)  # one Normalization for 0..255
    assert input_range.expected(convnext) == "0..255"


@pytest.mark.slow
def test_models_around_an_application(efficientnet):
    inputs = keras.Input(SHAPE)
    pooled = layers.GlobalAveragePooling2D()(efficientnet(layers.RandomFlip()(inputs)))
    assert input_range.expected(keras.Model(inputs, layers.Dense(2)(pooled))) == "0..255"
    grown = keras.Model(efficientnet.input, layers.Flatten()(efficientnet.output))
    assert input_range.expected(grown) == "0..255"
    assert input_range.expected(keras.Sequential([efficientnet, layers.Flatten()])) == "0..255"
    back = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(255.0), efficientnet])
    assert input_range.expected(back) == "0..1"


def test_an_input_that_two_models_share():
    inputs = keras.Input(SHAPE)
    plain = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    scaling = keras.Model(inputs, layers.Rescaling(1 / 255)(inputs))
    assert input_range.expected(plain) is None
    assert input_range.expected(scaling) == "0..255"


def adapted(low, high):
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(low, high, (8, *SHAPE)).astype(np.float32))
    return layer


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (lambda: [], None),
        (lambda: [layers.Rescaling(1 / 255)], "0..255"),
        (lambda: [layers.Rescaling(1 / 127.5, offset=-1)], "0..255"),
        (lambda: [layers.Rescaling([1 / 58, 1 / 57, 1 / 57], [-2.1, -2.0, -1.8])], "0..255"),
        (lambda: [layers.Rescaling(2.0, offset=-1)], "0..1"),
        (lambda: [layers.Rescaling(255)], "0..1"),
        (lambda: [layers.Rescaling(0.5, offset=0.5)], "-1..1"),
        (lambda: [layers.Rescaling(127.5, offset=127.5)], "-1..1"),
        (lambda: [layers.Rescaling(1.0)], None),
        (lambda: [layers.Rescaling(1.0), layers.Rescaling(1 / 255)], "0..255"),
        (lambda: [adapted(0, 255)], "0..255"),
        (lambda: [adapted(60, 70)], "0..255"),  # hardly shrinks, but 65 becomes 0
        (lambda: [adapted(0, 1)], "0..1"),
        (lambda: [adapted(-1, 0.8)], "-1..1"),
        (lambda: [layers.Normalization(mean=0.5, variance=0.04)], "0..1"),
        (lambda: [layers.Normalization(mean=120.0, variance=3600.0)], "0..255"),
        (lambda: [layers.Normalization()], None),  # knows nothing yet
        (lambda: [layers.Normalization(mean=0.5, variance=0.25, invert=True)], "-1..1"),
        (lambda: [layers.RandomRotation(0.1), layers.Rescaling(1 / 255)], "0..255"),
        (lambda: [keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)])], "0..255"),
        (lambda: [layers.Conv2D(3, 1), layers.Rescaling(1 / 255)], None),
    ],
)
def test_what_layers_at_the_input_say(begin, expected):
    assert input_range.expected(head(*begin())) == expected


def test_a_way_that_cannot_be_followed_says_nothing():
    inputs = keras.Input(SHAPE)
    scaled = layers.Rescaling(1 / 255)(inputs)
    branched = keras.Model(inputs, layers.Concatenate()([inputs, scaled]))
    assert input_range.expected(branched) is None
    doubled = keras.Model(inputs, layers.Add()([inputs, layers.RandomFlip()(inputs)]))
    behind = keras.Sequential([doubled, layers.Rescaling(1 / 255)])
    assert input_range.expected(behind) is None

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.scaling = layers.Rescaling(1 / 255)

        def call(self, images):
            return self.scaling(images)

    own = Own()
    own(tf.zeros([1, *SHAPE]))
    assert input_range.expected(own) is None


def test_a_wrong_range_is_refused_with_layer_and_remedy(efficientnet):
    with pytest.raises(
        ValueError,
        match=r"model 'efficientnetb0' expects images in 0..255, got 0..1: it begins with"
        r" Rescaling 'rescaling\w*', which multiplies by 0.003922 and adds 0; use 0..255, or"
        r" build it without that layer",
    ):
        input_range.check(efficientnet, "0..1")
    input_range.check(efficientnet, "0..255")
    norm = head(layers.Normalization(mean=[90.0, 100, 110], variance=[2500.0, 2500, 2500]))
    with pytest.raises(ValueError, match=r"multiplies by 0.02 and adds \(-1.8, -2, -2.2\)"):
        input_range.check(norm, "-1..1", declared="-1..1")


@pytest.mark.parametrize("given", input_range.RANGES)
def test_a_model_that_says_nothing_takes_everything(given):
    input_range.check(head(), given)


def test_a_declared_range_counts_too():
    model = zoo.build("lenet", 2, SHAPE)
    input_range.check(model, "0..1", declared="0..1")
    with pytest.raises(
        ValueError, match=r"'lenet' is declared to expect images in 0..1, got 0..255"
    ):
        input_range.check(model, "0..255", declared="0..1")


@pytest.mark.parametrize(
    ("given", "declared", "which"), [("0..2", None, "given"), ("0..1", "0..2", "declared")]
)
def test_an_unknown_range_is_refused(given, declared, which):
    with pytest.raises(ValueError, match=f"{which} range must be one of .*, got '0..2'"):
        input_range.check(head(), given, declared)


def test_the_names_are_those_of_the_pipeline():
    assert set(input_range.RANGES) == set(value_range.RANGES)
