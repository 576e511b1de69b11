"""The decode policy, case by case."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from records import images
from tests import fakes

POLICY = images.ImagePolicy(size=16)
RED = (200, 40, 30)


def decoded(data, **policy):
    return images.preprocess(data, images.ImagePolicy(**{"size": 16, **policy}))


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
        (flat("LA", (0, 0)), "PNG", (255, 255, 255)),
    ],
)
def test_modes(picture, file_format, expected):
    result = decoded(fakes.encoded(picture, file_format))
    assert result.shape == (16, 16, 3) and result.dtype == np.uint8
    tolerance = 3 if file_format in ("JPEG", "WEBP") else 1
    np.testing.assert_allclose(result.reshape(-1, 3).astype(int), [expected] * 256, atol=tolerance)


def test_palette_with_a_transparent_colour():
    picture = flat("P", 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    data = fakes.encoded(picture, "PNG", transparency=0)
    assert (decoded(data) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_stored_rotations_all_look_the_same(orientation, file_format):
    upright = Image.fromarray(fakes.pixels(5, 40)).resize((40, 24))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse transposition of each tag
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98} if file_format == "JPEG" else {}
    data = fakes.encoded(stored, file_format, exif=exif, **options)
    expected = decoded(fakes.encoded(upright)).astype(int)
    assert np.abs(decoded(data).astype(int) - expected).mean() < 2.5


def test_a_broken_exif_block_says_nothing():
    data = fakes.encoded(fakes.pixels(1), "JPEG", exif=b"Exif\0\0garbage garbage")
    assert decoded(data).shape == (16, 16, 3)


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


def test_content_decides_not_the_name():
    assert decoded(fakes.encoded(flat("RGB", RED), "GIF")).shape == (16, 16, 3)


def bomb(width, height):
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x01\0\0\0\0"
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


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
        (fakes.encoded(flat("RGB", RED), "ICO"), "not_an_image"),  # a format that is not offered
    ],
)
def test_bad_files_have_a_reason(data, reason):
    with pytest.raises(images.ImageError) as caught:
        images.preprocess(data, POLICY)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"size": 0}, "must lie in 1..4096 pixels, got 0"),
        ({"resize": "squash"}, "must be one of .*, got 'squash'"),
    ],
)
def test_wrong_policies_are_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        images.ImagePolicy(**policy)


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
