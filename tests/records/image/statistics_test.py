"""Brightness, contrast and colourfulness beside their definitions."""

import numpy as np
import pytest

from records.image import statistics
from tests import fakes


def directly(image):
    """Returns the three values as the papers write them."""
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    rg, yb = red - green, (red + green) / 2 - blue
    spread = np.sqrt(rg.var() + yb.var())
    return [luma.mean(), luma.std(), spread + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2)]


def plain(*colour):
    return np.full((8, 8, 3), colour, np.uint8)


@pytest.mark.parametrize("size", [1, 7, 64, 300])
def test_looks_are_those_of_the_definitions(size):
    images = np.stack([fakes.pixels(seed, size) for seed in range(20)])  # more than one batch
    expected = [directly(image) for image in images]
    np.testing.assert_allclose(statistics.measure(images), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (plain(0, 0, 0), [0, 0, 0]),
        (plain(255, 255, 255), [255, 0, 0]),
        (plain(90, 90, 90), [90, 0, 0]),
        (plain(255, 0, 0), [76.245, 0, 0.3 * np.hypot(255, 127.5)]),
        (np.concatenate([plain(0, 0, 0), plain(255, 255, 255)], 1)[:, 4:12], [127.5, 127.5, 0]),
    ],
)
def test_extremes(image, expected):
    np.testing.assert_allclose(statistics.measure(image[None])[0], expected, atol=1e-3)


def test_an_image_looks_the_same_in_any_company():
    images = np.stack([fakes.pixels(seed, 33) for seed in range(40)])
    alone = np.concatenate([statistics.measure(image[None]) for image in images])
    np.testing.assert_array_equal(statistics.measure(images), alone)


def test_no_images_have_no_looks():
    assert statistics.measure(np.empty((0, 8, 8, 3), np.uint8)).shape == (0, 3)
