"""Erased boxes: how large, of what shape, where, how often."""

import numpy as np
import pytest
from scipy import stats

from datapipe.augment import erasing
from datapipe.augment.erasing import ERASING
from datapipe.augment.options import AugmentOptions
from records.common.backend import tf
from tests.datapipe.ways import WAYS

N = 4000
RNG = np.random.default_rng(0)
U = RNG.random((N, 8), np.float32)
U[0], U[1] = 0, np.float32(1 - 2**-24)  # the ends of the unit interval
ALWAYS = AugmentOptions(erasing_probability=1)


def boxes(options, size, strength=1.0):
    return ERASING.sample(options, tf.constant(U), tf.fill([N], strength), size).box.numpy()


def sides(found):
    return (found[:, 2:] - found[:, :2]).T


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same(way):
    images = RNG.random((N // 100, 9, 9, 3), np.float32)
    options = AugmentOptions(erasing_probability=0.7, erasing_value=51)

    def run(images, u, strength):
        return ERASING.apply(options, images, ERASING.sample(options, u, strength, 9))

    given = (tf.constant(images), tf.constant(U[: len(images)]), tf.ones(len(images)))
    result = WAYS[way](run)(*given).numpy()
    np.testing.assert_array_equal(result, run(*given))
    erased = (result == np.float32(0.2)).all(-1)
    np.testing.assert_array_equal(result[~erased], images[~erased])
    counted = np.prod(sides(boxes(options, 9)), axis=0)[: len(images)]
    np.testing.assert_array_equal(erased.sum((1, 2)), counted)


@pytest.mark.parametrize("area", [(0.02, 0.33), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_boxes_are_whole_pixels_inside_the_picture_and_of_the_area_asked(size, area):
    found = boxes(AugmentOptions(erasing_probability=1, erasing_area=area), size)
    np.testing.assert_array_equal(found, np.round(found))
    assert found.min() >= 0 and found.max() <= size
    height, width = sides(found)
    assert height.min() >= 1 and width.min() >= 0
    wanted = (area[0] + U[:, 1] * (area[1] - area[0])) * size**2
    assert np.abs(height * width - wanted).max() <= size / 2 + 0.001


def test_the_aspect_is_log_uniform_where_it_fits():
    # Below an area of 0.3 every aspect fits.
    options = AugmentOptions(erasing_probability=1, erasing_area=(0.05, 0.3))
    height, width = sides(boxes(options, 4096))
    aspect = np.log(height / width) / np.log(1 / 0.3)
    assert stats.kstest(aspect, stats.uniform(-1, 2).cdf).statistic < 0.03
    assert np.abs(aspect).max() < 1.002


def test_a_box_that_does_not_fit_gets_the_full_side():
    options = AugmentOptions(erasing_probability=1, erasing_area=(0.8, 0.8))
    height, width = sides(boxes(options, 100))
    long = np.abs(U[:, 2] - 0.5) > 0.2
    assert (np.maximum(height, width)[long] == 100).all()
    assert (np.minimum(height, width)[long] == 80).all()


def test_every_place_is_as_likely_as_the_others():
    found = boxes(AugmentOptions(erasing_probability=1, erasing_area=(0.25, 0.25)), 6)
    for place, side in zip(found.T[:2], sides(found), strict=True):
        for length in (2, 3, 4):
            places = place[side == length].astype(int)
            counts = np.bincount(places)
            assert len(counts) == 6 - length + 1
            assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("probability", "strength", "share"),
    [(0, 1, 0), (0.3, 1, 0.3), (0.3, 2, 0.6), (0.9, 2, 1), (1, 1, 1), (1, 0, 0)],
)
def test_strength_scales_the_probability(probability, strength, share):
    found = boxes(AugmentOptions(erasing_probability=probability), 64, float(strength))
    erased = found.any(axis=1)
    assert abs(erased.mean() - share) <= (0.02 if 0 < share < 1 else 0)


def test_what_is_inside():
    mask = erasing.inside(tf.constant([[1.0, 0, 3, 2], [0, 0, 0, 0]]), 4).numpy()
    assert mask.shape == (2, 4, 4, 1) and mask.sum() == 4
    assert mask[0, 1:3, :2].all()


@pytest.mark.parametrize(
    ("box", "said"), [((0, 0, 6, 2), ["erased 12 %"]), ((0, 0, 0, 0), [])], ids=["some", "none"]
)
def test_descriptions(box, said):
    assert list(ERASING.describe(ALWAYS, erasing.Boxes(np.array(box)), 10)) == said
