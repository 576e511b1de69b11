"""The colour map against its formulas, NumPy and TensorFlow Addons."""

import numpy as np
import pytest
from scipy import stats

from datapipe.augment import colour
from datapipe.augment.options import AugmentOptions
from models.training import addons
from records.common.backend import tf
from tests.datapipe.ways import WAYS

N, SIZE = 8, 12
RNG = np.random.default_rng(0)
IMAGES = RNG.random((N, SIZE, SIZE, 3), np.float32)
U = RNG.random((N, 8), np.float32)
ONES = np.ones(N, np.float32)
LUMA = np.array([0.299, 0.587, 0.114])
ALL = AugmentOptions(
    brightness_range=(0.6, 1.4),
    contrast_range=(0.5, 1.5),
    saturation_range=(0.2, 1.8),
    hue_range=90,
    channel_shift_range=30,
)


def maps(options, u, strength):
    u, strength = tf.constant(u), tf.constant(strength)
    return colour.maps(colour.COLOUR.sample(options, u, strength, SIZE))


def changed(options, u=U, images=IMAGES, strength=ONES):
    matrix, offset = maps(options, u, strength)
    return colour.apply(tf.constant(images), matrix, offset).numpy()


def columns(**values):
    """Returns uniform numbers of 0.5 but for some columns."""
    u = np.full((N, 8), 0.5, np.float32)
    for name, value in values.items():
        u[:, int(name[1:])] = value
    return u


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same(way):
    def run(images, u, strength):
        return colour.COLOUR.apply(ALL, images, colour.COLOUR.sample(ALL, u, strength, SIZE))

    result = WAYS[way](run)(tf.constant(IMAGES), tf.constant(U), tf.constant(ONES))
    np.testing.assert_allclose(result, changed(ALL), atol=1e-6)
    assert result.dtype == tf.float32 and result.shape == IMAGES.shape


def test_the_middle_of_all_ranges_changes_no_bit():
    np.testing.assert_array_equal(changed(ALL, columns()), IMAGES)


def test_strength_0_changes_no_bit():
    np.testing.assert_array_equal(changed(ALL, strength=np.zeros(N, np.float32)), IMAGES)


def test_without_options_nothing_changes():
    np.testing.assert_array_equal(changed(AugmentOptions()), IMAGES)


@pytest.mark.parametrize(
    ("fields", "u", "expected"),
    [
        ({"brightness_range": (0.5, 2.5)}, columns(c3=0.25), IMAGES),
        ({"brightness_range": (0.5, 2.5)}, columns(c3=0), IMAGES / 2),
        ({"brightness_range": (2, 2)}, U, IMAGES * 2),
        ({"contrast_range": (0, 2)}, columns(c4=0), np.full_like(IMAGES, 0.5)),
        ({"contrast_range": (0, 2)}, columns(c4=0.75), 0.5 + 1.5 * (IMAGES - 0.5)),
        (
            {"saturation_range": (0, 2)},
            columns(c5=0),
            np.repeat((IMAGES @ LUMA)[..., None], 3, axis=-1),
        ),
        ({"channel_shift_range": 51}, columns(c0=1), IMAGES + np.array([0.2, 0, 0])),
        ({"channel_shift_range": 51}, columns(c1=0, c2=0.75), IMAGES + np.array([0, -0.2, 0.1])),
    ],
)
def test_formulas(fields, u, expected):
    result = changed(AugmentOptions(**fields), u)
    np.testing.assert_allclose(result, np.clip(expected, 0, 1), atol=1e-6)


def test_contrast_comes_after_brightness_and_shifts_come_last():
    options = AugmentOptions(
        brightness_range=(0.5, 0.5), contrast_range=(2, 2), channel_shift_range=51
    )
    expected = 0.5 + 2 * (IMAGES * 0.5 - 0.5) + 0.2
    result = changed(options, columns(c0=1, c1=1, c2=1))
    np.testing.assert_allclose(result, np.clip(expected, 0, 1), atol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Addons falls back to Python, and says so
def test_hue_and_saturation_equal_tensorflow_addons():
    try:
        tfa = addons.load("this test")
    except addons.AddonsMissingError as error:
        pytest.skip(str(error))
    soft = 0.4 + 0.2 * IMAGES  # far from the ends, where the two clip at different moments
    for u in (0.0, 0.3, 0.9):
        options = AugmentOptions(hue_range=90, saturation_range=(0.7, 0.7))
        expected = tfa.image.adjust_hsv_in_yiq(
            tf.constant(soft), delta_hue=(2 * u - 1) * np.pi / 2, scale_saturation=0.7
        )
        np.testing.assert_allclose(changed(options, columns(c6=u), soft), expected, atol=1e-5)


def test_hue_and_saturation_keep_greys_and_luma():
    options = AugmentOptions(hue_range=180, saturation_range=(0, 3))
    grey = np.repeat(IMAGES[..., :1], 3, axis=-1)
    np.testing.assert_allclose(changed(options, images=grey), grey, atol=2e-6)
    matrix, offset = maps(options, U, ONES)
    np.testing.assert_allclose(LUMA @ matrix.numpy(), np.tile(LUMA, (N, 1)), atol=2e-6)
    assert not offset.numpy().any()


def test_the_result_is_clipped():
    result = changed(AugmentOptions(contrast_range=(9, 9)))
    assert result.min() == 0 and result.max() == 1


def test_factors_are_uniform_between_their_limits():
    u = RNG.random((4000, 8), np.float32)
    options = AugmentOptions(brightness_range=(0.4, 1.1))
    matrix, _ = maps(options, u, tf.ones(4000))
    factors = matrix.numpy()[:, 0, 0]
    assert stats.kstest(factors, stats.uniform(0.4, 0.7).cdf).statistic < 0.03
    _, offset = maps(AugmentOptions(channel_shift_range=51), u, tf.ones(4000))
    for shift in offset.numpy().T:
        assert stats.kstest(shift, stats.uniform(-0.2, 0.4).cdf).statistic < 0.03
    assert np.abs(np.corrcoef(offset.numpy().T) - np.eye(3)).max() < 0.06


def test_strength_scales_what_is_above_or_below_1():
    strength = np.linspace(0, 2, N).astype(np.float32)
    options = AugmentOptions(brightness_range=(0.7, 0.7), channel_shift_range=20)
    matrix, offset = maps(options, columns(c0=1), strength)
    np.testing.assert_allclose(matrix[:, 1, 1], 1 - 0.3 * strength, atol=1e-6)
    np.testing.assert_allclose(offset[:, 0], 20 / 255 * strength, atol=1e-6)
    wide = AugmentOptions(hue_range=80)
    half = maps(wide, U, ONES / 2)[0]
    narrow = maps(AugmentOptions(hue_range=40), U, ONES)[0]
    np.testing.assert_allclose(half, narrow, atol=1e-6)


def test_half_precision_stays_half_precision():
    half = tf.constant(IMAGES, tf.float16)
    matrix, offset = maps(ALL, U, ONES)
    result = colour.apply(half, matrix, offset)
    assert result.dtype == tf.float16
    np.testing.assert_allclose(result, changed(ALL), atol=0.01)


PLAIN = colour.Colours(1.0, 1.0, 1.0, 0.0, np.zeros(3))


@pytest.mark.parametrize(
    ("options", "values", "said"),
    [
        ({"brightness_range": (0.5, 2)}, {"brightness": 1.251}, ["brightness 1.25"]),
        (
            {"contrast_range": (1, 1), "saturation_range": (0, 1)},
            {"saturation": 0.5},
            ["contrast 1.00", "saturation 0.50"],
        ),
        ({"hue_range": 20}, {"hue": np.radians(-12.0)}, ["hue -12°"]),
        ({"channel_shift_range": 9}, {"shift": np.array([5, 0.2, -7]) / 255}, ["channels +5 0 -7"]),
        ({}, {}, []),
    ],
)
def test_descriptions(options, values, said):
    given = PLAIN._replace(**values)
    assert list(colour.COLOUR.describe(AugmentOptions(**options), given, SIZE)) == said
