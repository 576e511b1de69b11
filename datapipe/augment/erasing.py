"""Random erasing: a box of an image is filled with one value (Zhong et al. 2020, arXiv:1708.04896).

The paper draws area and aspect until the box fits. Here an aspect that does not fit is moved to the
nearest that does, so the area is always as drawn and nothing is drawn twice.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from datapipe.augment.augmentation import Augmentation, box_share
from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

_ASPECT = 1 / 0.3  # height over width lies in 0.3..1/0.3, as in the paper


class Boxes(NamedTuple):
    """The box of each image; zeros where nothing is erased.

    float32 [n, 4]: top, left, bottom, right in whole pixels, the last two not inside.
    """

    box: tf.Tensor


class Erasing(Augmentation[Boxes]):
    """A box of the image in one value, always wholly inside the picture."""

    kind, use, title = "erasing", "erasing", "erasing"

    def sample(
        self, options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int
    ) -> Boxes:
        """Takes columns 0 for whether, 1 for area, 2 for aspect, 3 for top and 4 for left.

        Height and width are whole pixels: the height is rounded, then the width so that the area is
        as near as can be to the one drawn, within half a line of pixels. A box whose aspect would
        not fit into the picture gets the full side and keeps its area. The strength is a factor on
        the probability, which stops at 1.
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
        return Boxes(tf.where(erased[:, None], found, 0.0))

    def apply(self, options: AugmentOptions, images: tf.Tensor, values: Boxes) -> tf.Tensor:
        """Returns the images with their boxes filled."""
        value = tf.cast(options.erasing_value / 255, images.dtype)
        return tf.where(inside(values.box, images.shape[1]), value, images)

    def describe(self, options: AugmentOptions, values: Boxes, size: int) -> Iterator[str]:
        """Yields the share of the picture that is gone, if any is."""
        if share := box_share(values.box, size):
            yield f"erased {share * 100:.0f} %"


ERASING = Erasing()


def inside(boxes: tf.Tensor, size: int) -> tf.Tensor:
    """Returns which pixels lie in the boxes; bool [n, size, size, 1]."""
    line = np.arange(size, dtype=np.float32)
    top, left, bottom, right = (boxes[:, i, None] for i in range(4))
    rows, columns = (line >= top) & (line < bottom), (line >= left) & (line < right)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
