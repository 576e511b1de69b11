"""The short way gives what Pillow gives, or nothing."""

import io

import numpy as np
import pytest
from PIL import Image

from records.image import decode, jpeg
from tests import fakes


def by_pillow(data, size):
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (size, size))
        return np.asarray(image.convert("RGB"))


def photo(width, height, **options):
    rng = np.random.default_rng(width * height)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return fakes.encoded(picture.convert(options.pop("mode", "RGB")), "JPEG", **options)


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (7, 9), (64, 64), (65, 127), (128, 128), (200, 130), (256, 256), (517, 1031)],
)
def test_pixels_are_those_of_pillow(width, height, subsampling, quality):
    data = photo(width, height, subsampling=subsampling, quality=quality)
    for size in (16, 64, 300):
        np.testing.assert_array_equal(jpeg.decode(data, size), by_pillow(data, size))


@pytest.mark.parametrize(
    "options",
    [{"mode": "L"}, {"icc_profile": b"x" * 300}, {"comment": b"x"}, {"optimize": True},
     {"restart_marker_blocks": 2}, {"keep_rgb": True}],
)  # fmt: skip
def test_harmless_extras_stay_plain(options):
    data = photo(150, 150, **options)
    np.testing.assert_array_equal(jpeg.decode(data, 64), by_pillow(data, 64))


def test_what_is_not_plain_or_not_whole_is_left_to_pillow():
    good = photo(100, 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (
        b"",
        b"\xff\xd8",
        b"GIF89a" + good,
        good[:-200],
        good[:60],
        photo(100, 80, progressive=True),
        photo(100, 80, exif=exif),
        photo(100, 80, mode="CMYK"),
        good.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),  # 12 bits
        good.replace(b"\xff\xc0\0\x11\x08\0\x50", b"\xff\xc0\0\x11\x08\xff\xff"),  # 65535 high
    ):
        assert jpeg.decode(data, 64) is None


def test_what_takes_too_much_is_left_to_pillow():
    data = photo(1000, 1000)
    assert jpeg.decode(data, 500, limit=10 << 20).shape == (500, 500, 3)
    assert jpeg.decode(data, 500, limit=1 << 20) is None


@pytest.mark.skipif(not fakes.SHARED_DATA.is_dir(), reason="needs the shared images")
def test_real_files_are_decoded_as_pillow_does():
    plain = 0
    for folder in ("facemask/with_mask", "cardamage", "badinput"):
        for path in sorted((fakes.SHARED_DATA / folder).rglob("*.jp*g")):
            data = path.read_bytes()
            pixels = jpeg.decode(data, 64)
            if pixels is not None:
                plain += 1
                np.testing.assert_array_equal(pixels, by_pillow(data, 64), err_msg=str(path))
    assert plain > 800


@pytest.mark.parametrize(("height", "fits"), [(64, True), (63, False), (65, False)])
def test_decode_into_takes_only_what_fits(height, fits):
    pixels = np.random.default_rng(0).integers(0, 256, (height, 64, 3), np.uint8)
    data, out = decode.encode(pixels, "jpeg"), np.zeros((65, 64, 3), np.uint8)
    assert jpeg.decode_into(data, out[:64]) is fits
    if fits:
        np.testing.assert_array_equal(out[:64], decode.decode(data, "jpeg", 64))
    assert not out[64].any()  # nothing is written beyond
    assert jpeg.decode_into(data[:-40], out[:64]) is False
