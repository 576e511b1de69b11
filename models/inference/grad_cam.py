"""Where a network looks: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391).

The heat of a place is how much its features speak for a class: the last feature map, each channel
weighted by the mean slope of the class's logit over it, summed, what is below 0 taken for 0. A map
has few cells (4x4 of lenet at 32x32), so it shows the region and not the outline.
"""

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image

from records.common.backend import keras, tf

layers = keras.layers

_LEAST_SIDE = 224  # pixels of a picture, to be seen; smaller ones are enlarged
_GAP = 8  # pixels between picture and heat map
_WHITE = 255
_COVER = 0.75  # of the picture where the heat is highest
_COLOURS = np.array([(64, 0, 128), (220, 30, 40), (255, 235, 60)], np.float32)  # by rising heat
# What only thins out or passes on the map before it.
_PASSING = (layers.MaxPooling2D, layers.AveragePooling2D, layers.Dropout, layers.SpatialDropout2D)


class GradCam:
    """The heat maps of a model.

    Attributes:
        layer: the layer whose output is looked at.
    """

    def __init__(self, model: keras.Model):
        """Takes a model from images to logits.

        Raises:
            ValueError: if it has no feature map.
        """
        self.layer = feature_layer(model)
        self._inner = keras.Model(model.inputs, [self.layer.output, model.output])

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the maps."""
        return tuple(self.layer.output.shape[1:3])

    def heat(self, images: tf.Tensor, classes: np.ndarray) -> np.ndarray:
        """Returns how much each cell speaks for a class, relative to the cell that does most.

        Args:
            images: float32 [n, size, size, 3] in the model's range.
            classes: int [n], the number of the class for each image.

        Returns:
            float32 [n, height, width] in 0..1; all 0 where nothing speaks for the class.
        """
        return self._heat(images, tf.convert_to_tensor(classes, tf.int32)).numpy()

    @functools.cached_property
    def _heat(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        def heat(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(images)
                features, logits = self._inner(images, training=False)
                score = tf.gather(logits, classes, batch_dims=1)
            weights = tf.reduce_mean(tape.gradient(score, features), [1, 2], keepdims=True)
            found = tf.nn.relu(tf.reduce_sum(features * weights, 3))
            return tf.math.divide_no_nan(found, tf.reduce_max(found, [1, 2], keepdims=True))

        return tf.function(heat, autograph=False, reduce_retracing=True)


def feature_layer(model: keras.Model) -> keras.layers.Layer:
    """Returns the layer that gives the last feature map [n, height, width, channels] of a model.

    Poolings and dropout after it are passed over: before them the map is finer.

    Raises:
        ValueError: if there is none.
    """
    for layer in reversed(model.layers):
        is_map = not isinstance(layer, (layers.InputLayer, *_PASSING))
        if is_map and len(getattr(layer.output, "shape", ())) == 4:
            return layer
    raise ValueError(f"model {model.name!r} has no layer that gives a map [n, h, w, c]")


def picture(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns an image, and beside it the image in grey under its heat map.

    Args:
        pixels: uint8 [size, size, 3].
        heat: float32 [height, width] in 0..1, stretched over the image.

    Returns:
        uint8 [side, 2 side + 8, 3], the image enlarged to a side of at least 224.
    """
    times = -(-_LEAST_SIDE // len(pixels))
    left = pixels.repeat(times, 0).repeat(times, 1)
    side = len(left)
    spread = Image.fromarray(heat.astype(np.float32)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    warmth = np.asarray(spread)[..., None]
    place = warmth * (len(_COLOURS) - 1)
    lower = np.minimum(place.astype(int)[..., 0], len(_COLOURS) - 2)
    colour = _COLOURS[lower] + (place - lower[..., None]) * (_COLOURS[lower + 1] - _COLOURS[lower])
    grey = np.asarray(Image.fromarray(left).convert("L"), np.float32)[..., None]
    right = grey + _COVER * warmth * (colour - grey)
    gap = np.full((side, _GAP, 3), _WHITE, np.uint8)
    return np.concatenate([left, gap, np.rint(right).astype(np.uint8)], axis=1)
