"""The warp against Keras' own and TensorFlow Addons'."""

import numpy as np
import pytest
from tf_keras.src.preprocessing.image import apply_affine_transform

from datapipe import randomness
from datapipe.augment import warp
from datapipe.augment.options import AugmentOptions
from models.training import addons
from records.common.backend import tf
from tests import fakes

SIZE = 32
IMAGES = np.stack([fakes.pixels(seed, SIZE) for seed in range(6)])
RNG = np.random.default_rng(0)
# Per image: angle (degrees), shift x, shift y (pixels), shear (degrees), zoom x, zoom y.
CASES = RNG.uniform([-60, -12, -12, -30, 0.6, 0.6], [60, 12, 12, 30, 1.4, 1.4], (6, 6))


def maps(cases, mirror=(1.0, 1.0)):
    columns = [tf.constant(column, tf.float32) for column in cases.T]
    ones = tf.ones(len(cases))
    moves = warp.Moves(
        angle=columns[0] * np.pi / 180,
        shift_x=columns[1],
        shift_y=columns[2],
        shear=columns[3] * np.pi / 180,
        zoom_x=columns[4],
        zoom_y=columns[5],
        mirror_x=ones * mirror[0],
        mirror_y=ones * mirror[1],
    )
    return warp.matrices(moves, SIZE)


def sampled(options, u, strength=1.0):
    return warp.matrices(warp.WARP.sample(options, u, strength, SIZE), SIZE)


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("compiled", [False, True])
def test_equals_keras(fill_mode, compiled):
    apply = tf.function(warp.apply, jit_compile=compiled)
    ours = apply(tf.constant(IMAGES), maps(CASES), fill_mode=fill_mode, cval=7.0).numpy() * 255
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
    ours = warp.apply(tf.constant(IMAGES), maps(CASES), fill_mode="nearest") * 255
    np.testing.assert_allclose(ours, expected, atol=0.01)


def test_flips_are_exact():
    still = np.array([[0, 0, 0, 0, 1, 1]] * 6)
    for mirror, axes in (((-1.0, 1.0), 2), ((1.0, -1.0), 1), ((-1.0, -1.0), (1, 2))):
        ours = warp.apply(tf.constant(IMAGES), maps(still, mirror), fill_mode="nearest")
        np.testing.assert_allclose(ours * 255, np.flip(IMAGES, axes), atol=1e-3)


def test_shift_moves_the_way_it_is_named():
    marked = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    marked[0, 16, 16] = 255
    case = np.array([[0, 3, -2, 0, 1, 1]])  # reads 3 to the right, 2 above
    moved = warp.apply(tf.constant(marked), maps(case), fill_mode="nearest").numpy()
    assert np.argwhere(moved[0, :, :, 0] > 0.5).tolist() == [[18, 13]]


def test_parameters_fill_their_ranges_and_nothing_else():
    options = AugmentOptions(
        rotation_range=30, width_shift_range=0.25, height_shift_range=0.125, horizontal_flip=True
    )
    u = randomness.uniforms(1, tf.range(20_000, dtype=tf.int64))
    a, b, c, d, e, f = sampled(options, u).numpy().T
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


@pytest.mark.parametrize("size", [1, 2, 3, 17, 128])
def test_any_size(size):
    image = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    still = tf.constant([[1, 0, 0, 0, 1, 0]] * 2, tf.float32)
    quarter = tf.constant([[0, -1, size - 1, 1, 0, 0]] * 2, tf.float32)  # x_in = size - 1 - y
    for fill_mode in ("nearest", "reflect", "constant"):
        ours = warp.apply(tf.constant(image), still, fill_mode=fill_mode) * 255
        np.testing.assert_allclose(ours, image, atol=1e-3)
        ours = warp.apply(tf.constant(image), quarter, fill_mode=fill_mode) * 255
        np.testing.assert_allclose(ours, np.rot90(image, -1, (2, 1)), atol=1e-3)


def test_the_highest_ranges_stay_within_the_whole_numbers():
    # Beyond 2^31 a coordinate would come out at the other side of the picture.
    options = AugmentOptions(
        rotation_range=180,
        width_shift_range=1,
        height_shift_range=1,
        shear_range=89,
        zoom_range=0.99,
    )
    u = np.random.default_rng(0).random((4096, 8))
    u[:, [1, 2, 4, 5]] = u[:, [1, 2, 4, 5]].round() * 0.9999999  # shifts and zooms at their ends
    u = tf.constant(u, tf.float32)
    a, b, c, d, e, f = sampled(options, u).numpy().T
    corners = [(x, y) for x in (0, SIZE - 1) for y in (0, SIZE - 1)]
    reach = [np.abs([a * x + b * y + c, d * x + e * y + f]).max() for x, y in corners]
    assert SIZE * 3 < max(reach) < SIZE * 4
    left_half = np.zeros((4096, SIZE, SIZE, 3), np.uint8)
    left_half[:, :, : SIZE // 2] = 255
    ours = warp.apply(tf.constant(left_half), sampled(options, u), fill_mode="nearest").numpy()
    x_in = a[:, None] * np.arange(SIZE) + c[:, None]  # the first line of each picture
    far = np.abs(x_in - (SIZE - 1) / 2) > 1
    expected = (x_in < (SIZE - 1) / 2).astype(np.float32)
    np.testing.assert_allclose(ours[:, 0, :, 0][far], expected[far], atol=1e-4)


def test_strength_scales_the_ranges_and_stops_the_flips():
    options = AugmentOptions(rotation_range=40, width_shift_range=0.2, horizontal_flip=True)
    u = randomness.uniforms(0, tf.range(500, dtype=tf.int64))
    strength = tf.constant([0.0, 0.5] * 250)
    maps = sampled(options, u, strength).numpy()
    still = np.tile([1, 0, 0, 0, 1, 0], (250, 1))
    np.testing.assert_allclose(maps[::2], still, atol=1e-5)
    half = AugmentOptions(rotation_range=20, width_shift_range=0.1, horizontal_flip=True)
    np.testing.assert_allclose(maps[1::2], sampled(half, u)[1::2], atol=1e-5)


@pytest.mark.parametrize(
    ("case", "share"),
    [
        ([0, 0, 0, 0, 1, 1], 1.0),
        ([0, SIZE / 2, 0, 0, 1, 1], 0.5),
        ([90, 0, 0, 0, 1, 1], 1.0),
        ([0, 0, 0, 0, 0.5, 0.5], 0.25),  # enlarged: a quarter is left
        ([0, 0, 0, 0, 1.5, 1.5], 1.0),  # shrunk
        ([0, SIZE, SIZE, 0, 1, 1], 0.0),
    ],
)
def test_visible_is_the_share_of_the_picture_that_is_left(case, share):
    found = warp.visible(maps(np.array([case], float)), SIZE).numpy()
    np.testing.assert_allclose(found, [share], atol=0.04)


STILL = warp.Moves(
    angle=0.0, shift_y=0.0, shift_x=0.0, shear=0.0, zoom_y=1.0, zoom_x=1.0, mirror_x=1, mirror_y=1
)


@pytest.mark.parametrize(
    ("options", "moves", "said"),
    [
        ({"rotation_range": 30}, {"angle": np.radians(-22.6)}, ["rotation -23°"]),
        ({"rotation_range": 30}, {"angle": np.radians(-0.4)}, ["rotation 0°"]),  # never -0
        (
            {"width_shift_range": 0.1},
            {"shift_x": 0.1 * SIZE, "shift_y": -0.03 * SIZE},
            ["shift x +10 y -3 %"],
        ),
        ({"shear_range": 5}, {"shear": np.radians(4.52)}, ["shear +4.5°"]),
        ({"zoom_range": 0.2}, {"zoom_x": 0.8, "zoom_y": 1.2}, ["zoom x 0.80 y 1.20"]),
        ({"horizontal_flip": True, "vertical_flip": True}, {"mirror_x": -1}, ["mirrored"]),
        ({"vertical_flip": True}, {"mirror_y": -1}, ["upside down"]),
        ({}, {}, []),
    ],
)
def test_descriptions(options, moves, said):
    values = STILL._replace(**moves)
    assert list(warp.WARP.describe(AugmentOptions(**options), values, SIZE)) == said


@pytest.mark.parametrize(
    ("changed", "to"),
    [
        ({"shift_x": 4.0}, (8, 8)),  # to the left
        ({"shift_y": 4.0}, (4, 12)),  # up
        ({"zoom_x": 0.5}, (8, 16)),  # farther out: enlarged
        ({"angle": np.pi / 2}, (4, 8)),  # from the right to the top: turned to the left
    ],
)
def test_directions_are_those_that_the_preview_explains(changed, to):
    image = np.zeros((1, 17, 17, 3), np.uint8)
    image[0, 8, 12] = 255  # to the right of the middle
    moves = warp.Moves(*(tf.constant([float(v)]) for v in STILL._replace(**changed)))
    moved = warp.apply(image, warp.matrices(moves, 17), fill_mode="constant")[0, ..., 0]
    assert moved[to] > 0.9
