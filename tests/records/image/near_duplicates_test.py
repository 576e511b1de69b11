"""Planted near duplicates are found and different images are not; brute force agrees."""

import csv

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from records.image import decode, near_duplicates
from tests import fakes

SIZE = 64


def photographs(count, seed=0):
    """Returns pictures with structure at all scales, uint8 [count, SIZE, SIZE, 3]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((count, SIZE, SIZE, 3))
    for edge in (2, 4, 8, 16, 32):
        coarse = rng.normal(0, 60 / edge**0.5, (count, edge, edge, 3))
        total += coarse.repeat(SIZE // edge, 1).repeat(SIZE // edge, 2)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def jpeg(quality):
    return lambda image: decode.preprocess(
        fakes.encoded(image, "JPEG", quality=quality), decode.ImagePolicy(size=SIZE)
    )


def resized(scale):
    def change(image):
        edge = round(SIZE * scale)
        small = Image.fromarray(image).resize((edge, edge), Image.Resampling.BICUBIC)
        return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))

    return change


def brighter(factor):
    return lambda image: np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor))


def cropped(share):
    def change(image):
        cut = SIZE * share
        box = (0, cut, SIZE - cut, SIZE)
        whole = Image.fromarray(image)
        return np.asarray(whole.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box))

    return change


@pytest.mark.parametrize(
    ("change", "distance", "least"),
    [
        (jpeg(40), near_duplicates.DISTANCE, 0.99),
        (jpeg(90), near_duplicates.DISTANCE, 1.0),
        (resized(0.5), near_duplicates.DISTANCE, 0.99),
        (resized(1.5), near_duplicates.DISTANCE, 1.0),
        (brighter(0.9), near_duplicates.DISTANCE, 1.0),
        (brighter(1.1), near_duplicates.DISTANCE, 0.95),
        (cropped(0.01), near_duplicates.DISTANCE, 0.9),
        (cropped(0.02), 0.3, 0.9),
    ],
)
def test_planted_duplicates_are_found_and_nothing_else(change, distance, least):
    originals = photographs(200)
    both = np.concatenate([originals, np.stack([change(image) for image in originals])])
    found = near_duplicates.pairs(near_duplicates.fingerprints(both), distance)
    planted = (found[:, 1] - found[:, 0] == 200).sum()
    assert planted >= least * 200
    assert len(found) == planted


def test_flat_pictures_are_near_only_if_they_look_alike():
    def plain(*colour):
        noise = np.random.default_rng(sum(colour)).integers(-1, 2, (SIZE, SIZE, 3))
        return (np.array(colour) + noise).astype(np.uint8)

    flat = [plain(200, 30, 30), plain(30, 200, 30), plain(250, 250, 250), plain(5, 5, 5)]
    dot = plain(250, 250, 250)
    dot[30:34, 30:34] = 0
    prints = near_duplicates.fingerprints(np.stack([*flat, dot, plain(249, 250, 251)]))
    assert near_duplicates.pairs(prints).tolist() == [[2, 5]]


def test_pairs_are_those_of_brute_force():
    originals = photographs(300)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, rng.uniform(0, 40, (300, 1, 1, 1)), originals.shape)
    blurred = np.clip(originals + noise, 0, 255).astype(np.uint8)
    prints = near_duplicates.fingerprints(np.concatenate([originals, blurred]))
    vectors = near_duplicates._Vectors(prints)
    every = np.stack(np.triu_indices(600, 1), axis=1)
    for distance in (0.05, 0.15, 0.4):
        near = every[vectors.distances(every[:, 0], every[:, 1]) <= distance]
        np.testing.assert_array_equal(near_duplicates.pairs(prints, distance), near)


def test_groups_are_joined_by_paths_and_named_by_their_first_row():
    one, other = photographs(2)
    steps = [np.clip(one * (1 - t) + other * t, 0, 255).astype(np.uint8) for t in (0, 0.1, 0.2)]
    prints = near_duplicates.fingerprints(np.stack([other, *steps, steps[0]]))
    ends = near_duplicates._Vectors(prints).distances(np.array([1]), np.array([3]))
    assert ends > near_duplicates.DISTANCE
    assert near_duplicates.groups(prints).tolist() == [0, 1, 1, 1, 1]


def test_many_equal_pictures_make_a_chain_not_all_pairs():
    prints = near_duplicates.fingerprints(photographs(1).repeat(1000, axis=0))
    assert near_duplicates.pairs(prints).tolist() == [[i, i + 1] for i in range(999)]
    assert not near_duplicates.groups(prints).any()


def test_a_still_scene_is_one_group():
    prints = near_duplicates.fingerprints(photographs(1)).repeat(3000, axis=0)
    noise = np.random.default_rng(0).integers(-1, 2, prints.shape)
    prints = np.clip(prints.astype(int) + noise, 0, 255).astype(np.uint8)
    assert not near_duplicates.groups(prints).any()


@pytest.mark.parametrize("size", [1, 3, 8, 16, 17, 64, 100])
def test_any_size_gives_the_means_of_cells(size):
    image = np.random.default_rng(size).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    prints = near_duplicates.fingerprints(image)
    assert prints.shape == (2, near_duplicates.FINGERPRINT_BYTES) and prints.dtype == np.uint8
    grey = Image.fromarray(image[0]).resize((16, 16), Image.Resampling.BOX).convert("L")
    if size % 16 == 0 or 16 % size == 0:  # where Pillow's box filter is the mean as well
        difference = np.asarray(grey, int).ravel() - prints[0, :256]
        assert np.abs(difference).max() <= 1


def test_nothing_and_one_have_no_pairs():
    for count in (0, 1):
        prints = near_duplicates.fingerprints(photographs(count))
        assert near_duplicates.pairs(prints).shape == (0, 2)
        assert near_duplicates.groups(prints).tolist() == list(range(count))


@pytest.mark.parametrize(
    ("prints", "distance", "message"),
    [
        (np.zeros((2, 288), np.uint8), 1.0, r"must lie in \[0, 1\), got 1.0"),
        (np.zeros((2, 288), np.uint8), -0.1, r"must lie in \[0, 1\), got -0.1"),
        (np.zeros((2, 64), np.uint8), 0.1, r"\[n, 288\], got uint8 \[2, 64\]"),
        (np.zeros((2, 288)), 0.1, "got float64"),
    ],
)
def test_wrong_arguments_are_refused(prints, distance, message):
    for function in (near_duplicates.pairs, near_duplicates.groups):
        with pytest.raises(ValueError, match=message):
            function(prints, distance)


@pytest.mark.slow
@pytest.mark.skipif(not fakes.SHARED_DATA.exists(), reason="no real images here")
def test_real_photographs_are_found_as_their_owners_say():
    root = fakes.SHARED_DATA / "facemask"
    with open(root / "MANIFEST.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    policy = decode.ImagePolicy(size=SIZE)
    pixels = [decode.preprocess((root / row["path"]).read_bytes(), policy) for row in table]
    groups = np.array([row["dup_group"] for row in table])
    found = near_duplicates.pairs(near_duplicates.fingerprints(np.stack(pixels)))
    right = int((groups[found[:, 0]] == groups[found[:, 1]]).sum())
    assert right >= 60 and right >= 0.95 * len(found)
