"""The warp against Keras' own and TensorFlow Addons', and the table of random numbers."""

import numpy as np
import pytest
from tf_keras.src.preprocessing.image import apply_affine_transform

from datapipe import augment
from datapipe.options import PRESETS, AugmentOptions
from models import addons
from records.backend import tf
from tests import fakes

SIZE = 32
IMAGES = np.stack([fakes.pixels(seed, SIZE) for seed in range(6)])
RNG = np.random.default_rng(0)
# Per image: angle (degrees), shift x, shift y (pixels), shear (degrees), zoom x, zoom y.
CASES = RNG.uniform([-60, -12, -12, -30, 0.6, 0.6], [60, 12, 12, 30, 1.4, 1.4], (6, 6))


def maps(cases, mirror=(1.0, 1.0)):
    columns = [tf.constant(column, tf.float32) for column in cases.T]
    ones = tf.ones(len(cases))
    return augment.compose(
        angle=columns[0] * np.pi / 180,
        shift_x=columns[1],
        shift_y=columns[2],
        shear=columns[3] * np.pi / 180,
        zoom_x=columns[4],
        zoom_y=columns[5],
        mirror_x=ones * mirror[0],
        mirror_y=ones * mirror[1],
        size=SIZE,
    )


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("compiled", [False, True])
def test_equals_keras(fill_mode, compiled):
    warp = tf.function(augment.warp, jit_compile=compiled)
    ours = warp(tf.constant(IMAGES), maps(CASES), fill_mode=fill_mode, cval=7.0).numpy() * 255
    for image, case, result in zip(IMAGES, CASES, ours, strict=True):
        angle, shift_x, shift_y, shear, zoom_x, zoom_y = case
        # In tf_keras 2.21 the first shift, called height shift, moves along x.
        expected = apply_affine_transform(
            image.astype(np.float32),
            theta=angle,
            tx=shift_x,
            ty=shift_y,
            shear=shear,
            zx=zoom_x,
            zy=zoom_y,
            row_axis=0,
            col_axis=1,
            channel_axis=2,
            fill_mode=fill_mode,
            cval=7.0,
        )
        different = np.abs(result - expected).max(-1) > 0.01
        # At the very border `constant` may fall to either side of the edge by rounding.
        assert different.mean() < (0.005 if fill_mode == "constant" else 1e-9)


def test_equals_tensorflow_addons():
    try:
        tfa = addons.load("this test")
    except addons.AddonsMissingError as error:
        pytest.skip(str(error))
    transforms = tf.concat([maps(CASES), tf.zeros([len(CASES), 2])], axis=1)
    expected = tfa.image.transform(
        tf.constant(IMAGES, tf.float32), transforms, interpolation="bilinear", fill_mode="nearest"
    )
    ours = augment.warp(tf.constant(IMAGES), maps(CASES), fill_mode="nearest") * 255
    np.testing.assert_allclose(ours, expected, atol=0.01)


def test_flips_are_exact():
    still = np.array([[0, 0, 0, 0, 1, 1]] * 6)
    for mirror, axes in (((-1.0, 1.0), 2), ((1.0, -1.0), 1), ((-1.0, -1.0), (1, 2))):
        ours = augment.warp(tf.constant(IMAGES), maps(still, mirror), fill_mode="nearest")
        np.testing.assert_allclose(ours * 255, np.flip(IMAGES, axes), atol=1e-3)


def test_without_change_the_pixels_stay():
    change = augment.train(AugmentOptions(), 0)
    positions = tf.range(6, dtype=tf.int64)
    np.testing.assert_allclose(change(tf.constant(IMAGES), positions) * 255, IMAGES, atol=1e-4)


def test_shift_moves_the_way_it_is_named():
    marked = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    marked[0, 16, 16] = 255
    case = np.array([[0, 3, -2, 0, 1, 1]])  # reads 3 to the right, 2 above
    moved = augment.warp(tf.constant(marked), maps(case), fill_mode="nearest").numpy()
    assert np.argwhere(moved[0, :, :, 0] > 0.5).tolist() == [[18, 13]]


def test_parameters_fill_their_ranges_and_nothing_else():
    options = AugmentOptions(
        rotation_range=30, width_shift_range=0.25, height_shift_range=0.125, horizontal_flip=True
    )
    u = augment.uniforms(1, tf.range(20_000, dtype=tf.int64))
    a, b, c, d, e, f = augment.matrices(options, SIZE, u).numpy().T
    angle = np.degrees(np.arctan2(-b, e))
    np.testing.assert_allclose([angle.min(), angle.max()], [-30, 30], atol=0.1)
    np.testing.assert_allclose(angle.std(), 60 / np.sqrt(12), rtol=0.02)
    np.testing.assert_allclose(np.hypot(b, e), 1, atol=1e-5)  # neither zoom nor shear
    determinant = a * e - b * d
    np.testing.assert_allclose((determinant < 0).mean(), 0.5, atol=0.02)
    # Undo the rotation about the centre to read the shifts.
    middle = (SIZE - 1) / 2
    from_x, from_y = c - middle + (a + b) * middle, f - middle + (d + e) * middle
    radians = np.radians(angle)
    shift_x = np.cos(radians) * from_x + np.sin(radians) * from_y
    shift_y = -np.sin(radians) * from_x + np.cos(radians) * from_y
    np.testing.assert_allclose(np.abs(shift_x).max(), 0.25 * SIZE, atol=0.05)
    np.testing.assert_allclose(np.abs(shift_y).max(), 0.125 * SIZE, atol=0.05)


def test_a_position_has_its_numbers_wherever_the_batch_begins():
    whole = augment.uniforms(5, tf.range(100, dtype=tf.int64)).numpy()
    for start, end in ((0, 1), (1, 4), (37, 100)):
        part = augment.uniforms(5, tf.range(start, end, dtype=tf.int64)).numpy()
        np.testing.assert_array_equal(part, whole[start:end])
    far = tf.range(2**40, 2**40 + 4, dtype=tf.int64)
    assert augment.uniforms(5, far).numpy().std() > 0.1
    assert (augment.uniforms(6, tf.range(100, dtype=tf.int64)).numpy() != whole).all()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_give_the_same_inside_a_dataset(name):
    change = augment.train(PRESETS[name], 3)
    positions = tf.range(6, dtype=tf.int64)
    eager = change(tf.constant(IMAGES), positions).numpy()
    dataset = tf.data.Dataset.from_tensors(positions).map(
        lambda at: change(tf.constant(IMAGES), at)
    )
    inside = next(iter(dataset)).numpy()
    np.testing.assert_array_equal(inside, eager)
    assert inside.dtype == np.float32 and inside.min() >= 0 and inside.max() <= 1


def test_brightness_multiplies_and_stays_in_range():
    change = augment.train(AugmentOptions(brightness_range=(2.0, 2.0)), 0)
    result = change(tf.constant(IMAGES), tf.range(6, dtype=tf.int64))
    np.testing.assert_allclose(result, np.minimum(IMAGES / 255 * 2, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rotation_range": -1}, r"rotation_range must lie in 0..180, got -1"),
        ({"width_shift_range": 1.5}, "width_shift_range must lie in 0..1, got 1.5"),
        ({"zoom_range": 1.0}, "zoom_range must lie in 0..0.99, got 1.0"),
        ({"shear_range": float("nan")}, "shear_range must lie in 0..89, got nan"),
        ({"fill_mode": "wrap"}, "fill_mode must be one of .*, got 'wrap'"),
        ({"brightness_range": (2, 1)}, "0 <= low <= high"),
    ],
)
def test_wrong_options_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AugmentOptions(**fields)
