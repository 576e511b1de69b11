"""Class activation heat maps: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391).

The heat is the ReLU of the sum over the channels of the last feature map, each weighted by the mean
gradient of the class's logit. A map has few cells (4x4 for lenet at 32x32), so it shows regions,
not outlines.
"""

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image

from records.common.backend import keras, tf

layers = keras.layers

_MIN_SIDE = 224  # pixels; smaller images are enlarged
_GAP = 8  # pixels between image and heat map
_WHITE = 255
_OPACITY = 0.75  # of the colour at the highest heat
_COLOURS = np.array([(64, 0, 128), (220, 30, 40), (255, 235, 60)], np.float32)  # by rising heat
# Skipped, because the map before them is finer and has the same features.
_SKIPPED_LAYERS = (
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.Dropout,
    layers.SpatialDropout2D,
)


class GradCam:
    """The heat maps of a model, from the feature map of its `layer`."""

    def __init__(self, model: keras.Model):
        """Takes a model that returns logits.

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
        """Returns the evidence of each cell for a class, relative to the strongest cell.

        Args:
            images: float32 [n, size, size, 3] in the model's range.
            classes: int [n], the label to explain for each image.

        Returns:
            float32 [n, height, width] in 0..1; all 0 for an image without evidence.
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
            evidence = tf.nn.relu(tf.reduce_sum(features * weights, 3))
            return tf.math.divide_no_nan(evidence, tf.reduce_max(evidence, [1, 2], keepdims=True))

        return tf.function(heat, autograph=False, reduce_retracing=True)


def feature_layer(model: keras.Model) -> keras.layers.Layer:
    """Returns the layer of the last feature map [n, height, width, channels] of a model.

    Raises:
        ValueError: if there is none.
    """
    for layer in reversed(model.layers):
        is_map = not isinstance(layer, (layers.InputLayer, *_SKIPPED_LAYERS))
        if is_map and len(getattr(layer.output, "shape", ())) == 4:
            return layer
    raise ValueError(f"model {model.name!r} has no layer with an output [n, h, w, channels]")


def picture(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns an image beside its heat map over the image in grey.

    Args:
        pixels: uint8 [size, size, 3].
        heat: float32 [height, width] in 0..1, stretched over the image.

    Returns:
        uint8 [side, 2 side + 8, 3], the image enlarged to a side of at least 224.
    """
    times = -(-_MIN_SIDE // len(pixels))
    left = pixels.repeat(times, 0).repeat(times, 1)
    side = len(left)
    spread = Image.fromarray(heat.astype(np.float32)).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    warmth = np.asarray(spread)[..., None]
    position = warmth * (len(_COLOURS) - 1)
    lower = np.minimum(position.astype(int)[..., 0], len(_COLOURS) - 2)
    fraction = position - lower[..., None]
    colour = _COLOURS[lower] + fraction * (_COLOURS[lower + 1] - _COLOURS[lower])
    grey = np.asarray(Image.fromarray(left).convert("L"), np.float32)[..., None]
    right = grey + _OPACITY * warmth * (colour - grey)
    gap = np.full((side, _GAP, 3), _WHITE, np.uint8)
    return np.concatenate([left, gap, np.rint(right).astype(np.uint8)], axis=1)
