"""The chain from stored pixels to what the model sees, and the tables of random numbers."""

import dataclasses

import numpy as np
import pytest

from datapipe.augment import chain
from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS
from records.common.backend import tf
from tests import fakes

SIZE = 32
IMAGES = np.stack([fakes.pixels(seed, SIZE) for seed in range(6)])
NAMES = ("cat", "dog")


ALL = AugmentOptions(
    rotation_range=20,
    width_shift_range=0.1,
    horizontal_flip=True,
    brightness_range=(0.7, 1.3),
    hue_range=20,
    channel_shift_range=10,
    erasing_probability=0.5,
    mixup_alpha=0.4,
    cutmix_alpha=1.0,
    strength={"dog": 0.5},
)
CASES = {**PRESETS, "all": ALL, "mixup alone": AugmentOptions(mixup_alpha=1.0)}


def made(options, positions, labels, input_range="0..1"):
    """Returns images, labels and weights of the six pictures at some positions."""
    change = chain.Chain(options, seed=3, class_names=NAMES, input_range=input_range)
    numbers = change.numbers(positions, labels)
    images = change.images(tf.gather(IMAGES, positions % 6), numbers)
    return images, *change.targets(labels, tf.ones_like(labels, tf.float32), numbers, SIZE)


POSITIONS = tf.range(6, dtype=tf.int64)
LABELS = tf.constant([0, 1, 0, 1, 1, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_same_inside_a_dataset(name):
    eager = made(CASES[name], POSITIONS, LABELS)
    dataset = tf.data.Dataset.from_tensors((POSITIONS, LABELS)).map(
        lambda positions, labels: made(CASES[name], positions, labels)
    )
    for one, other in zip(next(iter(dataset)), eager, strict=True):
        np.testing.assert_array_equal(one, other)
    images = eager[0].numpy()
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1


REFLECT = AugmentOptions(
    rotation_range=40,
    width_shift_range=0.2,
    shear_range=10,
    zoom_range=0.3,
    horizontal_flip=True,
    vertical_flip=True,
    fill_mode="reflect",
)


@pytest.mark.slow
@pytest.mark.parametrize("options", [PRESETS["photo"], ALL, REFLECT], ids=["photo", "all", "fold"])
@pytest.mark.parametrize("size", [2, 32, 33, 64])
def test_a_position_has_its_picture_whatever_the_slice(options, size):
    # XLA handles one or two images, and the last few of a batch, by other instructions.
    stored = np.random.default_rng(size).integers(0, 256, (24, size, size, 3), np.uint8)
    change = chain.Chain(options, seed=3, class_names=NAMES)
    positions = tf.range(24, dtype=tf.int64)
    labels = tf.cast(positions % 2, tf.int32)
    whole = change.images(stored, change.numbers(positions, labels)).numpy()
    for count in (2, 4, 6, 12) if options.mixes else (1, 2, 3, 4, 6, 8, 12):
        for start in range(0, 24, count):
            some = slice(start, start + count)
            numbers = change.numbers(positions[some], labels[some])
            np.testing.assert_array_equal(change.images(stored[some], numbers), whole[some])


def test_without_change_the_pixels_stay():
    images, labels, weights = made(AugmentOptions(), POSITIONS, LABELS)
    np.testing.assert_allclose(images * 255, IMAGES, atol=1e-4)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(weights, np.ones(6))


@pytest.mark.parametrize("name", ["none", "photo", "all"])
@pytest.mark.parametrize(("input_range", "low", "high"), [("-1..1", -1, 1), ("0..255", 0, 255)])
def test_the_input_range_stretches_the_same_picture(name, input_range, low, high):
    plain = made(CASES[name], POSITIONS, LABELS)[0].numpy()
    stretched = made(CASES[name], POSITIONS, LABELS, input_range)[0].numpy()
    np.testing.assert_allclose(stretched, low + plain * (high - low), atol=1e-4 * (high - low))
    unchanged = chain.unchanged(tf.constant(IMAGES), input_range).numpy()
    np.testing.assert_allclose(unchanged, low + IMAGES / 255 * (high - low), rtol=1e-5, atol=1e-5)


def test_a_class_of_strength_0_stays_as_it_is():
    options = dataclasses.replace(ALL, strength={"dog": 0}, mixup_alpha=0, cutmix_alpha=0)
    images = made(options, POSITIONS, LABELS)[0] * 255
    changed = np.abs(images - IMAGES).max((1, 2, 3))
    np.testing.assert_array_equal(changed > 1, LABELS.numpy() == 0)
    np.testing.assert_allclose(changed[LABELS.numpy() == 1], 0, atol=1e-3)


def test_mixed_labels_say_what_the_picture_is_made_of():
    # The first class is black and the second white, so the mean of a picture is its share of white.
    stored = tf.tile(
        tf.reshape(tf.constant([0, 255] * 32, tf.uint8), [64, 1, 1, 1]), [1, SIZE, SIZE, 3]
    )
    change = chain.Chain(
        AugmentOptions(mixup_alpha=1.0, cutmix_alpha=1.0), seed=0, class_names=NAMES
    )
    labels = tf.constant([0, 1] * 32)
    numbers = change.numbers(tf.range(64, dtype=tf.int64), labels)
    mixed, weights = change.targets(labels, tf.constant([1.0, 3.0] * 32), numbers, SIZE)
    white = tf.reduce_mean(change.images(stored, numbers), axis=[1, 2, 3])
    np.testing.assert_allclose(tf.reduce_sum(mixed, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, 1 + 2 * white, atol=1e-3)
    # In the loss each class has its share of the picture times its own weight.
    np.testing.assert_allclose(mixed[:, 1] * weights, 3 * white, atol=1e-3)
    np.testing.assert_allclose(mixed[:, 0] * weights, 1 - white, atol=1e-3)
    alike, _ = change.targets(labels, tf.ones(64), numbers, SIZE)
    np.testing.assert_allclose(alike[:, 1], white, atol=1e-4)
    nothing, weights = change.targets(labels, tf.zeros(64), numbers, SIZE)
    np.testing.assert_allclose(nothing, alike, atol=1e-6)
    np.testing.assert_array_equal(weights, tf.zeros(64))
    assert tf.math.reduce_std(white) > 0.1


def described(options):
    """Returns the chain, the labels, the numbers and the texts of 64 positions."""
    change = chain.Chain(options, seed=4, class_names=NAMES)
    labels = tf.constant([0, 1] * 32)
    numbers = change.numbers(tf.range(1000, 1064, dtype=tf.int64), labels)
    return change, labels, numbers, change.descriptions(numbers, SIZE)


def said(texts, name):
    """Returns the number that each description has behind a name; 0 without it."""
    found = [next((t for t in text if t.startswith(name)), f"{name} 0") for text in texts]
    return np.array([float(text.removeprefix(name).strip(" °%")) for text in found])


def test_descriptions_are_of_what_is_on_in_the_order_of_the_chain():
    *_, texts = described(ALL)
    assert all([text.split()[0] for text in each][:2] == ["rotation", "shift"] for each in texts)
    names = {text.split()[0].strip(",") for each in texts for text in each}
    assert names == {
        *("rotation", "shift", "mirrored", "brightness", "hue", "channels", "erased"),
        *("mixup", "cutmix"),
    }
    assert described(AugmentOptions())[-1] == [()] * 64


def test_the_strength_of_a_class_is_in_its_descriptions():
    options = AugmentOptions(rotation_range=90, strength={"cat": 0, "dog": 0.1})
    rotation = said(described(options)[-1], "rotation")
    assert not rotation[::2].any() and 5 < np.abs(rotation[1::2]).max() <= 9


def test_erased_is_the_share_of_the_picture_that_was_painted():
    options = AugmentOptions(erasing_probability=0.5, erasing_value=255)
    change, _, numbers, texts = described(options)
    images = change.images(tf.zeros([64, SIZE, SIZE, 3], tf.uint8), numbers)
    shares = np.mean(images, axis=(1, 2, 3))
    np.testing.assert_allclose(said(texts, "erased"), 100 * shares, atol=0.5)
    assert (shares == 0).any() and (shares > 0).any()


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_own_shares_are_those_of_the_labels(name):
    change, labels, numbers, texts = described(AugmentOptions(**{f"{name}_alpha": 1.0}))
    mixed, _ = change.targets(labels, tf.ones(64), numbers, SIZE)
    # Partners have different classes here, so nothing is added to the own share.
    own = np.take_along_axis(mixed.numpy(), labels.numpy()[:, None], axis=1)[:, 0]
    told = said(texts, f"{name}, own")
    np.testing.assert_allclose(np.where(told, told, 1), own, atol=0.0051)


def test_visible_is_that_of_the_map():
    change, _, numbers, _ = described(AugmentOptions(width_shift_range=0.5))
    visible = change.visible(numbers, SIZE)
    assert 0.5 <= visible.min() < 0.6 and visible.max() > 0.95
    np.testing.assert_array_equal(described(AugmentOptions())[0].visible(numbers, SIZE), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": ALL, "class_names": ("cat",)}, "strength names 'dog'"),
        ({"options": ALL, "class_names": NAMES, "input_range": "0..2"}, "got '0..2'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        chain.Chain(seed=0, **arguments)
