"""The decode policy, case by case.

Run as a program, this file is the other process of the tests of memory and of damage:

    python -m tests.records.image.decode_test fuzz 2000 1
"""

import io
import json
import pickle
import random
import re
import resource
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from records.image import decode, sniff
from tests import fakes

POLICY = decode.ImagePolicy(size=16)
RED = (200, 40, 30)
WHITE = (255, 255, 255)
MAX_PEAK = 300  # MB a worker may take in all
MAX_SECONDS = 5  # for one file: a hang, not a measurement


def decoded(data, **policy):
    return decode.preprocess(data, decode.ImagePolicy(**{"size": 16, **policy}))


NEW_PILLOW = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow (Python 3.10) does it otherwise"
)


def flat(mode, colour, size=(20, 20)):
    return Image.new(mode, size, colour)


@pytest.mark.parametrize(
    ("picture", "file_format", "expected"),
    [
        (flat("RGB", RED), "PNG", RED),
        (flat("RGB", RED), "BMP", RED),
        (flat("RGB", RED), "TIFF", RED),
        (flat("RGB", RED), "WEBP", RED),
        (flat("RGB", RED), "JPEG", RED),
        (flat("L", 90), "PNG", (90, 90, 90)),
        (flat("1", 1), "PNG", (255, 255, 255)),
        (flat("P", 0), "GIF", (0, 0, 0)),
        (flat("CMYK", (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
        (flat("CMYK", (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (flat("I;16", 32768), "PNG", (128, 128, 128)),  # scaled, not clipped to white
        (flat("I;16", 32768), "TIFF", (128, 128, 128)),
        (flat("RGBA", (*RED, 255)), "PNG", RED),
        (flat("RGBA", (0, 0, 0, 0)), "PNG", (255, 255, 255)),  # hidden black shows white
        (flat("RGBA", (0, 0, 0, 128)), "PNG", (127, 127, 127)),
        (flat("RGBA", (*RED, 0)), "WEBP", WHITE),
        (flat("LA", (0, 0)), "PNG", WHITE),
        (flat("LA", (0, 51)), "PNG", (204, 204, 204)),
        (flat("PA", 0), "TIFF", WHITE),
        pytest.param(flat("YCbCr", (90, 128, 128)), "TIFF", (90, 90, 90), marks=NEW_PILLOW),
        (flat("CMYK", (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (flat("1", 0), "TIFF", (0, 0, 0)),
        (flat("I;16", 65535), "PPM", WHITE),
    ],
)
def test_modes(picture, file_format, expected):
    result = decoded(fakes.encoded(picture, file_format))
    assert result.shape == (16, 16, 3) and result.dtype == np.uint8
    tolerance = 3 if file_format in ("JPEG", "WEBP") else 1
    np.testing.assert_allclose(result.reshape(-1, 3).astype(int), [expected] * 256, atol=tolerance)


def chunk(kind, data):
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def png(width, height, depth, colour, rows, *extra):
    """A PNG put together by hand: what Pillow cannot write, or would not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def flat_png(depth, colour, pixel, transparent):
    """A PNG of 8 x 8 equal pixels, with a transparent colour."""
    row = b"\0" + pixel * (8 if len(pixel) > 1 or depth == 8 else depth)
    return png(8, 8, depth, colour, zlib.compress(row * 8), chunk(b"tRNS", transparent))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (flat_png(8, 0, b"\x07", b"\0\x07"), WHITE),
        (flat_png(8, 0, b"\x07", b"\0\x08"), (7, 7, 7)),
        # The transparent colour is given at the depth of the file, pixels are decoded to 8 bits.
        (flat_png(4, 0, b"\x33", b"\0\x03"), WHITE),
        (flat_png(4, 0, b"\x33", b"\0\x04"), (51, 51, 51)),
        (flat_png(2, 0, b"\x55", b"\0\x01"), WHITE),
        (flat_png(1, 0, b"\x00", b"\0\x00"), WHITE),
        (flat_png(16, 0, b"\x12\x34", b"\x12\x34"), WHITE),
        (flat_png(16, 0, b"\x12\x34", b"\x12\x35"), (18, 18, 18)),
        (flat_png(8, 2, b"\1\2\3", b"\0\1\0\2\0\3"), WHITE),
        (flat_png(8, 2, b"\1\2\3", b"\0\1\0\2\0\4"), (1, 2, 3)),
        (flat_png(16, 2, b"\1\0\2\0\3\0", b"\1\0\2\0\3\0"), WHITE),
    ],
)
def test_a_transparent_colour_shows_the_background(data, expected):
    np.testing.assert_array_equal(decoded(data).reshape(-1, 3), [expected] * 256)


@pytest.mark.parametrize(
    ("file_format", "transparency", "expected"),
    [
        ("PNG", 0, WHITE),
        ("PNG", 1, (10, 20, 30)),
        ("PNG", b"\x00\xff", WHITE),
        ("PNG", b"\x80\xff", (132, 137, 142)),
        ("GIF", 0, WHITE),
        ("GIF", 1, (10, 20, 30)),
    ],
)
def test_a_palette_with_a_transparent_colour(file_format, transparency, expected):
    picture = flat("P", 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    found = decoded(fakes.encoded(picture, file_format, transparency=transparency))
    np.testing.assert_allclose(found.reshape(-1, 3), [expected] * 256, atol=1)


def test_alpha_is_composited_before_it_is_resized():
    stripes = np.zeros((64, 64, 4), np.uint8)
    stripes[:, ::2] = (*RED, 255)  # between them black that is not to be seen
    half = np.add(RED, WHITE) / 2
    np.testing.assert_allclose(decoded(fakes.encoded(stripes))[8, 8], half, atol=6)


def test_a_bitmap_with_an_empty_alpha_is_opaque():
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 8, 8, 1, 32, 3, 256, 0, 0, 0, 0) + masks + bytes(52)
    start = b"BM" + struct.pack("<IHHI", 378, 0, 0, 122) + header
    opaque = decoded(start + bytes((*RED[::-1], 0)) * 64)
    np.testing.assert_array_equal(opaque.reshape(-1, 3), [RED] * 256)
    half = decoded(start + bytes((*RED[::-1], 0)) * 32 + bytes((*RED[::-1], 255)) * 32)
    np.testing.assert_array_equal((half[2, 2], half[-2, 2]), (RED, WHITE))


def grey_tiff(bits, photometric, strip, num_strips=1, rows=8):
    """A TIFF of 8 x 8 pixels of grey, put together by hand; all strips are the same bytes."""
    values = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 277: 1, 278: rows}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in values.items())
    offsets = struct.pack("<I", 8) * num_strips
    at = 8 if num_strips == 1 else 8 + len(strip)
    entries += struct.pack("<HHII", 273, 4, num_strips, at)
    directory = struct.pack("<H", 8) + entries + bytes(4)
    start = b"II*\0" + struct.pack("<I", 8 + len(strip) + len(offsets))
    return start + strip + offsets + directory


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (grey_tiff(16, 1, b"\x00\x40" * 64), 0x40),
        (grey_tiff(16, 0, b"\x00\x40" * 64), 255 - 0x40),  # white is zero
        (grey_tiff(12, 1, b"\x80\x08\x00" * 32), 0x80),  # of 4095, in 16 bits to Pillow
    ],
)
def test_deep_grey_is_scaled(data, expected):
    assert decoded(data).mean() == pytest.approx(expected, abs=1)


def test_a_tiff_that_paints_a_picture_again_and_again_is_refused():
    data = grey_tiff(8, 1, bytes(64), num_strips=1000, rows=7)
    with pytest.raises(decode.ImageError, match=r"damaged: strips cover the picture 5\d\d times"):
        decode.read(data, POLICY)


def test_ycck_is_pinned():
    data = bytearray(fakes.encoded(flat("CMYK", (200, 100, 50, 20)), "JPEG", quality=95))
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    np.testing.assert_allclose(decoded(bytes(data))[8, 8], (51, 143, 189), atol=2)
    data[at + 11] = 2  # YCCK
    np.testing.assert_allclose(decoded(bytes(data))[8, 8], (85, 235, 140), atol=2)


def rotated(orientation, file_format="PNG", picture=None, **options):
    """A file that is to be rotated to look like the picture."""
    upright = picture or Image.fromarray(fakes.pixels(5, 40)).resize((40, 24))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse transposition of each tag
    if orientation in undo:
        upright = upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return fakes.encoded(upright, file_format, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_stored_rotations_all_look_the_same(orientation, file_format):
    options = {"JPEG": {"quality": 98}, "WEBP": {"lossless": True}}.get(file_format, {})
    expected = decoded(rotated(1)).astype(int)
    found = decoded(rotated(orientation, file_format, **options)).astype(int)
    assert np.abs(found - expected).mean() < 2.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_rotation_does_not_move_what_is_cropped_and_padded(orientation, resize):
    expected = decoded(rotated(1), resize=resize, size=15).astype(int)
    found = decoded(rotated(orientation), resize=resize, size=15).astype(int)
    assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_unknown_orientation_counts_as_upright(orientation, file_format):
    expected = decoded(rotated(1, file_format))
    np.testing.assert_array_equal(decoded(rotated(orientation, file_format)), expected)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_says_nothing(file_format):
    expected = decoded(fakes.encoded(fakes.pixels(1), file_format))
    data = fakes.encoded(fakes.pixels(1), file_format, exif=b"Exif\0\0garbage garbage")
    np.testing.assert_array_equal(decoded(data), expected)


# --- headers ---


@pytest.mark.parametrize(
    ("picture", "file_format", "options", "mode"),
    [
        (flat("RGB", (1, 2, 3), (30, 20)), "JPEG", {}, "RGB"),
        (flat("L", 9, (30, 20)), "JPEG", {}, "L"),
        (flat("RGB", (1, 2, 3), (30, 20)), "JPEG", {"progressive": True}, "RGB"),
        (flat("CMYK", (1, 2, 3, 4), (30, 20)), "JPEG", {}, "CMYK"),
        (flat("RGBA", (1, 2, 3, 4), (30, 20)), "PNG", {}, "RGBA"),
        (flat("1", 1, (30, 20)), "PNG", {}, "1"),
        (flat("P", 7, (30, 20)), "GIF", {}, "P"),
        (flat("RGB", (1, 2, 3), (30, 20)), "WEBP", {}, "RGB"),
    ],
)
def test_a_header_says_format_mode_and_size(picture, file_format, options, mode):
    data = fakes.encoded(picture, file_format, **options)
    assert decode.header(data, POLICY) == decode.Header(file_format, mode, 30, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_a_header_says_the_upright_size(orientation, file_format):
    upright = fakes.pixels(0, 40)[:20]
    data = rotated(orientation, file_format, Image.fromarray(upright))
    found = decode.header(data, POLICY)
    assert (found.width, found.height) == (40, 20)


def test_a_header_with_a_box_says_the_size_of_the_part():
    data = fakes.encoded(fakes.pixels(0, 40))
    found = decode.header(data, decode.ImagePolicy(box_margin=0.5), (30, 0, 40, 20))
    assert (found.width, found.height) == (15, 30)  # widened by 5 and 10, but not beyond the edge


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"text", "not_an_image"), (b"\x89PNG\r\n\x1a\n123", "truncated")],
)
def test_a_header_that_cannot_be_read_is_refused(data, reason):
    with pytest.raises(decode.ImageError) as caught:
        decode.header(data, POLICY)
    assert caught.value.reason == reason


def test_resize_modes_of_a_wide_picture():
    picture = flat("RGB", RED, (40, 20))
    picture.paste((0, 0, 255), (0, 0, 10, 20))
    data = fakes.encoded(picture)
    blue = (0, 0, 255)

    def assert_colour(pixel, expected):
        np.testing.assert_allclose(pixel.astype(int), expected, atol=12)

    assert_colour(decoded(data)[8, 1], blue)  # stretch keeps the left quarter
    assert_colour(decoded(data, resize="crop")[8, 3], RED)  # crop cuts it away
    padded = decoded(data, resize="pad")
    assert (padded[:4] == 255).all() and (padded[12:] == 255).all()
    assert_colour(padded[8, 1], blue)
    assert_colour(padded[8, 14], RED)


def test_resizing_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_allclose(decoded(fakes.encoded(stripes)), 127.5, atol=4)


def test_jpeg_draft_is_near_full_decoding():
    big = fakes.pixels(3, 400)
    full = decoded(fakes.encoded(big)).astype(int)
    draft = decoded(fakes.encoded(big, "JPEG", quality=95)).astype(int)
    assert np.abs(full - draft).mean() < 2


FRAMES = [Image.fromarray(fakes.pixels(seed, 40)) for seed in range(3)]
MORE = {"save_all": True, "append_images": FRAMES[1:]}
FIRST_FRAME = ("first_frame_of_animation",)


@pytest.mark.parametrize(
    ("file_format", "options", "notes"),
    [
        ("GIF", {}, ()),
        ("GIF", {"comment": b"x" * 1000}, ()),
        ("GIF", MORE, FIRST_FRAME),
        ("PNG", {}, ()),
        ("PNG", MORE, FIRST_FRAME),
        ("PNG", {**MORE, "default_image": True}, FIRST_FRAME),
        ("WEBP", {}, ()),
        ("WEBP", MORE, FIRST_FRAME),
        ("TIFF", {}, ()),
        ("TIFF", MORE, ("first_page",)),
        ("MPO", MORE, ()),  # a phone's photograph with others of the same
        ("JPEG", {}, ()),
    ],
)
def test_more_than_one_picture_is_noted(file_format, options, notes):
    result = decode.read(fakes.encoded(FRAMES[0], file_format, **options), POLICY)
    assert result.notes == notes
    first = decoded(fakes.encoded(FRAMES[0])).astype(int)
    assert np.abs(result.pixels - first).mean() < 6


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_gif_that_ends_after_its_first_frame_is_one_picture(cut):
    data = fakes.encoded(FRAMES[0], "GIF", **MORE)
    end = data.index(b"\x21\xf9", len(fakes.encoded(FRAMES[0], "GIF")) - 200)
    assert decode.read(data[: end + 5], POLICY).notes == ()


def quarters(size=(48, 32)):
    """A picture with another colour in each quarter, for boxes."""
    across, down = size[0] // 2, size[1] // 2
    picture = Image.new("RGB", size)
    picture.paste(RED, (0, 0, across, down))
    picture.paste((0, 200, 0), (across, 0, 2 * across, down))
    picture.paste((0, 0, 200), (0, down, across, 2 * down))
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("box", "colour"), [((24, 0, 48, 16), (0, 200, 0)), ((0, 16, 24, 32), (0, 0, 200))]
)
def test_a_box_is_of_the_upright_image(orientation, file_format, box, colour):
    data = rotated(orientation, file_format, quarters(), quality=98)
    result = decode.read(data, POLICY, box)
    assert result.notes == ()
    np.testing.assert_allclose(result.pixels[4:-4, 4:-4].mean((0, 1)), colour, atol=12)


@pytest.mark.parametrize(
    ("box", "margin", "same_as", "notes"),
    [
        ((0, 0, 48, 32), 0.0, None, ()),
        ((-5, 0, 48, 33), 0.0, None, ("box_clamped",)),
        ((float("-inf"), 0, 1e300, 32), 0.0, None, ("box_clamped",)),
        ((12, 8, 36, 24), 0.25, (6, 4, 42, 28), ()),
        ((12, 8, 36, 24), 0.5, None, ()),
        ((12, 8, 36, 24), 10.0, None, ()),  # a margin is cut in silence
        ((40, 8, 60, 24), 0.5, (36, 0, 48, 32), ("box_clamped",)),
        ((1.5, 2.25, 30.5, 20.75), 0.0, (1.5, 2.25, 30.5, 20.75), ()),
    ],
)
def test_boxes_are_widened_and_clamped(box, margin, same_as, notes):
    data = fakes.encoded(quarters())
    result = decode.read(data, decode.ImagePolicy(size=16, box_margin=margin), box)
    assert result.notes == notes
    np.testing.assert_array_equal(result.pixels, decode.preprocess(data, POLICY, same_as))


@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 10, 20),
        (10, 10, 5, 20),
        (10, 20, 20, 10),
        (48, 0, 60, 10),
        (-10, 0, 0, 10),
        (0, 32, 10, 40),
        (float("nan"), 0, 10, 10),
    ],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_an_empty_box_is_refused(box, file_format):
    data = fakes.encoded(quarters(), file_format)
    with pytest.raises(decode.ImageError, match=r"bad_box: .* holds nothing of 48 x 32"):
        decode.read(data, decode.ImagePolicy(box_margin=1), box)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("resize", decode.RESIZE_MODES)
def test_a_box_in_a_large_jpeg_is_as_sharp_as_in_a_png(orientation, resize):
    picture = Image.fromarray(fakes.pixels(3, 600)).resize((601, 403))
    picture.paste(quarters((64, 48)), (403, 203))
    box = (400.5, 200, 470, 255.25)
    policy = decode.ImagePolicy(size=32, resize=resize)
    sharp = decode.preprocess(rotated(orientation, "PNG", picture), policy, box).astype(int)
    data = rotated(orientation, "JPEG", picture, quality=98, subsampling="4:4:4")
    assert np.abs(decode.preprocess(data, policy, box) - sharp).mean() < 3


def test_a_box_of_a_draft_lies_where_it_should():
    picture = Image.new("RGB", (1003, 1003), WHITE)
    picture.paste(RED, (500, 500, 1003, 1003))
    data = fakes.encoded(picture, "JPEG", quality=95, subsampling="4:4:4")
    # Decoded at an eighth; the red must begin in the middle of 16 pixels.
    pixels = decode.preprocess(data, POLICY, (300, 300, 700, 700))
    np.testing.assert_allclose(pixels[12, :6].mean(0), WHITE, atol=8)
    np.testing.assert_allclose(pixels[12, 10:].mean(0), RED, atol=8)
    assert abs(int(pixels[12, 7].sum()) + int(pixels[12, 8].sum()) - sum(WHITE) - sum(RED)) < 60


def test_content_decides_not_the_name():
    assert decoded(fakes.encoded(flat("RGB", RED), "GIF")).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\0\0\0\x18ftypisom", "MP4"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\xd8\xff\xf7", "JPEG-LS"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\1\0\1\0\x10\x10", "ICO"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<svg>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"II*\0\x10\0\0\0CR\2\0", "CR2"),
        (b"P7\nWIDTH 1\n", "PAM"),
    ],
)
def test_other_formats_are_named(start, name):
    with pytest.raises(decode.ImageError, match=f"format_not_allowed: .*{name}"):
        decode.read(start + bytes(100), POLICY)


def bomb(width, height, depth=1, colour=0):
    """A PNG that claims a size and holds almost nothing."""
    return png(width, height, depth, colour, zlib.compress(b"\0" * 1000))


GOOD_JPEG = fakes.encoded(fakes.pixels(1, 64), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>image not available</html>", "not_an_image"),
        (fakes.encoded(fakes.pixels(0))[:20], "truncated"),
        (GOOD_JPEG[: len(GOOD_JPEG) // 2], "truncated"),
        (GOOD_JPEG[:-200], "truncated"),
        (bomb(12_000, 12_000), "too_many_pixels"),  # Pillow itself would only warn
        (bomb(60_000, 60_000), "too_many_pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "too_many_pixels"),
        (bomb(100, 100), "truncated"),
        (fakes.encoded(flat("F", 0.5), "TIFF"), "unsupported_depth"),
        (GOOD_JPEG[:30], "truncated"),
        (GOOD_JPEG[:2], "not_an_image"),
        (GOOD_JPEG[:400] + bytes(600), "truncated"),  # as a disk leaves it
        (fakes.encoded(flat("RGB", RED), "ICO"), "format_not_allowed"),
        (b"BMW, Audi and other cars", "not_an_image"),
        (b"P5 is the fifth pixel", "damaged"),
        (b"P3 9 9 255\n" + b"#\n" * 2000, "metadata_too_large"),
        (GOOD_JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "unsupported_depth"),
        (png(9, 9, 5, 0, b""), "damaged"),  # no such depth
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "damaged"),
        (fakes.encoded(flat("P", 0), "GIF")[:30], "truncated"),
    ],
)
def test_bad_files_have_a_reason(data, reason):
    with pytest.raises(decode.ImageError) as caught:
        decode.read(data, POLICY)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "error",
    [
        RecursionError("too deep"),
        OverflowError("too large"),
        SyntaxError("no such thing"),
        struct.error("bad format"),
        ZeroDivisionError(),
        AssertionError(),
        EOFError("no frame"),
        KeyError(7),
    ],
)
def test_whatever_a_decoder_raises_is_an_image_error(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(Image.core, "new", fail)
    with pytest.raises(decode.ImageError, match=f"damaged: {type(error).__name__}"):
        decode.read(fakes.encoded(fakes.pixels(0)), POLICY)


def test_a_machine_without_memory_is_no_fault_of_the_file(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Image.core, "new", fail)
    with pytest.raises(decode.ImageError, match="out_of_memory"):
        decode.read(fakes.encoded(fakes.pixels(0)), POLICY)


def test_a_file_may_be_so_large(monkeypatch):
    png = fakes.encoded(fakes.pixels(0))
    monkeypatch.setattr(sniff, "MAX_FILE_BYTES", len(png) - 1)
    with pytest.raises(decode.ImageError, match=r"file_too_large: 1 MiB of PNG"):
        decode.read(png, POLICY)


def test_an_image_error_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(decode.ImageError("damaged", "for a test")))
    assert (error.reason, str(error)) == ("damaged", "damaged: for a test")


@pytest.mark.parametrize(
    ("data", "passes", "fails"),
    [
        (fakes.encoded(flat("RGB", RED, (1024, 1024))), 5, 4),  # 4 bytes a pixel
        (fakes.encoded(flat("RGBA", (0, 0, 0, 0), (1024, 1024))), 9, 8),
        (fakes.encoded(flat("L", 0, (1024, 1024))), 2, 1),
        (fakes.encoded(flat("L", 0, (1024, 1024)), "JPEG"), 1, None),  # decoded at an eighth
        (fakes.encoded(flat("L", 0, (1024, 1024)), "JPEG", progressive=True), 3, 2),
        (fakes.encoded(flat("RGB", RED, (1024, 1024)), "WEBP"), 17, 16),
    ],
)
def test_the_memory_limit_is_that_of_the_decoder(data, passes, fails):
    decode.read(data, decode.ImagePolicy(size=16, memory_limit=passes))
    if fails:
        message = f"too_many_pixels: 1024 x 1024 .* need .* MiB, limit {fails} MiB"
        with pytest.raises(decode.ImageError, match=message):
            decode.read(data, decode.ImagePolicy(size=16, memory_limit=fails))


def scans_apart():
    """A JPEG header whose first scan holds one component of three, as Pillow cannot write it."""
    data = fakes.encoded(flat("RGB", RED, (6000, 6000)), "JPEG")
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + data[at + 14 :]


def test_a_jpeg_in_several_scans_is_held_whole():
    with pytest.raises(decode.ImageError, match="too_many_pixels: 6000 x 6000 RGB need"):
        decode.read(scans_apart(), decode.ImagePolicy(size=16, memory_limit=100))


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = fakes.encoded(flat("L", 90, (64, 64)), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(decode.ImageError, match=r"damaged: 2.* scans, limit 100"):
        decode.read(data[:-2] + data[at:-2] * 2000 + data[-2:], POLICY)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"size": 0}, "must lie in 1..4096 pixels, got 0"),
        ({"resize": "squash"}, "must be one of .*, got 'squash'"),
        ({"box_margin": -0.1}, "must lie in 0..10, got -0.1"),
        ({"box_margin": 10.5}, "must lie in 0..10, got 10.5"),
        ({"box_margin": float("nan")}, "must lie in 0..10, got nan"),
        ({"memory_limit": 0}, "must be at least 1 MiB, got 0"),
    ],
)
def test_wrong_policies_are_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        decode.ImagePolicy(**policy)


@pytest.mark.skipif(not fakes.SHARED_DATA.is_dir(), reason="needs the shared images")
def test_real_photographs_of_every_orientation():
    folder = fakes.SHARED_DATA / "badinput" / "exif-orientation"
    for kind in ("Landscape", "Portrait"):
        results = [
            decoded((folder / f"{kind}_{n}.jpg").read_bytes(), size=64).astype(int)
            for n in range(1, 9)
        ]
        for result in results[1:]:
            assert np.abs(result - results[0]).mean() < 6


def test_pillow_is_not_told_to_accept_truncation():
    from PIL import ImageFile

    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert Image.open(io.BytesIO(GOOD_JPEG)).format == "JPEG"


@pytest.mark.parametrize("size", [1, 17, 64])
@pytest.mark.parametrize("encoding", decode.ENCODINGS)
def test_pixels_come_back_from_every_encoding(encoding, size):
    pixels = fakes.pixels(4, size)
    data = decode.encode(pixels, encoding)
    assert data == decode.encode(pixels.copy(), encoding)
    back = decode.decode(data, encoding, size)
    assert back.shape == (size, size, 3) and back.dtype == np.uint8
    np.testing.assert_allclose(back.astype(int), pixels, atol=12 if encoding == "jpeg" else 0)


def test_raw_is_read_without_a_copy():
    data = decode.encode(fakes.pixels(4), "raw")
    assert np.shares_memory(decode.decode(data, "raw", 24), np.frombuffer(data, np.uint8))


def test_a_lower_quality_is_smaller():
    pixels = fakes.pixels(4, 64)
    assert len(decode.encode(pixels, "jpeg", 50)) < len(decode.encode(pixels, "jpeg"))


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"", "raw"),
        (bytes(24 * 24 * 3 + 1), "raw"),
        (b"", "png"),
        (decode.encode(fakes.pixels(0, 25), "png"), "png"),
        (decode.encode(fakes.pixels(0), "png")[:-40], "png"),
        (decode.encode(fakes.pixels(0), "png"), "jpeg"),
        (decode.encode(fakes.pixels(0), "jpeg"), "png"),
        (decode.encode(fakes.pixels(0), "jpeg")[:400], "jpeg"),
        (fakes.encoded(flat("L", 0, (24, 24))), "png"),
        (bomb(2**31 - 1, 2**31 - 1), "png"),
    ],
)
def test_foreign_bytes_are_damaged(data, encoding):
    with pytest.raises(decode.ImageError, match=r"^damaged: "):
        decode.decode(data, encoding, 24)


@pytest.mark.parametrize(
    ("pixels", "encoding", "quality", "message"),
    [
        (fakes.pixels(0), "bmp", 95, "must be one of .*, got 'bmp'"),
        (fakes.pixels(0), "jpeg", 0, "must lie in 1..100, got 0"),
        (fakes.pixels(0).astype(float), "raw", 95, "must be uint8 .* got float64"),
        (fakes.pixels(0)[..., 0], "png", 95, r"must be uint8 .* got uint8 \(24, 24\)"),
    ],
)
def test_wrong_pixels_and_encodings_are_refused(pixels, encoding, quality, message):
    with pytest.raises(ValueError, match=message):
        decode.encode(pixels, encoding, quality)


def test_an_unknown_encoding_cannot_be_decoded():
    with pytest.raises(ValueError, match=r"must be one of .*, got 'webp'"):
        decode.decode(b"", "webp", 24)


ILLUSTRATIONS = fakes.SHARED_DATA / "illus20"


@pytest.mark.skipif(not ILLUSTRATIONS.is_dir(), reason="needs the shared illustrations")
def test_no_cut_out_illustration_turns_black():
    black = []  # without their alpha 143 are nothing else
    for path in sorted(ILLUSTRATIONS.rglob("*.png")):
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            transparent = image.has_transparency_data
        if transparent and decode.preprocess(data, POLICY).mean() < 10:
            black.append(path.name)
    assert not black


# --- Memory and damage, measured in a process of its own ---


def written(path, *parts):
    """Writes a file of bytes, bytes a number of times, and zeros where a part is their number."""
    with path.open("wb") as file:
        for part in parts:
            if isinstance(part, int):
                file.seek(part, io.SEEK_CUR)
            elif isinstance(part, tuple):
                file.writelines([part[0]] * part[1])
            else:
                file.write(part)
        file.truncate()
    return path


def png_with(kind, start=b""):
    """A PNG with a block of 100 MB before its pixels."""
    good = fakes.encoded(fakes.pixels(0))
    size = len(start) + 100_000_000
    return good[:33], size.to_bytes(4, "big") + kind + start, 100_000_000, bytes(4), good[33:]


def jpeg_with(marker, start):
    """A JPEG with 1600 segments of 64 KB, 100 MB in all."""
    segment = (b"\xff" + marker + b"\xff\xff" + start, 65533 - len(start))
    return GOOD_JPEG[:2], *(segment * 1600), GOOD_JPEG[2:]


def jpeg_of(width, height):
    at = GOOD_JPEG.index(b"\xff\xc0") + 5
    return GOOD_JPEG[:at] + struct.pack(">HH", height, width) + GOOD_JPEG[at + 4 :]


def tiff_with(tag):
    """A TIFF with a value of 100 MB."""
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries.append((tag, 1, 100_000_000, 8))
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *e) for e in entries
    )
    return b"II*\0" + struct.pack("<I", 100_000_008), 100_000_000, directory + bytes(4)


def inflated(text):
    """A small PNG with texts that grow a thousandfold and take four bytes a character."""
    body = b"k\0\1\0\0\0" + zlib.compress(text.encode())
    return png(8, 8, 8, 0, zlib.compress(bytes(72)), *[chunk(b"iTXt", body)] * 60)


def compressed(row, count):
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(row) for _ in range(count)), packer.flush()])


HOSTILE = {
    "20000 x 20000 PNG, 1 bit": ("too_many_pixels", bomb(20_000, 20_000)),
    "12000 x 12000 PNG, 1 bit": ("too_many_pixels", bomb(12_000, 12_000)),
    "60000 x 60000 PNG": ("too_many_pixels", bomb(60_000, 60_000, 8, 2)),
    "largest PNG": ("too_many_pixels", bomb(2**31 - 1, 2**31 - 1, 8, 6)),
    "1 x 100 million PNG": ("too_many_pixels", bomb(1, 100_000_000, 8)),
    "65500 x 65500 JPEG": ("too_many_pixels", jpeg_of(65500, 65500)),
    "30000 x 30000 JPEG": ("ok", jpeg_of(30_000, 30_000)),
    "65535 x 65535 GIF": ("too_many_pixels", b"GIF89a" + b"\xff" * 4 + b"\0\0\0,"
                          + bytes(4) + b"\1\0\1\0\0\2\2\x44\1\0;"),
    "16383 x 16383 WEBP": ("too_many_pixels", b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f"
                           + (16382 | 16382 << 14).to_bytes(4, "little") + bytes(12)),
    "30000 x 30000 BMP": ("too_many_pixels", b"BM" + bytes(8) + struct.pack(
        "<IIiiHH24x", 54, 40, 30_000, 30_000, 1, 24) + bytes(99)),
    "9999 x 9999 PPM": ("too_many_pixels", b"P6 9999 9999 255\n" + bytes(99)),
    "plain PPM": ("too_many_pixels", b"P3 2000 2000 255\n" + b"1 " * 99),
    "1 x 5000 PNG": ("ok", fakes.encoded(flat("RGB", RED, (1, 5000)))),
    "5000 x 1 PNG": ("ok", fakes.encoded(flat("RGB", RED, (5000, 1)))),
    "PNG of long texts": ("metadata_too_large", inflated("x" * 1_000_000 + "\U0001f600")),
    "JPEG with EXIF": ("metadata_too_large", *jpeg_with(b"\xe1", b"Exif\0\0")),
    "JPEG with ICC": ("metadata_too_large", *jpeg_with(b"\xe2", b"ICC_PROFILE\0\1\1")),
    "JPEG with comments": ("metadata_too_large", GOOD_JPEG[:2], (b"\xff\xfe\0\2", 4_000_000)),
    "JPEG with junk": ("metadata_too_large", GOOD_JPEG[:20], 100_000_000, GOOD_JPEG[20:]),
    "PNG with EXIF": ("metadata_too_large", *png_with(b"eXIf")),
    "PNG with ICC": ("metadata_too_large", *png_with(b"iCCP", b"x\0\0")),
    "PNG with zTXt": ("metadata_too_large", *png_with(b"zTXt", b"x\0\0")),
    "PNG with iTXt": ("metadata_too_large", *png_with(b"iTXt", b"x\0\0\0\0\0")),
    "PNG with a private block": ("metadata_too_large", *png_with(b"prVt")),
    "GIF with a comment": ("metadata_too_large", b"GIF89a\1\0\1\0\0\0\0!\xfe",
                           (b"\xff" + b"x" * 255, 400_000)),
    "WEBP with EXIF": ("file_too_large", b"RIFF\xff\xff\xff\5WEBPVP8X", 100_000_000),
    "TIFF with ICC": ("metadata_too_large", *tiff_with(34675)),
    "TIFF with layers": ("metadata_too_large", *tiff_with(37724)),
    "TIFF with millions of strips": ("metadata_too_large", *tiff_with(324)),
    "PPM with a comment": ("metadata_too_large", b"P6 #", (b"x" * 1000, 100_000)),
    "PNG with 100 MB after its pixels": ("ok", fakes.encoded(fakes.pixels(0)), 100_000_000),
}  # fmt: skip

# What is just accepted: nearly all that the limit allows.
LARGEST = {
    "PNG, 14000 x 14000 grey": lambda: png(14_000, 14_000, 8, 0, compressed(bytes(14_001), 14_000)),
    "PNG, 10000 x 10000, 1 bit": lambda: png(
        10_000, 10_000, 1, 0, compressed(bytes(1251), 10_000)
    ),
    "PNG, 5000 x 5000 RGBA": lambda: png(5000, 5000, 8, 6, compressed(bytes(20_001), 5000)),
    "PNG, 4500 x 4500, palette and alpha": lambda: png(
        4500, 4500, 8, 3, compressed(bytes(4501), 4500),
        chunk(b"PLTE", bytes(6)), chunk(b"tRNS", b"\x80\x70"),
    ),
    "JPEG, 10000 x 10000 grey": lambda: fakes.encoded(flat("L", 90, (10_000, 10_000)), "JPEG"),
    "JPEG, 4900 x 4900 CMYK, progressive": lambda: fakes.encoded(
        flat("CMYK", (9, 99, 33, 5), (4900, 4900)), "JPEG", progressive=True
    ),
    "WEBP, 3500 x 3500": lambda: fakes.encoded(
        flat("RGB", RED, (3500, 3500)), "WEBP", lossless=True, method=0, quality=0
    ),
    "TIFF, 4000 x 4000 in one strip": lambda: fakes.encoded(
        flat("RGB", RED, (4000, 4000)), "TIFF", compression="tiff_lzw", tiffinfo={278: 4000}
    ),
}  # fmt: skip


def run_here(*arguments):
    """Runs this file as a program and returns what it says."""
    finished = fakes.run_module("tests.records.image.decode_test", *arguments)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout)


def assert_modest(said):
    assert said["peak"] < MAX_PEAK
    assert max(said["seconds"].values()) < MAX_SECONDS


@NEW_PILLOW
def test_hostile_files_are_refused_in_little_memory(tmp_path):
    paths = [written(tmp_path / name, *parts) for name, (_, *parts) in HOSTILE.items()]
    said = run_here("read", *paths)
    assert said["outcomes"] == {name: reason for name, (reason, *_) in HOSTILE.items()}
    assert_modest(said)


def test_the_largest_files_that_are_read_need_no_more(tmp_path):
    paths = [written(tmp_path / name, make()) for name, make in LARGEST.items()]
    said = run_here("read", *paths)
    assert said["outcomes"] == dict.fromkeys(LARGEST, "ok")
    assert_modest(said)


def test_damage_of_every_kind_is_an_image_error():
    said = run_here("fuzz", 400, 0)
    assert sum(said["outcomes"].values()) == 400
    assert said["outcomes"].keys() >= {"ok", "damaged", "truncated"}
    assert_modest(said)


def seeds():
    """Small files of every format and most of its kinds."""
    picture = Image.fromarray(fakes.pixels(7, 96)).resize((96, 72))
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    grey = picture.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"save_all": True, "append_images": [alpha.rotate(90), alpha.rotate(180)]}
    kinds = [
        (picture, "JPEG", {"exif": exif}),
        (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (grey.resize((400, 300)), "JPEG", {"restart_marker_blocks": 4}),
        (picture, "MPO", {"save_all": True, "append_images": [picture]}),
        (picture, "PNG", {"exif": exif}),
        (alpha, "PNG", more),
        (picture.quantize(16), "PNG", {"transparency": 3}),
        (alpha.convert("LA"), "PNG", {}),
        (flat("I;16", 3000), "PNG", {}),
        (picture, "GIF", more),
        (grey, "GIF", {"transparency": 3}),
        (picture, "WEBP", {}),
        (alpha, "WEBP", {"lossless": True}),
        (picture, "WEBP", more),
        (picture, "TIFF", {"exif": exif}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
        (picture, "TIFF", {"compression": "jpeg"}),
        (alpha, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (picture.convert("1"), "TIFF", {"compression": "group4"}),
        (picture.quantize(16), "TIFF", more),
        (picture, "BMP", {}),
        (picture.quantize(16), "BMP", {}),
        (picture, "PPM", {}),
    ]
    plain = b"P3 6 6 255\n" + b" ".join(b"%d" % (7 * n % 256) for n in range(108))
    return [*(fakes.encoded(p, name, **options) for p, name, options in kinds), plain]


def mutated(data, others, rng):
    """Returns a file with bytes flipped, cut off, put in, or from another file."""
    data = bytearray(data)
    # Most of what can go wrong is in the header.
    places = [rng.randrange(min(len(data), rng.choice((64, 512, len(data))))) for _ in range(9)]
    kind = rng.randrange(5)
    if kind == 0:
        for at in places[: rng.randint(1, 9)]:
            data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[places[0] :]
    elif kind == 2:
        del data[places[0] : places[0] + rng.randint(1, 99)]
    elif kind == 3:
        extreme = rng.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\1\0\0"))
        data[places[0] : places[0] + 4] = extreme
    else:
        other = rng.choice(others)
        at = rng.randrange(len(other))
        data[places[0] :] = other[at:]
    return bytes(data)


def peak():
    """The most memory this process ever had, in MB; ru_maxrss would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def outcome_of(data, policy, box=None):
    started = time.perf_counter()
    try:
        decode.read(data, policy, box)
        return "ok", time.perf_counter() - started
    except decode.ImageError as error:
        return error.reason, time.perf_counter() - started


def read_all(paths):
    outcomes, seconds = {}, {}
    for path in map(Path, paths):
        data = path.read_bytes()
        outcomes[path.name], seconds[path.name] = outcome_of(data, decode.ImagePolicy())
        del data
    return {"outcomes": outcomes, "seconds": seconds, "peak": peak()}


def fuzz(count, seed):
    files = seeds()
    before = peak()
    outcomes, slowest = {}, 0.0
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        policy = decode.ImagePolicy(size=32, resize=rng.choice(decode.RESIZE_MODES))
        box = rng.choice((None, (10, 10, 60, 50)))
        result, seconds = outcome_of(mutated(rng.choice(files), files, rng), policy, box)
        outcomes[result] = outcomes.get(result, 0) + 1
        slowest = max(slowest, seconds)
    said = {"outcomes": outcomes, "seconds": {"slowest": slowest}}
    return {**said, "peak": peak(), "growth": peak() - before}


def limit_this_process():
    """Stops it when it hangs or takes memory without end."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (250, 250))


if __name__ == "__main__":
    limit_this_process()
    task, *arguments = sys.argv[1:]
    said = read_all(arguments) if task == "read" else fuzz(*map(int, arguments))
    print(json.dumps(said))
