"""Images mixed in pairs, with their labels: mixup and cutmix.

Mixup blends two images (Zhang et al. 2018, arXiv:1710.09412), cutmix puts a box of one into the
other (Yun et al. 2019, arXiv:1905.04899). The label is mixed as the pixels are, so nothing is
claimed about a picture in between; interpolation that keeps one label, as SMOTE has it, claims that
the straight line between two pictures of a class shows that class.

Images 2k and 2k + 1 are partners of each other. They stand side by side in a random permutation, so
the pair is random already, and it is the same for any number of replicas, which take even slices.

Shares and boxes follow from the random numbers alone, so labels and weights can be made on the host
and pixels on a device.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from datapipe.augment import erasing
from datapipe.augment.augmentation import Augmentation, box_share
from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

_CELLS = 4096  # of the table of the lower half of a beta distribution
_STEPS = 1 << 16  # of its integration


class Shares(NamedTuple):
    """How much of each image, and of its label, is its own.

    With cutmix the share is what the box, cut at the border of the picture, leaves of the image,
    exactly; with mixup the box is zeros.
    """

    share: tf.Tensor  # float32 [n]
    box: tf.Tensor  # float32 [n, 4] in whole pixels, the partner's: top, left, bottom, right


class Mixing(Augmentation[Shares]):
    """Mixup and cutmix, each image with the one beside it. It does not follow the strength."""

    kind, use, title = "mixing", "mixing", "mixing"

    def sample(
        self, options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int
    ) -> Shares:
        """Takes columns 0 for the share, 1 and 2 for the centre of the box, 3 for which of the two.

        Raises:
            ValueError: if n is not even.
        """
        _check_even(u)
        blended = tf.ones_like(u[:, 0])
        if options.mixup_alpha > 0:
            blended = beta(options.mixup_alpha, u[:, 0])
        if not options.cutmix_alpha > 0:
            return Shares(blended, tf.zeros_like(u[:, :4]))
        box = _boxes(beta(options.cutmix_alpha, u[:, 0]), u, size)
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        left_over = (size * size - area) / (size * size)
        cut = u[:, 3] < 0.5 if options.mixup_alpha > 0 else tf.ones_like(u[:, 3], tf.bool)
        return Shares(tf.where(cut, left_over, blended), tf.where(cut[:, None], box, 0.0))

    def apply(self, options: AugmentOptions, images: tf.Tensor, values: Shares) -> tf.Tensor:
        """Returns the images mixed with their partners."""
        return mixed_images(images, *values)

    def describe(self, options: AugmentOptions, values: Shares, size: int) -> Iterator[str]:
        """Yields the name of the mixing and the image's own share, where it is not whole."""
        if cut := box_share(values.box, size):
            yield f"cutmix, own {1 - cut:.2f}"
        elif values.share < 1:
            yield f"mixup, own {values.share:.2f}"

    def targets(
        self, labels: tf.Tensor, weights: tf.Tensor, values: Shares, num_classes: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns labels, float32 [n, classes], and weights mixed as the pixels are."""
        mixed = mixed_labels(labels, weights, num_classes, values.share)
        return mixed, mixed_weights(weights, values.share)


MIXING = Mixing()


def mixed_images(images: tf.Tensor, share: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Returns the images mixed with their partners.

    An image with a box takes the pixels of its partner there; one without is blended.

    Args:
        images: float [n, size, size, channels].
        share: float32 [n], as of `Shares`.
        boxes: float32 [n, 4], as of `Shares`.

    Raises:
        ValueError: if n is not even.
    """
    other = _partners(images)
    blended = tf.where(boxes[:, 2] > boxes[:, 0], 1.0, share)
    own = tf.cast(blended, images.dtype)[:, None, None, None]
    mixed = images * own + other * (1 - own)
    return tf.where(erasing.inside(boxes, images.shape[1]), other, mixed)


def mixed_labels(
    labels: tf.Tensor, weights: tf.Tensor, num_classes: int, share: tf.Tensor
) -> tf.Tensor:
    """Returns the distribution over the classes; float32 [n, classes], rows sum to 1.

    Times the mixed weight it gives each class its share of the image times its own weight: so what
    a class has in the loss is as without mixing.

    Args:
        labels: int32 [n].
        weights: float32 [n], before they are mixed.
        num_classes: columns of the result.
        share: float32 [n], as of `Shares`.

    Raises:
        ValueError: if n is not even.
    """
    plain = tf.one_hot(labels, num_classes)
    weighed = _mixed(plain * weights[:, None], share[:, None])
    total = tf.reduce_sum(weighed, axis=1, keepdims=True)
    # Rows of weight 0 need a distribution too.
    return tf.where(total > 0, tf.math.divide_no_nan(weighed, total), _mixed(plain, share[:, None]))


def mixed_weights(weights: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Returns the weights of the images mixed as their labels are; float32 [n].

    Raises:
        ValueError: if n is not even.
    """
    return _mixed(weights, share)


def beta(alpha: float, u: tf.Tensor) -> tf.Tensor:
    """Returns Beta(alpha, alpha) of uniform numbers, by its inverse distribution function.

    The function is a table with linear interpolation, exact at its knots; so no probability is off
    by more than one cell of it, 1/8192.

    Args:
        alpha: above 0.
        u: float32 [n], uniform in [0, 1).
    """
    table = tf.constant(_lower_half(alpha))
    at = tf.minimum(u, 1 - u) * (2 * _CELLS)
    cell = tf.minimum(tf.floor(at), _CELLS - 1)
    low, high = (tf.gather(table, tf.cast(cell, tf.int32) + end) for end in (0, 1))
    lower = low + (high - low) * (at - cell)
    return tf.where(u < 0.5, lower, 1 - lower)


@functools.cache
def _lower_half(alpha: float) -> np.ndarray:
    """Returns where Beta(alpha, alpha) reaches probabilities 0 to 1/2, evenly spaced.

    float32 [_CELLS + 1]. The density is x^(alpha-1) (1-x)^(alpha-1), which for alpha < 1 is
    infinite at 0. Over s with x = s^(1/alpha) / 2 it is (1-x)^(alpha-1), which is smooth.
    """
    s = np.linspace(0, 1, _STEPS + 1)
    x = s ** (1 / min(alpha, 1)) / 2
    # Times 2 x at most 1: powers of large alpha then vanish instead of growing.
    density = (2 * (1 - x) * (s if alpha > 1 else 1)) ** (alpha - 1)
    reached = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    knots = np.linspace(0, reached[-1], _CELLS + 1)
    return np.interp(knots, reached, x).astype(np.float32)


def _boxes(share: tf.Tensor, u: tf.Tensor, size: int) -> tf.Tensor:
    """Returns boxes of area 1 - share about a uniform centre, cut at the border; float32 [n, 4]."""
    side = tf.round(tf.sqrt(1 - share) * size)[:, None]
    start = tf.floor(u[:, 1:3] * size) - tf.floor(side / 2)
    return tf.clip_by_value(tf.concat([start, start + side], axis=1), 0, size)


def _mixed(values: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    return values * own + _partners(values) * (1 - own)


def _partners(values: tf.Tensor) -> tf.Tensor:
    """Returns the values with 2k and 2k + 1 changed over, along the first axis."""
    _check_even(values)
    pairs = tf.reshape(values, [-1, 2, *values.shape[1:]])
    return tf.reshape(tf.reverse(pairs, axis=[1]), tf.shape(values))


def _check_even(values: tf.Tensor) -> None:
    n = values.shape[0]
    if n is None or n % 2:
        raise ValueError(f"mixing pairs images, so a slice of the batch must be even, got {n}")
