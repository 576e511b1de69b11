"""Random erasing: a box of an image is filled with one value (Zhong et al. 2020, arXiv:1708.04896).

The paper draws area and aspect until the box fits. Here an aspect that does not fit is moved to the
nearest that does, so the area is always as drawn and nothing is drawn twice.

Columns of the uniform numbers: 0 whether, 1 area, 2 aspect, 3 top, 4 left; 5 to 7 are free.
"""

import math

import numpy as np

from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

_ASPECT = 1 / 0.3  # height over width lies in 0.3..1/0.3, as in the paper


def boxes(options: AugmentOptions, u: tf.Tensor, size: int, strength: tf.Tensor) -> tf.Tensor:
    """Returns for each image the box to erase, always wholly inside the picture.

    Height and width are whole pixels: the height is rounded, then the width so that the area is as
    near as can be to the one drawn, within half a line of pixels. A box whose aspect would reach
    over the picture gets the full side and keeps its area.

    Args:
        options: probability and area.
        u: float32 [n, 8], uniform in [0, 1).
        size: height and width of the images, in pixels.
        strength: float32 [n], factor on the probability, which stops at 1.

    Returns:
        float32 [n, 4]: top, left, bottom, right in whole pixels, the last two not inside; zeros
        where nothing is erased.
    """
    low, high = options.erasing_area
    area = low + u[:, 1] * (high - low)
    aspect = tf.exp((u[:, 2] * 2 - 1) * math.log(_ASPECT))
    # height = sqrt(area aspect) and width = sqrt(area / aspect) are at most 1.
    aspect = tf.clip_by_value(aspect, area, 1 / tf.maximum(area, 1e-6))
    height = tf.maximum(tf.round(tf.sqrt(area * aspect) * size), 1.0)
    width = tf.minimum(tf.round(area * (size * size) / height), size)
    top = tf.floor(u[:, 3] * (size - height + 1))
    left = tf.floor(u[:, 4] * (size - width + 1))
    found = tf.stack([top, left, top + height, left + width], axis=1)
    erased = u[:, 0] < options.erasing_probability * strength
    return tf.where(erased[:, None], found, 0.0)


def apply(images: tf.Tensor, boxes: tf.Tensor, value: float) -> tf.Tensor:
    """Returns the images with their boxes filled.

    Args:
        images: float [n, height, width, channels] in 0..1.
        boxes: float32 [n, 4], as from `boxes`.
        value: 0 to 255.
    """
    return tf.where(inside(boxes, images.shape[1]), tf.cast(value / 255, images.dtype), images)


def inside(boxes: tf.Tensor, size: int) -> tf.Tensor:
    """Returns which pixels lie in the boxes; bool [n, size, size, 1]."""
    line = np.arange(size, dtype=np.float32)
    top, left, bottom, right = (boxes[:, i, None] for i in range(4))
    rows, columns = (line >= top) & (line < bottom), (line >= left) & (line < right)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
