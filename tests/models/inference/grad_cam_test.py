"""The heat lies where a model must look."""

import numpy as np
import pytest

from models.inference import grad_cam
from models.networks import zoo
from records.common.backend import keras, tf

layers = keras.layers
SIZE = 32
# Rows and columns of a red and a blue square: neither lies on the diagonal, so that no axis can be
# taken for the other.
RED, BLUE = (slice(4, 12), slice(20, 28)), (slice(20, 28), slice(8, 16))


def scene():
    image = np.full((1, SIZE, SIZE, 3), 0.1, np.float32)
    image[0][(*RED, 0)] = 1
    image[0][(*BLUE, 2)] = 1
    return tf.constant(image)


@pytest.fixture(scope="module")
def seer():
    """Class 0 counts red pixels and class 1 blue ones, and each speaks against the other."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(2, 4, strides=4, activation="relu", name="colours")(inputs)
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(layers.MaxPooling2D()(x)))
    model = keras.Model(inputs, layers.Dense(2, name="logits")(x))
    kernel = np.zeros((4, 4, 3, 2), np.float32)
    kernel[:, :, 0, 0] = kernel[:, :, 2, 1] = 1 / 16
    model.get_layer("colours").set_weights([kernel, np.full(2, -0.2, np.float32)])
    model.get_layer("logits").set_weights([np.array([[1, -1], [-1, 1]], np.float32), np.zeros(2)])
    return grad_cam.GradCam(model)


@pytest.mark.parametrize(("label", "place", "other"), [(0, RED, BLUE), (1, BLUE, RED)])
def test_each_class_is_seen_at_its_own_place(seer, label, place, other):
    heat = seer.heat(scene(), np.array([label]))[0]
    assert seer.layer.name == "colours" and heat.shape == seer.cells == (8, 8)
    pixels = heat.repeat(4, 0).repeat(4, 1)
    assert (pixels[place] == 1).all()
    assert pixels.sum() == pytest.approx(64)  # nothing elsewhere
    assert not pixels[other].any()


def test_every_image_of_a_batch_has_its_own_class(seer):
    both = tf.repeat(scene(), 2, 0)
    together = seer.heat(both, np.array([1, 0]))
    alone = [seer.heat(scene(), np.array([label]))[0] for label in (1, 0)]
    np.testing.assert_array_equal(together, alone)


def test_nothing_that_speaks_for_a_class_is_no_heat(seer):
    assert not seer.heat(tf.zeros((1, SIZE, SIZE, 3)), np.array([0])).any()


# The last map of networks of each kind; of most a pooling or dropout follows.
LAYERS = {
    "lenet": ("conv3", (4, 4)),
    "baseline20": ("conv3", (14, 14)),
    "squeezenet": ("fire9/concat", (1, 1)),
    "resnet_bottleneck": ("stage4_block3_out", (2, 2)),
    "mobilenet": ("out_relu", (1, 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_last_map_of_a_network_is_found(name):
    cam = grad_cam.GradCam(zoo.build(name, 3, (SIZE, SIZE, 3)))
    assert (cam.layer.name, cam.cells) == LAYERS[name]
    low, high = (0, 1) if zoo.MODELS[name].input_range == "0..1" else (-1, 255)
    images = tf.random.stateless_uniform((2, SIZE, SIZE, 3), (1, 2), low, high)
    heat = cam.heat(images, np.array([0, 2]))
    assert heat.shape == (2, *cam.cells) and np.isfinite(heat).all()
    assert heat.min() >= 0 and heat.max() <= 1


def test_a_model_without_a_map_is_refused():
    flat = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="has no layer with an output"):
        grad_cam.GradCam(flat)


def test_a_picture_shows_the_image_and_its_heat_beside_it():
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 1
    shown = grad_cam.picture(pixels, heat)
    assert shown.shape == (224, 2 * 224 + 8, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[::7, :224:7], pixels)
    right = shown[:, -224:].astype(int)
    is_grey = (right[..., 0] == right[..., 1]) & (right[..., 1] == right[..., 2])
    assert is_grey[112:].all() and not is_grey[:28, -28:].any()


def test_large_images_are_not_enlarged():
    shown = grad_cam.picture(np.zeros((300, 300, 3), np.uint8), np.zeros((1, 1), np.float32))
    assert shown.shape == (300, 608, 3)
