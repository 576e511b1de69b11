"""Encoded images to pixels by TensorFlow's own operations, for a model used without our code.

What `preprocess.pixels` does with Pillow and libjpeg, done again so that it can be saved in a
graph: libjpeg's smaller scales, the stored rotation, transparency on white, and Pillow's resizing
in its own whole numbers. The usual `tf.io.decode_image` and `tf.image.resize(antialias=True)` give
other pixels: 2.0 of 255 on average on photographs of faces, 81 on drawings (whose transparency
they show black), 48 where a picture is stored rotated; `tf.image.resize` alone 0.05 to 0.17, at
the most 16.

These are ours to the bit for all JPEG and PNG files of 5,317 draws from three sets of photographs
and drawings, stretched, cropped and padded to 64x64, through JPEG records, and to 224x224: rotated
by EXIF, progressive, grey, with palette, alpha and 16 bit among them; 5 WebP were refused. Of 926
odd and broken files 668 are equal, and 93 refused by both. Two differ: CMYK in JPEG by 0.3 on
average, and a rotation that XMP alone tells is not seen. Nor is one that only a PNG's text `Raw
profile type exif` tells, or an EXIF tag of fractions. 160 that we read are refused: TIFF, WebP and
PPM, which TensorFlow cannot read; BMP with palettes or masks and GIF with a transparent colour,
which it would show in wrong colours without a word; and a few with faults that Pillow forgives. It
reads 3 that we refuse. There is no limit on memory but that of the machine.
"""

from collections.abc import Callable, Sequence

import numpy as np
import PIL

from models.inference.preprocess import Recipe
from records.common.backend import tf

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
_QUALITY = 95  # of the JPEG of records, as `images.encode` has it
_SMALLER = (8, 4, 2)  # libjpeg decodes at 1/8, 1/4, 1/2
_WHITE = 255
_ORIENTATION = 0x0112  # the EXIF tag
_MOST_TAGS = 1000
_EXIF = b"Exif\0\0"  # the name of a segment
_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0")  # the last two are wrong, and forgiven
_REACH = 2.0  # of the bicubic filter, in pixels of the smaller picture
_BITS = 22  # after the binary point of its weights
# From version 13 on Pillow begins with the columns where that leaves out more.
_COLUMNS_FIRST = int(PIL.__version__.split(".")[0]) >= 13


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
    """Returns a picture as it is stored, uint8 [h, w, 3], and its orientation (EXIF), 1 to 8."""
    is_kind = [tf.strings.substr(data, 0, len(begin)) == begin for begin in _SIGNATURES]
    known = tf.debugging.Assert(
        tf.reduce_any(is_kind), ["an image must be encoded as JPEG, PNG, GIF or BMP"]
    )
    with tf.control_dependencies([known]):
        kind = tf.argmax(tf.stack(is_kind), output_type=tf.int32)
    return tf.switch_case(
        kind,
        [
            lambda: (_drafted(data, size), _orientation(_exif_of_jpeg(data))),
            lambda: _from_png(data),
            lambda: (_gif(data), tf.constant(1)),
            lambda: (_bmp(data), tf.constant(1)),
        ],
    )


def _drafted(data: tf.Tensor, size: int) -> tf.Tensor:
    """Returns a JPEG at the smallest of libjpeg's scales that is not below the wanted size."""
    scale = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2]) // size
    branch = tf.reduce_sum(tf.cast(scale < tf.constant(_SMALLER), tf.int32))
    ways = [lambda scale=scale: _jpeg(data, scale) for scale in (*_SMALLER, 1)]
    return tf.switch_case(branch, ways)


def _jpeg(data: tf.Tensor, scale: int) -> tf.Tensor:
    return tf.io.decode_jpeg(data, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE")


def _from_png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    exif, colour = tf.unstack(_chunks(data, (b"eXIf", b"tRNS")))
    return _png(data, colour), _orientation(_unnamed(exif))


def _png(data: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    """Returns the picture on white; `colour` is the chunk of the transparent one, or empty."""
    depth, kind = tf.unstack(_bytes(data, 24, 2))
    # TensorFlow 2.21 gives pictures of less than 8 bits a wrong alpha when asked for 4 channels;
    # where it chooses the channels itself, it overlooks a transparent grey.
    is_shallow = depth < 8
    decoded = tf.cond(
        is_shallow, lambda: tf.io.decode_png(data), lambda: tf.io.decode_png(data, channels=4)
    )
    image = tf.cast(decoded, tf.int32)
    low = _bytes(tf.strings.join([colour, b"\0\0"]), 1, 1)[0]
    grey = low * (255 // (tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1)) % 256
    is_grey = is_shallow & (kind == 0) & (tf.strings.length(colour) >= 2)
    is_clear = is_grey & (image[..., :1] == grey)
    has_alpha = tf.shape(image)[2] % 2 == 0
    alpha = tf.cond(has_alpha, lambda: image[..., -1:], lambda: tf.where(is_clear, 0, 255))
    mixed = _rgb(image) * alpha + _WHITE * (255 - alpha) + 128
    return tf.cast((mixed + mixed // 256) // 256, tf.uint8)  # divided by 255, rounded


def _chunks(data: tf.Tensor, names: Sequence[bytes]) -> tf.Tensor:
    """Returns the contents of the last chunk of each name in a PNG, string; empty without one."""
    size = tf.strings.length(data)

    def step(at: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        said = tf.strings.substr(data, at, 4)
        length = tf.io.decode_raw(said, tf.int32, little_endian=False)[0]
        length = tf.clip_by_value(length, 0, size - at)
        name = tf.strings.substr(data, at + 4, 4)
        is_one = name == tf.constant(names)
        content = tf.strings.substr(data, at + 8, tf.where(tf.reduce_any(is_one), length, 0))
        after = tf.where(name == b"IEND", size, at + 12 + length)
        return after, tf.where(is_one, content, found)

    begin = tf.constant(8), tf.constant([b""] * len(names))
    return tf.while_loop(lambda at, found: at + 8 <= size, step, begin)[1]


def _gif(data: tf.Tensor) -> tf.Tensor:
    """Returns the first frame; refuses what TensorFlow would show black instead of white."""
    control = tf.concat([tf.strings.split(data, b"\x21\xf9\x04", maxsplit=1), ["\0"]], 0)[1]
    flags = tf.io.decode_raw(tf.strings.substr(control, 0, 1), tf.uint8)[0]
    is_opaque = tf.debugging.Assert(flags % 2 == 0, ["a GIF must have no transparent colour"])
    with tf.control_dependencies([is_opaque]):
        return tf.io.decode_gif(data)[0]


def _bmp(data: tf.Tensor) -> tf.Tensor:
    """Returns the picture; refuses palettes and masks, which TensorFlow does not look at."""
    layout = tf.strings.substr(data, 28, 6)  # bits a pixel, compression
    is_plain = (layout == b"\x18\0\0\0\0\0") | (layout == b"\x20\0\0\0\0\0")
    plain = tf.debugging.Assert(is_plain, ["a BMP must have 24 or 32 bits a pixel, uncompressed"])
    with tf.control_dependencies([plain]):
        return _rgb(tf.io.decode_bmp(data))


def _rgb(image: tf.Tensor) -> tf.Tensor:
    """Returns the colours of a picture of 1 to 4 channels, of which the even have alpha."""
    is_grey = tf.shape(image)[2] < 3
    return tf.cond(is_grey, lambda: tf.repeat(image[..., :1], 3, 2), lambda: image[..., :3])


def _exif_of_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Returns what stands in the EXIF segments before the pixels, string; empty without any."""
    size = tf.strings.length(data)

    def step(at: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, kind, high, low = tf.unstack(_bytes(data, at, 4))
        length = 256 * high + low
        is_segment = (begin == 0xFF) & (kind != 0xFF)  # else it is filling, or nothing
        is_bare = (kind == 0) | ((kind >= 0xD0) & (kind <= 0xD9))  # has no length
        after = at + tf.where(is_segment, 2 + tf.where(is_bare, 0, length), 1)
        content = tf.strings.substr(data, at + 4, tf.maximum(length - 2, 0))
        is_exif = is_segment & (kind == 0xE1) & (tf.strings.substr(content, 0, 6) == _EXIF)
        more = tf.where(is_exif, _unnamed(content), b"")
        is_scan = is_segment & (kind == 0xDA)
        return tf.where(is_scan, size, after), tf.strings.join([found, more])

    begin = tf.constant(2), tf.constant(b"")
    return tf.while_loop(lambda at, found: at + 4 <= size, step, begin)[1]


def _unnamed(block: tf.Tensor) -> tf.Tensor:
    """Returns an EXIF block without its name, which some writers set down twice."""
    return tf.strings.regex_replace(block, r"^(Exif\x00\x00){1,2}", "", replace_global=False)


def _bytes(data: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns some bytes as numbers, int32 [count]."""
    found = tf.io.decode_raw(tf.strings.substr(data, at, count), tf.uint8)
    return tf.ensure_shape(tf.cast(found, tf.int32), [count])


def _orientation(block: tf.Tensor) -> tf.Tensor:
    """Returns what an EXIF block says of the rotation, 1 to 8; 1 if it says nothing."""
    values = tf.io.decode_raw(tf.strings.join([block, b"\0" * 8]), tf.uint8)
    values = tf.cast(values, tf.int64)
    is_little_endian = values[0] == ord("I")

    def number(at: tf.Tensor, size: int) -> tf.Tensor:
        places = at[..., None] + tf.range(size, dtype=tf.int64)
        found = tf.gather(values, tf.minimum(places, tf.size(values, tf.int64) - 1))  # 0 beyond
        # Reversed by an operation it would look like a shape, on which TensorFlow's optimizer of
        # layouts gives up: the model's last bits would be others.
        powers = np.array([256**place for place in range(size)])
        return tf.reduce_sum(found * tf.where(is_little_endian, powers, powers[::-1]), -1)

    directory = number(tf.constant(4, tf.int64), 4)
    is_tiff = tf.reduce_any(tf.strings.substr(block, 0, 4) == tf.constant(_TIFF))
    num_tags = tf.where(is_tiff, tf.minimum(number(directory, 2), _MOST_TAGS), 0)
    tags = directory + 2 + 12 * tf.range(num_tags)
    kind, count = number(tags + 2, 2), number(tags + 4, 4)
    is_short, is_long = (kind == 3) | (kind == 8), (kind == 4) | (kind == 9)
    # More do not fit into the tag; what is there then says where they are.
    is_here = (is_short & (count <= 2) | is_long & (count == 1)) & (count > 0)
    is_whole = tags + 12 <= tf.size(values, tf.int64) - 8
    said = tf.where(is_long, number(tags + 8, 4), number(tags + 8, 2))
    said = tf.boolean_mask(said, (number(tags, 2) == _ORIENTATION) & is_here & is_whole)
    value = tf.cast(tf.concat([said, [1]], 0)[0], tf.int32)
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _fitted(stored: tf.Tensor, orientation: tf.Tensor, size: int, resize: str) -> tf.Tensor:
    """Returns a picture upright in the wanted size, uint8 [size, size, 3]; see `images`."""
    shape = tf.shape(stored)[:2]
    edges, wanted = tf.cast(shape, tf.float64), tf.constant([size, size])
    start = tf.zeros(2, tf.float64)
    if resize == "crop":
        start = (edges - tf.reduce_min(edges)) / 2
    elif resize == "pad":
        scaled = tf.round(edges * (size / tf.reduce_max(edges)))
        wanted = tf.maximum(tf.cast(scaled, tf.int32), 1)
    image = tf.cond(
        tf.reduce_all(shape == wanted),
        lambda: stored,
        lambda: _resized(stored, start, edges - start, wanted),
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


def _resized(image: tf.Tensor, start: tf.Tensor, end: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Returns a part of a picture in another size, as Pillow does it: bicubic, antialiased.

    Args:
        image: uint8 [h, w, 3].
        start: float64 [2], top and left of the part.
        end: float64 [2], bottom and right.
        wanted: int32 [2], height and width of the result.
    """
    before = tf.shape(image)[:2]
    weights = [_weights(before[axis], start[axis], end[axis], wanted[axis]) for axis in (0, 1)]

    def along(values: tf.Tensor, axis: int) -> tf.Tensor:
        # Doubles hold these sums of whole numbers exactly.
        sums = tf.tensordot(weights[axis], values, [[1], [axis]])
        rounded = tf.clip_by_value(tf.floor(sums / 2**_BITS + 0.5), 0, 255)
        return rounded if axis == 0 else tf.transpose(rounded, [1, 0, 2])

    values = tf.cast(image, tf.float64)
    saved = before - wanted
    result = tf.cond(
        (saved[0] > 0) & (saved[0] > 2 * saved[1]) & _COLUMNS_FIRST,
        lambda: along(along(values, 0), 1),
        lambda: along(along(values, 1), 0),
    )
    return tf.cast(result, tf.uint8)


def _weights(size: tf.Tensor, start: tf.Tensor, end: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Returns the weights of the filter of Keys 1981 (a = -1/2), whole numbers of 2^-22.

    float64 [wanted, size]; below the size of the picture the filter is as wide as its pixels.
    """
    size, wanted = tf.cast(size, tf.float64), tf.cast(wanted, tf.float64)
    scale = (end - start) / wanted
    wide = tf.maximum(scale, 1)
    centre = (start + (tf.range(wanted) + 0.5) * scale)[:, None]
    place = tf.range(size)
    first, last = (tf.floor(centre + reach * wide + 0.5) for reach in (-_REACH, _REACH))
    x = tf.abs((place - centre + 0.5) * (1 / wide))
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    weights = tf.where(x < 1, near, tf.where(x < 2, far, 0))
    weights = tf.where((place >= first) & (place < last), weights, 0)
    weights /= tf.reduce_sum(weights, 1, keepdims=True)
    return tf.sign(weights) * tf.floor(tf.abs(weights) * 2**_BITS + 0.5)
