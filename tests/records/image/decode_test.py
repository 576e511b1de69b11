"""The decode policy, case by case."""

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image

from records.image import decode
from tests import fakes
from tests.records.image.files import RED, WHITE, bomb, chunk, flat, grey_tiff, png

POLICY = decode.ImagePolicy(size=16)


def decoded(data, **policy):
    return decode.preprocess(data, decode.ImagePolicy(**{"size": 16, **policy}))


NEW_PILLOW = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow (Python 3.10) does it otherwise"
)


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


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"size": 0}, "must lie in 1..4096, got 0"),
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


@pytest.mark.slow
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
