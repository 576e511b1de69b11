"""What captions say is what was done: put together again it gives the maps of the pipeline."""

import dataclasses

import numpy as np
import pytest

from datapipe.augment import chain, colour, warp
from datapipe.augment.options import PRESETS, AugmentOptions
from datapipe.plan import sampling
from datapipe.preview import describe
from records.common.backend import tf
from records.common.targets import Target

SIZE = 32
POSITIONS = np.arange(1000, 1064)
LABELS = np.array([0, 1] * 32, np.int32)
EVERYTHING = dataclasses.replace(
    PRESETS["extreme"],
    brightness_range=(0.5, 2.0),
    contrast_range=(0.5, 1.5),
    saturation_range=(0.0, 2.0),
    hue_range=90,
    channel_shift_range=40,
    erasing_probability=0.5,
    mixup_alpha=0.5,
    cutmix_alpha=1.0,
    strength={"b": 0.5},
)


@pytest.fixture(scope="module")
def plan():
    return sampling.plan(np.array([0, 0, 1]), ("a", "b"), Target("balanced"), seed=4, batch_size=2)


@pytest.fixture(scope="module")
def found(plan):
    return describe.values(EVERYTHING, plan, POSITIONS, LABELS, SIZE)


@pytest.fixture(scope="module")
def pipeline(plan):
    """Returns the augmentation with everything on, and its numbers."""
    change = chain.Augmentation(EVERYTHING, seed=plan.seed, class_names=plan.class_names)
    return change, change.numbers(POSITIONS, LABELS)


def test_moves_compose_to_the_maps_of_the_pipeline(found, pipeline):
    change, numbers = pipeline
    maps = warp.compose(
        angle=np.radians(found["rotation"]),
        shift_x=found["shift"][:, 0] * SIZE,
        shift_y=found["shift"][:, 1] * SIZE,
        shear=np.radians(found["shear"]),
        zoom_x=found["zoom"][:, 0],
        zoom_y=found["zoom"][:, 1],
        mirror_x=1 - 2 * found["mirrored"],
        mirror_y=1 - 2 * found["upside down"],
        size=SIZE,
    )
    np.testing.assert_allclose(maps, change.maps(numbers, SIZE), atol=1e-3)


def test_colours_compose_to_what_the_pipeline_shows(found, plan):
    only = AugmentOptions(
        **{name: getattr(EVERYTHING, name) for name in ("hue_range", "saturation_range")},
        brightness_range=EVERYTHING.brightness_range,
        contrast_range=EVERYTHING.contrast_range,
        channel_shift_range=EVERYTHING.channel_shift_range,
        strength=EVERYTHING.strength,
    )
    numbers = chain.Augmentation(only, seed=plan.seed, class_names="ab").numbers(POSITIONS, LABELS)
    matrix, offset = colour.maps(only, numbers[:, :8], numbers[:, -1])
    # A turn by the hue alone; column 6 at its end is the whole of the range.
    turns = []
    for hue in found["hue"].tolist():
        end = np.zeros((1, 8), np.float32)
        end[:, 6] = hue > 0
        turns.append(colour.maps(AugmentOptions(hue_range=abs(hue)), end, tf.ones(1))[0][0])
    luma = np.array([0.299, 0.587, 0.114])
    saturation = found["saturation"][:, None, None]
    grey = (1 - saturation) * luma
    scale = (found["brightness"] * found["contrast"])[:, None, None]
    wanted = scale * (saturation * np.array(turns) + grey)
    np.testing.assert_allclose(matrix, wanted, atol=2e-3)
    shift = 0.5 - 0.5 * found["contrast"][:, None] + found["channels"] / 255
    np.testing.assert_allclose(offset, shift, atol=1e-5)


def test_erased_is_the_share_of_the_picture_that_was_painted(plan):
    options = AugmentOptions(erasing_probability=0.5, erasing_value=255)
    found = describe.values(options, plan, POSITIONS, LABELS, SIZE)["erased"]
    change = chain.Augmentation(options, seed=plan.seed, class_names=plan.class_names)
    black = tf.zeros([len(POSITIONS), SIZE, SIZE, 3], tf.uint8)
    images = change.images(black, change.numbers(POSITIONS, LABELS))
    np.testing.assert_allclose(found, np.mean(images, axis=(1, 2, 3)), atol=1e-6)
    assert (found == 0).any() and (found > 0).any()


def test_own_shares_are_those_of_the_labels(found, pipeline):
    change, numbers = pipeline
    label, _ = change.targets(tf.constant(LABELS), tf.ones(len(LABELS)), numbers, SIZE)
    own = np.take_along_axis(label.numpy(), LABELS[:, None], axis=1)[:, 0]
    # Partners have different classes here, so nothing is added to the own share.
    np.testing.assert_allclose(np.minimum(found["mixup"], found["cutmix"]), own, atol=1e-6)
    assert (np.maximum(found["mixup"], found["cutmix"]) == 1).all()


def test_the_strength_of_a_class_is_in_its_values(plan):
    options = AugmentOptions(rotation_range=90, strength={"a": 0, "b": 0.1})
    rotation = describe.values(options, plan, POSITIONS, LABELS, SIZE)["rotation"]
    assert not rotation[LABELS == 0].any()
    assert 5 < np.abs(rotation[LABELS == 1]).max() <= 9


def test_nothing_is_said_where_nothing_is_done(plan):
    assert describe.values(AugmentOptions(), plan, POSITIONS, LABELS, SIZE) == {}


WORDS = {
    "rotation -23°": ("rotation", -22.6),
    "rotation 0°": ("rotation", -0.4),  # never -0
    "shift x +10 y -3 %": ("shift", (0.1, -0.03)),
    "shear +4.5°": ("shear", 4.52),
    "zoom x 0.80 y 1.20": ("zoom", (0.8, 1.2)),
    "mirrored": ("mirrored", 1.0),
    "upside down": ("upside down", 1.0),
    "brightness 1.25": ("brightness", 1.25),
    "hue -12°": ("hue", -12.0),
    "channels +5 0 -7": ("channels", (5, 0.2, -7)),
    "erased 12 %": ("erased", 0.12),
    "mixup, own 0.70": ("mixup", 0.7),
    "cutmix, own 0.25": ("cutmix", 0.25),
}


@pytest.mark.parametrize("said", WORDS)
def test_words(said):
    name, value = WORDS[said]
    assert describe.words({name: np.array([value])}, 0) == (said,)


@pytest.mark.parametrize("name", ["mirrored", "upside down", "erased"])
def test_what_an_image_was_spared_is_not_said(name):
    assert describe.words({name: np.array([0.0])}, 0) == ()
