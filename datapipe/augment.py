"""Random changes of training images: one affine warp, then brightness. Stateless.

Every random number is a function of (seed, position): one table of uniforms with a line for each
position of the stream, of which a batch reads its lines. Thread, worker and replica play no part.
"""

from collections.abc import Callable

import numpy as np

from datapipe import sampling
from datapipe.options import AugmentOptions
from records.backend import tf

_UNIFORMS = 8  # numbers for each position; a multiple of 4, which is what one Philox block gives
_PHILOX = 1  # tf.random.Algorithm.PHILOX


def uniforms(seed: int, positions: tf.Tensor) -> tf.Tensor:
    """Returns the lines of the table of uniform numbers that belong to consecutive positions.

    Args:
        seed: of the table.
        positions: int64 [n], each one more than the one before.

    Returns:
        float32 [n, 8] in [0, 1); the line of a position does not depend on n.
    """
    # Philox is a counter-based generator (Salmon et al. 2011, doi:10.1145/2063384.2063405): block
    # number i gives 4 numbers, so the line of position p begins at block 2 p.
    first = tf.cast(positions[0] * (_UNIFORMS // 4), tf.uint64)
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=[tf.shape(positions)[0], _UNIFORMS],
        key=tf.constant([seed], tf.uint64),
        counter=tf.stack([first, tf.constant(0, tf.uint64)]),
        alg=_PHILOX,
    )


def matrices(options: AugmentOptions, size: int, u: tf.Tensor) -> tf.Tensor:
    """Returns for each image the affine map from output to input pixel coordinates.

    Rotation, shift, shear and zoom are composed in the order and with the signs of Keras'
    `apply_affine_transform`, about the centre of the image; flips come after, as in
    `ImageDataGenerator.apply_transform`.

    Args:
        options: the ranges.
        size: height and width, in pixels.
        u: float32 [n, 8], uniform in [0, 1).

    Returns:
        float32 [n, 6]: (a, b, c, d, e, f) with x_in = a x + b y + c and y_in = d x + e y + f.
    """
    signed = u * 2 - 1
    angle = signed[:, 0] * (options.rotation_range * np.pi / 180)
    shift_y = signed[:, 1] * (options.height_shift_range * size)
    shift_x = signed[:, 2] * (options.width_shift_range * size)
    shear = signed[:, 3] * (options.shear_range * np.pi / 180)
    zoom_y, zoom_x = 1 + signed[:, 4] * options.zoom_range, 1 + signed[:, 5] * options.zoom_range
    return compose(
        angle=angle,
        shift_y=shift_y,
        shift_x=shift_x,
        shear=shear,
        zoom_y=zoom_y,
        zoom_x=zoom_x,
        mirror_x=_mirror(u[:, 6], options.horizontal_flip),
        mirror_y=_mirror(u[:, 6] * 2 % 1, options.vertical_flip),
        size=size,
    )


def compose(
    *,
    angle: tf.Tensor,
    shift_y: tf.Tensor,
    shift_x: tf.Tensor,
    shear: tf.Tensor,
    zoom_y: tf.Tensor,
    zoom_x: tf.Tensor,
    mirror_x: tf.Tensor,
    mirror_y: tf.Tensor,
    size: int,
) -> tf.Tensor:
    """Returns the maps of `matrices` from the values of each image, float32 [n] each.

    With (x, y) coordinates about the centre, the map is
    rotation(angle) . shift . shear . zoom . mirror; angles in radians, shifts in pixels, mirrors
    -1 or 1.
    """
    cos, sin = tf.cos(angle), tf.sin(angle)
    scale_x, scale_y = zoom_x * mirror_x, zoom_y * mirror_y
    # rotation . shear = [[cos, -sin], [sin, cos]] . [[1, -sin(shear)], [0, cos(shear)]]
    a, b = cos * scale_x, (-cos * tf.sin(shear) - sin * tf.cos(shear)) * scale_y
    d, e = sin * scale_x, (-sin * tf.sin(shear) + cos * tf.cos(shear)) * scale_y
    middle = (size - 1) / 2
    c = middle - (a + b) * middle + cos * shift_x - sin * shift_y
    f = middle - (d + e) * middle + sin * shift_x + cos * shift_y
    return tf.stack([a, b, c, d, e, f], axis=1)


def warp(images: tf.Tensor, maps: tf.Tensor, *, fill_mode: str, cval: float = 0.0) -> tf.Tensor:
    """Returns the images moved by their maps, bilinear, in 0..1.

    Four gathers of neighbouring pixels that XLA fuses into one loop; the stock op
    `ImageProjectiveTransformV3` took five times as long on two cores. Outside the picture:
    `nearest` repeats the edge, `reflect` mirrors about the edge (abc|cba), `constant` is `cval`
    wherever the coordinate leaves 0..size-1; as in `scipy.ndimage`, which Keras uses.

    Args:
        images: uint8 [n, size, size, 3].
        maps: float32 [n, 6], as from `matrices`.
        fill_mode: `nearest`, `constant` or `reflect`.
        cval: 0 to 255.

    Returns:
        float32 [n, size, size, 3].
    """
    size = images.shape[1]
    line = np.arange(size, dtype=np.float32)
    a, b, c, d, e, f = (maps[:, i, None, None] for i in range(6))
    x = a * line[None, None, :] + b * line[None, :, None] + c
    y = d * line[None, None, :] + e * line[None, :, None] + f
    inside = (x >= 0) & (x <= size - 1) & (y >= 0) & (y <= size - 1)
    if fill_mode == "reflect":
        x, y = _reflect(x, size), _reflect(y, size)
    x, y = tf.clip_by_value(x, 0.0, size - 1.0), tf.clip_by_value(y, 0.0, size - 1.0)
    # The last column and row are reached with a fraction of 1, so every neighbour exists.
    left = tf.minimum(tf.floor(x), max(size - 2.0, 0.0))
    top = tf.minimum(tf.floor(y), max(size - 2.0, 0.0))
    x_part, y_part = (x - left)[..., None], (y - top)[..., None]
    image = tf.range(tf.shape(images)[0])[:, None, None] * (size * size)
    at = image + tf.cast(top, tf.int32) * size + tf.cast(left, tf.int32)
    pixels = tf.reshape(images, [-1, 3])
    right, down = (1, size) if size > 1 else (0, 0)

    def neighbour(offset: int) -> tf.Tensor:
        return tf.cast(tf.gather(pixels, at + offset), tf.float32)

    upper = neighbour(0) + (neighbour(right) - neighbour(0)) * x_part
    lower = neighbour(down) + (neighbour(down + right) - neighbour(down)) * x_part
    result = (upper + (lower - upper) * y_part) * (1 / 255)
    if fill_mode == "constant":
        result = tf.where(inside[..., None], result, cval / 255)
    return result


def train(options: AugmentOptions, seed: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the function that makes training images of stored ones.

    It takes uint8 [n, size, size, 3] and the int64 [n] consecutive positions of the stream where
    they stand, and gives float32 [n, size, size, 3] in 0..1.
    """
    table = sampling.derive_seed(seed, "augment")

    @tf.function(jit_compile=True)
    def changed(images: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        if options.warps:
            maps = matrices(options, images.shape[1], u)
            out = warp(images, maps, fill_mode=options.fill_mode, cval=options.cval)
        else:
            out = scale(images)
        if options.brightness_range:
            low, high = options.brightness_range
            factor = low + u[:, 7, None, None, None] * (high - low)
            out = tf.minimum(out * factor, 1.0)
        return out

    if options == AugmentOptions():
        return lambda images, positions: scale(images)
    return lambda images, positions: changed(images, uniforms(table, positions))


def scale(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 images as float32 in 0..1."""
    return tf.cast(images, tf.float32) * (1 / 255)


def _mirror(u: tf.Tensor, wanted: bool) -> tf.Tensor:
    return tf.where(u < 0.5, -1.0, 1.0) if wanted else tf.ones_like(u)


def _reflect(at: tf.Tensor, size: int) -> tf.Tensor:
    """Folds a coordinate into -0.5..size-0.5, mirroring about both ends."""
    folded = tf.math.floormod(at + 0.5, 2.0 * size)
    return size - tf.abs(folded - size) - 0.5
