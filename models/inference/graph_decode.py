"""Image files decoded to pixels by TensorFlow operations, for a model used without our code.

A reimplementation of `preprocess.pixels` (Pillow, libjpeg) that can be saved in a graph: libjpeg's
scaled decoding, EXIF rotation, transparency on white, and Pillow's fixed-point resizing. The usual
`tf.io.decode_image` and `tf.image.resize(antialias=True)` give different pixels: on average by 2.0
of 255 for photos of faces, 81 for drawings (whose transparency becomes black), 48 for images stored
rotated; `tf.image.resize` alone by .05 to .17 on average and at most 16.

Pixels are bit-identical to ours for all JPEG and PNG files among 5,317 samples from three sets of
photos and drawings, stretched, cropped and padded to 64x64, through JPEG records, and to 224x224;
among them EXIF-rotated, progressive, greyscale, palette, alpha and 16-bit files. 5 WebP files were
rejected. Of 926 unusual and broken files 668 are identical, and both reject 93.

- Two differ: CMYK JPEG by .3 on average, and a rotation stored only in XMP is ignored. So is one
  stored only in a PNG's text chunk `Raw profile type exif`, or in an EXIF tag of fractions.
- 160 that we read are rejected: TIFF, WebP and PPM, which TensorFlow cannot read; BMP with palettes
  or masks and GIF with a transparent colour, whose colours it silently gets wrong; and a few with
  faults that Pillow tolerates. 3 that we reject are read. Memory is not limited.
"""

from collections.abc import Callable, Sequence

import numpy as np
import PIL

from models.inference.preprocess import Recipe
from records.common.backend import tf

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
_QUALITY = 95  # of JPEG records, as in `decode.encode`
_SCALES = (8, 4, 2)  # libjpeg can decode at 1/8, 1/4 and 1/2
_WHITE = 255
_ORIENTATION = 0x0112  # the EXIF tag
_MAX_TAGS = 1000
_EXIF = b"Exif\0\0"  # prefix of a JPEG segment
_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0")  # the last two are invalid but accepted
_RADIUS = 2.0  # of the bicubic filter, in pixels of the smaller image
_FRACTION_BITS = 22  # of its fixed-point weights
# Since version 13 Pillow resizes columns first if that saves work, and takes the first of equal
# EXIF tags; earlier versions took the last.
_PILLOW_13 = int(PIL.__version__.split(".")[0]) >= 13


def decoder(recipe: Recipe) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from encoded images, string [n], to uint8 [n, size, size, 3], RGB."""
    size = recipe.policy.size

    def decode(data: tf.Tensor) -> tf.Tensor:
        stored, orientation = _stored(data, size)
        image = _fitted(stored, orientation, size, recipe.policy.resize)
        if recipe.encoding == "jpeg":
            lossy = tf.io.encode_jpeg(image, "rgb", _QUALITY, chroma_downsampling=False)
            image = _jpeg(lossy, 1)
        return tf.ensure_shape(image, [size, size, 3])

    spec = tf.TensorSpec([size, size, 3], tf.uint8)
    return lambda files: tf.map_fn(decode, files, fn_output_signature=spec)


def _stored(data: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns an image as stored, uint8 [h, w, 3], and its EXIF orientation, 1 to 8."""
    is_kind = [tf.strings.substr(data, 0, len(each)) == each for each in _SIGNATURES]
    known = tf.debugging.Assert(
        tf.reduce_any(is_kind), ["an image must be encoded as JPEG, PNG, GIF or BMP"]
    )
    with tf.control_dependencies([known]):
        kind = tf.argmax(tf.stack(is_kind), output_type=tf.int32)
    return tf.switch_case(
        kind,
        [
            lambda: (_scaled_jpeg(data, size), _orientation(_exif_of_jpeg(data))),
            lambda: _from_png(data),
            lambda: (_gif(data), tf.constant(1)),
            lambda: (_bmp(data), tf.constant(1)),
        ],
    )


def _scaled_jpeg(data: tf.Tensor, size: int) -> tf.Tensor:
    """Returns a JPEG at the smallest of libjpeg's scales that is at least `size`."""
    scale = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2]) // size
    branch = tf.reduce_sum(tf.cast(scale < tf.constant(_SCALES), tf.int32))
    branches = [lambda scale=scale: _jpeg(data, scale) for scale in (*_SCALES, 1)]
    return tf.switch_case(branch, branches)


def _jpeg(data: tf.Tensor, scale: int) -> tf.Tensor:
    return tf.io.decode_jpeg(data, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE")


def _from_png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    exif, transparent = tf.unstack(_chunks(data, (b"eXIf", b"tRNS")))
    return _png(data, transparent), _orientation(_without_prefix(exif))


def _png(data: tf.Tensor, transparent: tf.Tensor) -> tf.Tensor:
    """Returns the image on white; `transparent` is the tRNS chunk, empty without one."""
    depth, kind = tf.unstack(_bytes(data, 24, 2))
    # For images of less than 8 bits TensorFlow 2.21 returns a wrong alpha with 4 channels, and
    # ignores a transparent grey with its own choice of channels.
    is_shallow = depth < 8
    decoded = tf.cond(
        is_shallow, lambda: tf.io.decode_png(data), lambda: tf.io.decode_png(data, channels=4)
    )
    image = tf.cast(decoded, tf.int32)
    low = _bytes(tf.strings.join([transparent, b"\0\0"]), 1, 1)[0]
    grey = low * (255 // (tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1)) % 256
    is_grey = is_shallow & (kind == 0) & (tf.strings.length(transparent) >= 2)
    is_clear = is_grey & (image[..., :1] == grey)
    has_alpha = tf.shape(image)[2] % 2 == 0
    alpha = tf.cond(has_alpha, lambda: image[..., -1:], lambda: tf.where(is_clear, 0, 255))
    mixed = _rgb(image) * alpha + _WHITE * (255 - alpha) + 128
    return tf.cast((mixed + mixed // 256) // 256, tf.uint8)  # divided by 255, rounded


def _chunks(data: tf.Tensor, names: Sequence[bytes]) -> tf.Tensor:
    """Returns the contents of the last chunk of each name in a PNG, string, empty if missing."""
    size = tf.strings.length(data)

    def step(offset: tf.Tensor, contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size_field = tf.strings.substr(data, offset, 4)
        length = tf.io.decode_raw(size_field, tf.int32, little_endian=False)[0]
        length = tf.clip_by_value(length, 0, size - offset)
        name = tf.strings.substr(data, offset + 4, 4)
        is_one = name == tf.constant(names)
        content = tf.strings.substr(data, offset + 8, tf.where(tf.reduce_any(is_one), length, 0))
        after = tf.where(name == b"IEND", size, offset + 12 + length)
        return after, tf.where(is_one, content, contents)

    begin = tf.constant(8), tf.constant([b""] * len(names))
    return tf.while_loop(lambda offset, _: offset + 8 <= size, step, begin)[1]


def _gif(data: tf.Tensor) -> tf.Tensor:
    """Returns the first frame; rejects transparency, which TensorFlow would make black."""
    control = tf.concat([tf.strings.split(data, b"\x21\xf9\x04", maxsplit=1), ["\0"]], 0)[1]
    flags = tf.io.decode_raw(tf.strings.substr(control, 0, 1), tf.uint8)[0]
    is_opaque = tf.debugging.Assert(flags % 2 == 0, ["a GIF must have no transparent colour"])
    with tf.control_dependencies([is_opaque]):
        return tf.io.decode_gif(data)[0]


def _bmp(data: tf.Tensor) -> tf.Tensor:
    """Returns the image; rejects palettes and masks, which TensorFlow ignores."""
    layout = tf.strings.substr(data, 28, 6)  # bits per pixel, compression
    is_plain = (layout == b"\x18\0\0\0\0\0") | (layout == b"\x20\0\0\0\0\0")
    plain = tf.debugging.Assert(is_plain, ["a BMP must have 24 or 32 bits per pixel, uncompressed"])
    with tf.control_dependencies([plain]):
        return _rgb(tf.io.decode_bmp(data))


def _rgb(image: tf.Tensor) -> tf.Tensor:
    """Returns the colours of an image of 1 to 4 channels, without alpha (2 and 4 have it)."""
    is_grey = tf.shape(image)[2] < 3
    return tf.cond(is_grey, lambda: tf.repeat(image[..., :1], 3, 2), lambda: image[..., :3])


def _exif_of_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Returns the contents of the EXIF segments before the pixels, string, empty without any."""
    size = tf.strings.length(data)

    def step(offset: tf.Tensor, exif: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, kind, high, low = tf.unstack(_bytes(data, offset, 4))
        length = 256 * high + low
        is_segment = (begin == 0xFF) & (kind != 0xFF)  # else padding, or garbage
        is_bare = (kind == 0) | ((kind >= 0xD0) & (kind <= 0xD9))  # has no length
        after = offset + tf.where(is_segment, 2 + tf.where(is_bare, 0, length), 1)
        content = tf.strings.substr(data, offset + 4, tf.maximum(length - 2, 0))
        is_exif = is_segment & (kind == 0xE1) & (tf.strings.substr(content, 0, 6) == _EXIF)
        more = tf.where(is_exif, _without_prefix(content), b"")
        is_scan = is_segment & (kind == 0xDA)
        return tf.where(is_scan, size, after), tf.strings.join([exif, more])

    begin = tf.constant(2), tf.constant(b"")
    return tf.while_loop(lambda offset, _: offset + 4 <= size, step, begin)[1]


def _without_prefix(block: tf.Tensor) -> tf.Tensor:
    """Returns an EXIF block without its prefix, which some writers repeat."""
    return tf.strings.regex_replace(block, r"^(Exif\x00\x00){1,2}", "", replace_global=False)


def _bytes(data: tf.Tensor, offset: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns `count` bytes as int32 [count]."""
    values = tf.io.decode_raw(tf.strings.substr(data, offset, count), tf.uint8)
    return tf.ensure_shape(tf.cast(values, tf.int32), [count])


def _orientation(block: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in an EXIF block, 1 to 8; 1 if it has none."""
    values = tf.io.decode_raw(tf.strings.join([block, b"\0" * 8]), tf.uint8)
    values = tf.cast(values, tf.int64)
    is_little_endian = values[0] == ord("I")

    def number(offset: tf.Tensor, size: int) -> tf.Tensor:
        offsets = offset[..., None] + tf.range(size, dtype=tf.int64)
        digits = tf.gather(values, tf.minimum(offsets, tf.size(values, tf.int64) - 1))  # 0 beyond
        # A NumPy array: TensorFlow's layout optimizer would take one reversed by an operation for a
        # shape and give up, which changes the last bits of the model.
        powers = np.array([256**power for power in range(size)])
        return tf.reduce_sum(digits * tf.where(is_little_endian, powers, powers[::-1]), -1)

    directory = number(tf.constant(4, tf.int64), 4)
    is_tiff = tf.reduce_any(tf.strings.substr(block, 0, 4) == tf.constant(_TIFF))
    num_tags = tf.where(is_tiff, tf.minimum(number(directory, 2), _MAX_TAGS), 0)
    tags = directory + 2 + 12 * tf.range(num_tags)
    kind, count = number(tags + 2, 2), number(tags + 4, 4)
    is_short, is_long = (kind == 3) | (kind == 8), (kind == 4) | (kind == 9)
    # If the values do not fit into the tag, it holds their offset instead.
    is_here = (is_short & (count <= 2) | is_long & (count == 1)) & (count > 0)
    is_whole = tags + 12 <= tf.size(values, tf.int64) - 8
    values_of_tags = tf.where(is_long, number(tags + 8, 4), number(tags + 8, 2))
    found = tf.boolean_mask(values_of_tags, (number(tags, 2) == _ORIENTATION) & is_here & is_whole)
    chosen = tf.concat([found, [1]], 0)[0] if _PILLOW_13 else tf.concat([[1], found], 0)[-1]
    value = tf.cast(chosen, tf.int32)
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _fitted(stored: tf.Tensor, orientation: tf.Tensor, size: int, resize: str) -> tf.Tensor:
    """Returns the upright image, uint8 [size, size, 3]; see `decode.ImagePolicy`."""
    shape = tf.shape(stored)[:2]
    edges, target = tf.cast(shape, tf.float64), tf.constant([size, size])
    start = tf.zeros(2, tf.float64)
    if resize == "crop":
        start = (edges - tf.reduce_min(edges)) / 2
    elif resize == "pad":
        scaled = tf.round(edges * (size / tf.reduce_max(edges)))
        target = tf.maximum(tf.cast(scaled, tf.int32), 1)
    image = tf.cond(
        tf.reduce_all(shape == target),
        lambda: stored,
        lambda: _resized(stored, start, edges - start, target),
    )
    image = _turned(image, orientation)
    if resize != "pad":
        return image
    missing = size - tf.shape(image)[:2]
    before = missing // 2
    sides = tf.concat([tf.stack([before, missing - before], 1), [[0, 0]]], 0)
    return tf.pad(image, sides, constant_values=tf.constant(_WHITE, tf.uint8))


def _turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    def is_one_of(values: Sequence[int]) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(values))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.where(is_one_of((2, 3, 6, 7)), image[:, ::-1], image)
    return tf.where(is_one_of((3, 4, 7, 8)), image[::-1], image)


def _resized(image: tf.Tensor, start: tf.Tensor, end: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns a region of an image, uint8 [h, w, 3], resized as by Pillow: bicubic, antialiased.

    The region is from `start` (top, left) to `end`, float64 [2]; `target`, int32 [2], is the size.
    """
    before = tf.shape(image)[:2]
    weights = [_weights(before[axis], start[axis], end[axis], target[axis]) for axis in (0, 1)]

    def along(values: tf.Tensor, axis: int) -> tf.Tensor:
        # float64 holds these sums of integers exactly.
        sums = tf.tensordot(weights[axis], values, [[1], [axis]])
        rounded = tf.clip_by_value(tf.floor(sums / 2**_FRACTION_BITS + 0.5), 0, 255)
        return rounded if axis == 0 else tf.transpose(rounded, [1, 0, 2])

    values = tf.cast(image, tf.float64)
    saved = before - target
    result = tf.cond(
        (saved[0] > 0) & (saved[0] > 2 * saved[1]) & _PILLOW_13,
        lambda: along(along(values, 0), 1),
        lambda: along(along(values, 1), 0),
    )
    return tf.cast(result, tf.uint8)


def _weights(size: tf.Tensor, start: tf.Tensor, end: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns the weights of Keys' cubic filter (1981, a = -1/2), integers in units of 2^-22.

    float64 [target, size]; when downsampling, the filter widens with the scale (antialiasing).
    """
    size, target = tf.cast(size, tf.float64), tf.cast(target, tf.float64)
    scale = (end - start) / target
    wide = tf.maximum(scale, 1)
    centre = (start + (tf.range(target) + 0.5) * scale)[:, None]
    pixel = tf.range(size)
    first, last = (tf.floor(centre + radius * wide + 0.5) for radius in (-_RADIUS, _RADIUS))
    x = tf.abs((pixel - centre + 0.5) * (1 / wide))
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    weights = tf.where(x < 1, near, tf.where(x < 2, far, 0))
    weights = tf.where((pixel >= first) & (pixel < last), weights, 0)
    weights /= tf.reduce_sum(weights, 1, keepdims=True)
    return tf.sign(weights) * tf.floor(tf.abs(weights) * 2**_FRACTION_BITS + 0.5)
