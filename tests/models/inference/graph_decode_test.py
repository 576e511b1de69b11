"""TensorFlow's own operations give the pixels that our decoder gives, to the bit."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from models.inference import graph_decode, preprocess
from records.common.backend import tf
from records.image import decode as images
from tests import fakes

MODES = ("stretch", "crop", "pad")
SIZE = 32


@functools.cache
def decoder(resize, encoding, size=SIZE):
    recipe = preprocess.Recipe(images.ImagePolicy(size, resize), encoding)
    decode = tf.function(graph_decode.decoder(recipe), autograph=False)
    return recipe, decode.get_concrete_function(tf.TensorSpec([None], tf.string))


def check(data, resize="stretch", encoding="raw", size=SIZE, *, upright=None):
    """Compares the two ways from a file to pixels, which must not be those of `upright`."""
    recipe, decode = decoder(resize, encoding, size)
    found = decode(tf.constant([data])).numpy()[0]
    np.testing.assert_array_equal(found, preprocess.pixels(data, recipe))
    assert upright is None or (found != preprocess.pixels(upright, recipe)).any()


def noise(height, width, channels=3):
    """Returns pixels with something of every frequency."""
    shape = (height, width, channels)[: 2 if channels == 1 else 3]
    return np.random.default_rng([height, width]).integers(0, 256, shape, np.uint8)


def file_of(mode, **options):
    image = Image.fromarray(noise(50, 70, {"L": 1, "LA": 2, "RGBA": 4}.get(mode, 3)))
    if mode in ("P", "1", "CMYK"):
        image = image.convert(mode)
    return fakes.encoded(image, **options)


def exif_block(orientation, endian="<"):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    return exif.tobytes()


PNGS = {
    "grey": file_of("L"),
    "grey with alpha": file_of("LA"),
    "colour": file_of("RGB"),
    "alpha": file_of("RGBA"),
    "black and white": file_of("1"),
    "palette": file_of("P"),
    "palette of 2 bits": fakes.encoded(Image.fromarray(noise(50, 70)).quantize(4), bits=2),
    "transparent place of a palette": file_of("P", transparency=7),
    "transparent colour": fakes.encoded(noise(50, 70) // 255 * 255, transparency=(0, 255, 0)),
    "16 bit grey": fakes.encoded(Image.fromarray(noise(50, 70, 1).astype(np.uint16) * 257)),
    "rotated": fakes.encoded(noise(50, 70), exif=exif_block(6, ">")),
}


@pytest.mark.parametrize("kind", PNGS)
@pytest.mark.parametrize("resize", MODES)
def test_png(kind, resize):
    check(PNGS[kind], resize)


# Of 32: libjpeg's scales 1, 1/2, 1/4, 1/8; wide, tall, smaller than wanted, of one pixel.
SHAPES = [
    (40, 50),
    (64, 80),
    (130, 150),
    (300, 260),
    (40, 200),
    (70, 66),
    (210, 34),
    (9, 20),
    (1, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("resize", MODES)
def test_jpeg_of_any_size(shape, resize):
    check(fakes.encoded(noise(*shape), "JPEG", quality=80), resize)


@pytest.mark.parametrize(
    "options",
    [{"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"optimize": True}],
    ids=str,
)
def test_jpeg_of_any_kind(options):
    check(fakes.encoded(noise(90, 70), "JPEG", **options))


def test_grey_jpeg():
    check(file_of("L", file_format="JPEG"))


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_stored_rotation_is_applied(orientation, endian):
    for resize in MODES:
        data = fakes.encoded(noise(60, 90), "JPEG", exif=exif_block(orientation, endian))
        check(data, resize)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"MM\0*\0\0\0\xff",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0",  # two bytes of the tag are missing
    ],
    ids=repr,
)
def test_a_broken_exif_block_says_nothing(block):
    check(fakes.encoded(noise(60, 90), "JPEG", exif=b"Exif\0\0" + block))


def tiff(*tags, endian=">"):
    """Returns EXIF of tags, each of (number, type, count, value as 4 bytes)."""
    begin = {">": b"MM\0*", "<": b"II*\0"}[endian] + struct.pack(endian + "I", 8)
    entries = [struct.pack(endian + "HHI", *tag[:3]) + tag[3] for tag in tags]
    return begin + struct.pack(endian + "H", len(tags)) + b"".join(entries) + b"\0" * 4


def segment(kind, content):
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def chunk(name, content):
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


TURNED = (0x0112, 3, 1, b"\0\6\0\0")
EXIF = segment(0xE1, b"Exif\0\0" + tiff(TURNED))
FALSE_EXIF = segment(0xE1, b"Exif\0\0" + tiff((0x0112, 3, 1, b"\0\3\0\0")))
SEGMENTS = {
    "16 bits": EXIF,
    "32 bits, high byte first": segment(0xE1, b"Exif\0\0" + tiff((0x0112, 4, 1, b"\0\0\0\6"))),
    "32 bits, low byte first": segment(
        0xE1, b"Exif\0\0" + tiff((0x0112, 4, 1, b"\6\0\0\0"), endian="<")
    ),
    "the first of two values": segment(0xE1, b"Exif\0\0" + tiff((0x0112, 3, 2, b"\0\6\0\3"))),
    "one of two tags": segment(0xE1, b"Exif\0\0" + tiff(TURNED, (0x0112, 3, 1, b"\0\3\0\0"))),
    "named twice": segment(0xE1, b"Exif\0\0" * 2 + tiff(TURNED)),
    "after a comment with its name": segment(0xFE, b"of Exif\0\0II*\0") + EXIF,
    "after a comment that holds one": segment(0xFE, FALSE_EXIF) + EXIF,
    "after filling": b"\xff\xff" + EXIF,
    "in two segments": segment(0xE1, b"Exif\0\0" + tiff(TURNED)[:20])
    + segment(0xE1, b"Exif\0\0" + tiff(TURNED)[20:]),
}


@pytest.mark.parametrize("kind", SEGMENTS)
def test_a_rotation_is_found_in_jpeg(kind):
    plain = fakes.encoded(noise(60, 90), "JPEG")
    check(plain[:2] + SEGMENTS[kind] + plain[2:], upright=plain)


CHUNKS = {  # before the pixels and behind them
    "before": (chunk(b"eXIf", tiff(TURNED)), b""),
    "behind": (b"", chunk(b"eXIf", tiff(TURNED))),
    "the last of two": (chunk(b"eXIf", tiff()), chunk(b"eXIf", tiff(TURNED))),
    "named as in JPEG": (chunk(b"eXIf", b"Exif\0\0" + tiff(TURNED)), b""),
    "after a text with its name": (
        chunk(b"tEXt", b"note\0an eXIf word") + chunk(b"eXIf", tiff(TURNED)),
        b"",
    ),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_a_rotation_is_found_in_png(kind):
    before, behind = CHUNKS[kind]
    plain = fakes.encoded(noise(60, 90))
    check(plain[:33] + before + plain[33:-12] + behind + plain[-12:], upright=plain)


@pytest.mark.parametrize(
    "block",
    [
        tiff((0x0112, 1, 1, b"\6\0\0\0")),  # a byte
        tiff((0x0112, 3, 0, b"\0\6\0\0")),
        tiff((0x0112, 3, 3, b"\0\6\0\0")),  # told elsewhere
        tiff((0x0112, 4, 1, b"\0\1\0\6")),
        b"XX" + tiff(TURNED)[2:],
    ],
    ids=repr,
)
def test_what_is_no_orientation_says_nothing(block):
    check(fakes.encoded(noise(60, 90), "JPEG", exif=b"Exif\0\0" + block))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("grey", [0, 1, 3, 15, 257])
def test_a_transparent_grey_is_white(depth, grey):
    levels = noise(SIZE, SIZE, 1) % 2**depth
    bits = np.unpackbits(levels[..., None], axis=2)[..., 8 - depth :].reshape(SIZE, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = struct.pack(">IIBBBBB", SIZE, SIZE, depth, 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">H", grey))]
    chunks += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    check(data)
    shown = decoder("stretch", "raw")[1](tf.constant([data]))[0, ..., 0]
    is_clear = levels == grey % 2**depth
    np.testing.assert_array_equal(shown, np.where(is_clear, 255, levels * (255 // (2**depth - 1))))


@pytest.mark.parametrize("file_format", ["BMP", "GIF"])
def test_other_formats(file_format):
    check(fakes.encoded(noise(50, 70), file_format), "pad")


@pytest.mark.parametrize("kind", ["colour", "alpha"])
def test_records_in_jpeg_lose_the_same(kind):
    check(PNGS[kind], "crop", "jpeg")


@pytest.mark.parametrize("encoding", images.ENCODINGS)
def test_an_image_of_the_wanted_size_needs_no_resizing(encoding):
    pixels = noise(SIZE, SIZE)
    check(fakes.encoded(pixels), encoding=encoding)
    _, decode = decoder("stretch", "raw")
    np.testing.assert_array_equal(decode(tf.constant([fakes.encoded(pixels)]))[0], pixels)


def test_another_size():
    check(fakes.encoded(noise(300, 200), "JPEG"), "crop", "raw", 75)


def test_a_batch_keeps_its_order():
    files = [fakes.encoded(noise(40, 40 + n), "JPEG" if n % 2 else "PNG") for n in range(5)]
    recipe, decode = decoder("pad", "raw")
    expected = [preprocess.pixels(data, recipe) for data in files]
    np.testing.assert_array_equal(decode(tf.constant(files)), expected)
    assert decode(tf.zeros([0], tf.string)).shape == (0, SIZE, SIZE, 3)


def with_transparency():
    out = io.BytesIO()
    Image.fromarray(noise(20, 20)).quantize(8).save(out, "GIF", transparency=0)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file_of("RGB", file_format="WEBP"), "must be encoded as JPEG, PNG, GIF or BMP"),
        (b"", "must be encoded as JPEG, PNG, GIF or BMP"),
        (file_of("P", file_format="BMP"), "must have 24 or 32 bits per pixel, uncompressed"),
        (with_transparency(), "must have no transparent colour"),
        (PNGS["colour"][:200], "Invalid PNG data"),
    ],
)
def test_what_would_be_another_picture_is_refused(data, message):
    _, decode = decoder("stretch", "raw")
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(tf.constant([data]))
