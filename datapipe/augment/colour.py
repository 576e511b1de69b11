"""Random colours: brightness, contrast, saturation, hue and channel shifts as one affine map.

On RGB in 0..1 each of them is a 3x3 matrix, some with an offset. So an image needs one map and the
batch one pass, and only the result is clipped. In YIQ, saturation scales the plane of chroma and
hue turns it, about the axis of the greys; both together are

    s cos(h) identity + (1 - s cos(h)) luma + s sin(h) quarter turn

with three fixed matrices. They leave luma and greys alone. DALI (`nvidia.dali.fn.hsv`) and
TensorFlow Addons (`tfa.image.adjust_hsv_in_yiq`) do the same in the place of HSV, which needs
branches for each pixel; the angle is not quite that of HSV.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from datapipe.augment.augmentation import Augmentation, signed
from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

# RGB to YIQ as the FCC has it (47 CFR 73.682, 1953); luma is that of Rec. 601. The lines of I and Q
# sum to 0, so a grey has no chroma.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_IDENTITY = np.eye(3, dtype=np.float32)
_LUMA = np.tile(_YIQ[0], (3, 1)).astype(np.float32)
_QUARTER = (np.linalg.inv(_YIQ) @ [[0, 0, 0], [0, 0, -1], [0, 1, 0]] @ _YIQ).astype(np.float32)


class Colours(NamedTuple):
    """How the colours of each image change: factors, radians and shares of 255, float32."""

    brightness: tf.Tensor  # [n], as the next three
    contrast: tf.Tensor
    saturation: tf.Tensor
    hue: tf.Tensor
    shift: tf.Tensor  # [n, 3]: red, green and blue


class Colour(Augmentation[Colours]):
    """Brightness, contrast, saturation, hue and channel shifts, as one affine map of RGB."""

    kind, use, title = "colour", "colour", "colour changes"

    def sample(
        self, options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int
    ) -> Colours:
        """Takes columns 0 to 2 for the shifts and 3 to 6 for the rest, in the order of their names.

        With strength s a factor f becomes 1 + (f - 1) s.
        """
        return Colours(
            brightness=_factor(options.brightness_range, u[:, 3], strength),
            contrast=_factor(options.contrast_range, u[:, 4], strength),
            saturation=_factor(options.saturation_range, u[:, 5], strength),
            hue=(u[:, 6] * 2 - 1) * strength * (options.hue_range * np.pi / 180),
            shift=(u[:, :3] * 2 - 1) * strength[:, None] * (options.channel_shift_range / 255),
        )

    def apply(self, options: AugmentOptions, images: tf.Tensor, values: Colours) -> tf.Tensor:
        """Returns the images with their colours mapped, clipped to 0..1."""
        return apply(images, *maps(values))

    def describe(self, options: AugmentOptions, values: Colours, size: int) -> Iterator[str]:
        """Yields the factors, the hue in degrees and the shifts of red, green and blue of 255."""
        for name in ("brightness", "contrast", "saturation"):
            if getattr(options, f"{name}_range") is not None:
                yield f"{name} {getattr(values, name):.2f}"
        if options.hue_range:
            yield f"hue {signed(np.degrees(values.hue))}°"
        if options.channel_shift_range:
            yield "channels " + " ".join(signed(shift * 255) for shift in values.shift)


COLOUR = Colour()


def maps(values: Colours) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the colour map of each image.

    Brightness comes before contrast and the shifts last; saturation and hue may stand anywhere,
    since they leave greys alone. Contrast is about mid-grey, 0.5: about the mean of the picture, as
    others have it, it would need a pass over the picture before the map is known.

    Returns:
        float32 [n, 3, 3] and float32 [n, 3]: out = matrix in + offset, RGB in 0..1.
    """
    along = (values.saturation * tf.cos(values.hue))[:, None, None]
    across = (values.saturation * tf.sin(values.hue))[:, None, None]
    chroma = along * _IDENTITY + (1 - along) * _LUMA + across * _QUARTER
    matrix = (values.brightness * values.contrast)[:, None, None] * chroma
    return matrix, (0.5 - 0.5 * values.contrast)[:, None] + values.shift


def apply(images: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Returns the images with their colours mapped, clipped to 0..1.

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
