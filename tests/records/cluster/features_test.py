"""Features say what they are named after, whatever the batch, the side and the encoding."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from records.cluster import features
from records.image import decode
from tests.records import pictures

SIDE = 16


def statistics(*of: np.ndarray) -> dict[str, np.ndarray]:
    found = features.extract([np.stack(of)])
    return {name: found.column(name) for name in features.STATISTICS}


def plain(*colour: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


# --- hue, lightness, saturation ---


def test_hues_are_those_of_the_standard_library():
    pixels = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    pixels[:4] = [(0, 0, 0), (255, 255, 255), (9, 9, 9), (255, 0, 1)]  # greys, a hue just below 1
    expected = [colorsys.rgb_to_hls(*(pixel / 255)) for pixel in pixels]
    np.testing.assert_allclose(features._hls(pixels.T).T, expected, atol=1e-5)


def test_a_histogram_is_the_share_of_each_part_of_each_channel():
    half_red = plain(255, 0, 0)
    half_red[: SIDE // 2] = (0, 128, 0)
    hue, lightness, saturation = features.extract([half_red[None]]).histogram.reshape(3, -1)
    bins = features.BINS
    assert hue[0] == hue[bins // 3] == 0.5
    assert lightness[bins // 2] == lightness[bins // 4] == 0.5
    assert saturation[-1] == 1 and hue.sum() == lightness.sum() == 1


# --- statistics ---


def test_one_flat_colour_has_no_texture():
    found = statistics(plain(255, 255, 255), plain(255, 0, 0), plain(0, 0, 0))
    for name in features.TEXTURE:
        np.testing.assert_array_equal(found[name], 0)
    np.testing.assert_array_equal(found["white"], [1, 0, 0])
    np.testing.assert_array_equal(found["black"], [0, 0, 1])
    np.testing.assert_array_equal(found["vivid"], [0, 1, 0])
    np.testing.assert_array_equal(found["saturation"], [0, 1, 0])
    np.testing.assert_allclose(found["lightness"], [1, 0.5, 0])
    np.testing.assert_array_equal(found["border"], 1)


def test_steps_between_neighbours_are_soft_or_not():
    columns = np.arange(SIDE)[:, None] * np.ones(3, int)
    steep, soft, shade = (plain(0, 0, 0) + (columns % 2 * step).astype(np.uint8) for step in
                          (200, 10, 2))  # fmt: skip
    found = statistics(steep, soft, shade)
    across = 0.5  # of all pairs; the other half lie one above the other and are equal
    np.testing.assert_allclose(found["soft"], [0, across, 0])
    np.testing.assert_allclose(found["fine"], [0, 0, 0])  # there is none along the columns


def test_a_smooth_shade_has_no_fine_unevenness():
    ramp = np.arange(SIDE, dtype=np.uint8)
    shade = np.repeat((5 * (ramp[:, None] + ramp))[..., None], 3, axis=2)
    noisy = shade + np.random.default_rng(0).integers(0, 7, shade.shape, dtype=np.uint8)
    found = statistics(shade, noisy)
    assert found["fine"][0] == 0 and found["fine"][1] > 0.6


def test_of_eight_colours_none_is_rare():
    eight = plain(0, 0, 0)
    eight[:, :, 0] = np.arange(SIDE) // 2 * 32
    nine = eight.copy()
    nine[0, 0] = (0, 255, 0)
    found = statistics(eight, nine)
    np.testing.assert_allclose(found["rare"], [0, 1 / SIDE**2])
    np.testing.assert_allclose(found["mixture"][0], 3 / 8)  # 3 bits of the 8 of 256 pixels


def test_white_around_a_photograph_changes_what_is_its_subject_but_little():
    whole = pictures.photo(1, 64)
    on_white = np.full_like(whole, 255)
    on_white[16:48, 16:48] = whole[16:48, 16:48]
    found = statistics(whole, on_white)
    assert abs(found["subject_soft"][0] - found["subject_soft"][1]) < 0.1
    assert found["soft"][1] < found["soft"][0] / 2
    assert (found["subject_fine"] > 0.5).all()


def test_a_subject_of_a_few_pixels_says_little():
    speck = plain(255, 255, 255)
    speck[5, 5:7] = (0, 0, 0), (10, 10, 10)
    assert 0 < statistics(speck)["subject_soft"][0] < 0.05


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_photographs_are_photo_like_and_drawings_are_not(encoding):
    found = [
        decode.decode(decode.encode(image, encoding), encoding, pictures.SIDE)
        for image in pictures.stacked(20, 20)
    ]
    likeness = features.extract([np.stack(found)]).photo_likeness()
    assert likeness[:20].max() + 0.1 < likeness[20:].min()


# --- sides and batches ---


@pytest.mark.parametrize("side", [1, 2, 3, 5, 63, 129])
def test_any_side_gives_shares(side):
    batch = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    found = features.extract([batch])
    assert ((found.statistics >= 0) & (found.statistics <= 1)).all()
    np.testing.assert_allclose(found.histogram.sum(1), 3)


def test_large_pictures_are_measured_at_about_64_pixels():
    small = pictures.photo(3, 64)
    large = np.asarray(Image.fromarray(small).resize((192, 192), Image.Resampling.NEAREST))
    found = [features.extract([image[None]]) for image in (small, large)]
    np.testing.assert_array_equal(found[0].statistics, found[1].statistics)
    np.testing.assert_array_equal(found[0].histogram, found[1].histogram)


def test_features_do_not_depend_on_the_batch():
    batch = pictures.stacked(5, 6)
    whole = features.extract([batch])
    parts = features.extract([batch[:4], batch[4:]])
    np.testing.assert_array_equal(whole.statistics, parts.statistics)
    np.testing.assert_array_equal(whole.histogram, parts.histogram)
    np.testing.assert_array_equal(whole.take(np.array([3])).statistics, whole.statistics[3:4])


def test_no_picture_has_no_features():
    found = features.extract([])
    assert len(found) == len(found.photo_likeness()) == 0


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), "images must be uint8 .*float32"),
        (np.zeros((8, 8, 3), np.uint8), r"images must be uint8 .*\(8, 8, 3\)"),
    ],
)
def test_what_cannot_be_is_refused(batch, said):
    with pytest.raises(ValueError, match=said):
        features.extract([batch])
