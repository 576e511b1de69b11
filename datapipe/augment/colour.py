"""Random colours: brightness, contrast, saturation, hue and channel shifts as one affine map.

On RGB in 0..1 each of them is a 3x3 matrix, some with an offset. So an image needs one map and the
batch one pass, and only the result is clipped. In YIQ, saturation scales the plane of chroma and
hue turns it, about the axis of the greys; both together are

    s cos(h) identity + (1 - s cos(h)) luma + s sin(h) quarter turn

with three fixed matrices. They leave luma and greys alone. DALI (`nvidia.dali.fn.hsv`) and
TensorFlow Addons (`tfa.image.adjust_hsv_in_yiq`) do the same in the place of HSV, which needs
branches for each pixel; the angle is not quite that of HSV.

Columns of the uniform numbers: 0 to 2 channel shifts of red, green and blue, 3 brightness,
4 contrast, 5 saturation, 6 hue; 7 is free.
"""

import numpy as np

from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

# RGB to YIQ as the FCC has it (47 CFR 73.682, 1953); luma is that of Rec. 601. The lines of I and Q
# sum to 0, so a grey has no chroma.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_IDENTITY = np.eye(3, dtype=np.float32)
_LUMA = np.tile(_YIQ[0], (3, 1)).astype(np.float32)
_QUARTER = (np.linalg.inv(_YIQ) @ [[0, 0, 0], [0, 0, -1], [0, 1, 0]] @ _YIQ).astype(np.float32)


def maps(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the colour map of each image.

    Brightness comes before contrast and the shifts last; saturation and hue may stand anywhere,
    since they leave greys alone. Contrast is about mid-grey, 0.5: about the mean of the picture, as
    others have it, it would need a pass over the picture before the map is known.

    Args:
        options: the ranges.
        u: float32 [n, 8], uniform in [0, 1).
        strength: float32 [n], factor on every range: a factor f becomes 1 + (f - 1) strength.

    Returns:
        float32 [n, 3, 3] and float32 [n, 3]: out = matrix in + offset, RGB in 0..1.
    """
    brightness = _factor(options.brightness_range, u[:, 3], strength)
    contrast = _factor(options.contrast_range, u[:, 4], strength)
    saturation = _factor(options.saturation_range, u[:, 5], strength)
    angle = (u[:, 6] * 2 - 1) * strength * (options.hue_range * np.pi / 180)
    shift = (u[:, :3] * 2 - 1) * strength[:, None] * (options.channel_shift_range / 255)
    along = (saturation * tf.cos(angle))[:, None, None]
    across = (saturation * tf.sin(angle))[:, None, None]
    chroma = along * _IDENTITY + (1 - along) * _LUMA + across * _QUARTER
    matrix = (brightness * contrast)[:, None, None] * chroma
    return matrix, (0.5 - 0.5 * contrast)[:, None] + shift


def apply(images: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns the images with their colours mapped, clipped to 0..1.

    Compile what makes the images apart from this: XLA would compute them again for each of the
    three channels that a pixel needs (warp and colour in one loop took 81 us of CPU an image of
    64x64, in two 33).

    Args:
        images: float [n, height, width, 3], RGB in 0..1.
        matrix: float32 [n, 3, 3], as from `maps`.
        offset: float32 [n, 3].
    """
    matrix = tf.cast(matrix, images.dtype)[:, None, None]
    out = tf.cast(offset, images.dtype)[:, None, None]
    # Written out: `tf.matmul` took 25 us an image where this takes 10.
    for channel in range(3):
        out += images[..., channel : channel + 1] * matrix[..., channel]
    return tf.clip_by_value(out, 0, 1)


def _factor(limits: tuple[float, float] | None, u: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Returns factors between the limits; exactly 1 in the middle of limits about 1."""
    low, high = limits or (1.0, 1.0)
    return 1 + ((1 - u) * (low - 1) + u * (high - 1)) * strength
