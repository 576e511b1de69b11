"""The chain from stored pixels to what the model sees, and the tables of random numbers."""

import dataclasses

import numpy as np
import pytest

from datapipe import randomness
from datapipe.augment import chain
from datapipe.augment.options import PRESETS, AugmentOptions
from records.common.backend import tf
from tests import fakes

SIZE = 32
IMAGES = np.stack([fakes.pixels(seed, SIZE) for seed in range(6)])
NAMES = ("cat", "dog")


def test_a_position_has_its_numbers_wherever_the_batch_begins():
    whole = randomness.uniforms(5, tf.range(100, dtype=tf.int64)).numpy()
    for start, end in ((0, 1), (1, 4), (37, 100)):
        part = randomness.uniforms(5, tf.range(start, end, dtype=tf.int64)).numpy()
        np.testing.assert_array_equal(part, whole[start:end])
    far = tf.range(2**40, 2**40 + 4, dtype=tf.int64)
    assert randomness.uniforms(5, far).numpy().std() > 0.1
    assert (randomness.uniforms(6, tf.range(100, dtype=tf.int64)).numpy() != whole).all()


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
    change = chain.Augmentation(options, seed=3, class_names=NAMES, input_range=input_range)
    numbers = change.numbers(positions, labels)
    images = change.images(tf.gather(IMAGES, positions % 6), numbers)
    return images, *change.targets(labels, tf.ones_like(labels, tf.float32), numbers, SIZE)


POSITIONS = tf.range(6, dtype=tf.int64)
LABELS = tf.constant([0, 1, 0, 1, 1, 0])


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


@pytest.mark.parametrize("options", [PRESETS["photo"], ALL, REFLECT], ids=["photo", "all", "fold"])
@pytest.mark.parametrize("size", [2, 32, 33, 64])
def test_a_position_has_its_picture_whatever_the_slice(options, size):
    # XLA handles one or two images, and the last few of a batch, by other instructions.
    stored = np.random.default_rng(size).integers(0, 256, (24, size, size, 3), np.uint8)
    change = chain.Augmentation(options, seed=3, class_names=NAMES)
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
    change = chain.Augmentation(
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": ALL, "class_names": ("cat",)}, "strength names 'dog'"),
        ({"options": ALL, "class_names": NAMES, "input_range": "0..2"}, "got '0..2'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        chain.Augmentation(seed=0, **arguments)
