"""One affine warp for rotation, shift, shear, zoom and flips, bilinear, compiled by XLA.

The coordinates are whole numbers with a binary point. Floating coordinates need a floor and a
conversion for each pixel, which XLA guards against NaN and overflow: 1.16 times the time on two
cores. The difference to floating point is below 0.01 of 255. What remains is mostly the four
gathers of neighbouring pixels.

Tried and slower under XLA (images/s of the warp alone; this one 101,000): pixels packed in 32 bits
23,000, gathers of 8 neighbouring bytes 23,000, of 2x2 pixels 45,000, the batch converted to float32
first 57,000.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from datapipe.augment.augmentation import Augmentation, signed
from datapipe.augment.options import AugmentOptions
from records.common.backend import tf

# Sizes of the picture that a coordinate may lie from its corner; with the highest ranges it is 3.7.
_MAX_DISTANCE = 4


class Moves(NamedTuple):
    """How each image is moved, float32 [n] each: angles in radians, shifts in pixels."""

    angle: tf.Tensor
    shift_y: tf.Tensor
    shift_x: tf.Tensor
    shear: tf.Tensor
    zoom_y: tf.Tensor
    zoom_x: tf.Tensor
    mirror_x: tf.Tensor  # -1 or 1
    mirror_y: tf.Tensor


class Warp(Augmentation[Moves]):
    """Rotation, shift, shear, zoom and flips, as one affine map."""

    kind, use, title = "warp", "augment", "moving pixels"

    def sample(
        self, options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int
    ) -> Moves:
        """Takes columns 0 to 5 for what has a range and 6 for both flips; strength 0 stops them."""
        signs = (u[:, :6] * 2 - 1) * tf.reshape(tf.cast(strength, tf.float32), [-1, 1])
        flips = tf.cast(strength, tf.float32) > 0
        return Moves(
            angle=signs[:, 0] * (options.rotation_range * np.pi / 180),
            # Keras 2.21 swaps the axes of its matrix: there `height_shift_range` moves sideways.
            # Here each moves the way it is named; the matrices are otherwise those of Keras.
            shift_y=signs[:, 1] * (options.height_shift_range * size),
            shift_x=signs[:, 2] * (options.width_shift_range * size),
            shear=signs[:, 3] * (options.shear_range * np.pi / 180),
            zoom_y=1 + signs[:, 4] * options.zoom_range,
            zoom_x=1 + signs[:, 5] * options.zoom_range,
            mirror_x=_mirror(u[:, 6], options.horizontal_flip, flips),
            mirror_y=_mirror(u[:, 6] * 2 % 1, options.vertical_flip, flips),
        )

    def apply(self, options: AugmentOptions, images: tf.Tensor, values: Moves) -> tf.Tensor:
        """Returns the stored images moved by their maps."""
        maps = matrices(values, images.shape[1])
        return apply(images, maps, fill_mode=options.fill_mode, cval=options.cval)

    def describe(self, options: AugmentOptions, values: Moves, size: int) -> Iterator[str]:
        """Yields what moved; shifts in percent of the picture."""
        if options.rotation_range:
            yield f"rotation {signed(np.degrees(values.angle))}°"
        if options.width_shift_range or options.height_shift_range:
            x, y = (signed(shift * 100 / size) for shift in (values.shift_x, values.shift_y))
            yield f"shift x {x} y {y} %"
        if options.shear_range:
            yield f"shear {signed(np.degrees(values.shear), 1)}°"
        if options.zoom_range:
            yield f"zoom x {values.zoom_x:.2f} y {values.zoom_y:.2f}"
        if values.mirror_x < 0:
            yield "mirrored"
        if values.mirror_y < 0:
            yield "upside down"


WARP = Warp()


def matrices(moves: Moves, size: int) -> tf.Tensor:
    """Returns for each image the affine map from output to input pixel coordinates.

    Rotation, shift, shear and zoom are composed in the order and with the signs of Keras'
    `apply_affine_transform`, about the centre of the image; flips come after, as in
    `ImageDataGenerator.apply_transform`. With (x, y) coordinates about the centre, the map is
    rotation(angle) . shift . shear . zoom . mirror.

    Args:
        size: height and width, in pixels.

    Returns:
        float32 [n, 6]: (a, b, c, d, e, f) with x_in = a x + b y + c and y_in = d x + e y + f.
    """
    cos, sin = tf.cos(moves.angle), tf.sin(moves.angle)
    scale_x, scale_y = moves.zoom_x * moves.mirror_x, moves.zoom_y * moves.mirror_y
    # rotation . shear = [[cos, -sin], [sin, cos]] . [[1, -sin(shear)], [0, cos(shear)]]
    sin_shear, cos_shear = tf.sin(moves.shear), tf.cos(moves.shear)
    a, b = cos * scale_x, (-cos * sin_shear - sin * cos_shear) * scale_y
    d, e = sin * scale_x, (-sin * sin_shear + cos * cos_shear) * scale_y
    middle = (size - 1) / 2
    c = middle - (a + b) * middle + cos * moves.shift_x - sin * moves.shift_y
    f = middle - (d + e) * middle + sin * moves.shift_x + cos * moves.shift_y
    return tf.stack([a, b, c, d, e, f], axis=1)


def apply(images: tf.Tensor, maps: tf.Tensor, *, fill_mode: str, cval: float = 0.0) -> tf.Tensor:
    """Returns the images moved by their maps, bilinear, in 0..1.

    Outside the picture: `nearest` repeats the edge, `reflect` mirrors about the edge (abc|cba),
    `constant` is `cval` wherever the coordinate leaves 0..size-1; as in `scipy.ndimage`, which
    Keras uses.

    Args:
        images: uint8 [n, size, size, 3].
        maps: float32 [n, 6], as from `matrices`; no coordinate may lie more than 4 sizes away.
        fill_mode: `nearest`, `constant` or `reflect`.
        cval: 0 to 255.

    Returns:
        float32 [n, size, size, 3].
    """
    size = images.shape[1]
    bits = 30 - math.ceil(math.log2(_MAX_DISTANCE * size))  # after the point; no sum reaches 2^31
    x, y = _coordinates(maps, size, bits)
    last = (size - 1) << bits
    outside = (x < 0) | (x > last) | (y < 0) | (y > last)
    if fill_mode == "reflect":
        x, y = _reflect(x, size, bits), _reflect(y, size, bits)
    left, x_part = _parts(x, size, bits)
    top, y_part = _parts(y, size, bits)
    pixels = tf.reshape(images, [-1, size * size, 3])
    at = top * size + left
    right, down = (1, size) if size > 1 else (0, 0)
    # Each gather once: XLA does not see that two of them are equal.
    here, beside, below, across = (
        tf.cast(tf.gather(pixels, at + offset, batch_dims=1), tf.float32)
        for offset in (0, right, down, down + right)
    )
    upper, lower = here + (beside - here) * x_part, below + (across - below) * x_part
    result = (upper + (lower - upper) * y_part) * (1 / 255)
    if fill_mode == "constant":
        result = tf.where(outside[..., None], cval / 255, result)
    return result


def visible(maps: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the share of each picture's own pixels that its map still shows; float32 [n].

    A pixel counts where the map reads within half a pixel of it, so a picture that is only turned
    by a quarter shows all of itself, and one that is shrunk does too.

    Args:
        maps: float32 [n, 6].
        size: height and width, in pixels.
    """
    a, b, c, d, e, f = (maps[:, i, None, None] for i in range(6))
    line = tf.range(size, dtype=tf.float32)
    x, y = line[None, None, :], line[None, :, None]
    # Where each pixel of the picture comes to stand: the inverse of the map.
    over = 1 / (a * e - b * d)
    to_x, to_y = (e * (x - c) - b * (y - f)) * over, (a * (y - f) - d * (x - c)) * over
    inside = (to_x >= -0.5) & (to_x <= size - 0.5) & (to_y >= -0.5) & (to_y <= size - 0.5)
    return tf.reduce_mean(tf.cast(inside, tf.float32), axis=[1, 2])


def _coordinates(maps: tf.Tensor, size: int, bits: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns x and y where each output pixel reads, int32 [n, size, size] with `bits` binary."""
    line = np.arange(size, dtype=np.int32)
    whole = tf.cast(tf.round(maps * float(1 << bits)), tf.int32)
    a, b, c, d, e, f = (whole[:, i, None, None] for i in range(6))
    across, downwards = line[None, None, :], line[None, :, None]
    return a * across + (b * downwards + c), d * across + (e * downwards + f)


def _parts(at: tf.Tensor, size: int, bits: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the pixel before each coordinate, and how far on to the next it lies, in 0..1."""
    at = tf.clip_by_value(at, 0, (size - 1) << bits)
    # The last pixel is reached with a part of 1, so every neighbour exists.
    before = tf.minimum(tf.bitwise.right_shift(at, bits), max(size - 2, 0))
    part = tf.cast(at - tf.bitwise.left_shift(before, bits), tf.float32) * (1 / (1 << bits))
    return before, part[..., None]


def _mirror(u: tf.Tensor, wanted: bool, possible: tf.Tensor) -> tf.Tensor:
    return tf.where((u < 0.5) & possible, -1.0, 1.0) if wanted else tf.ones_like(u)


def _reflect(at: tf.Tensor, size: int, bits: int) -> tf.Tensor:
    """Folds a coordinate into -0.5..size-0.5, mirroring about both ends."""
    half, length = 1 << (bits - 1), size << bits
    folded = tf.math.floormod(at + half, 2 * length)
    return length - tf.abs(folded - length) - half
