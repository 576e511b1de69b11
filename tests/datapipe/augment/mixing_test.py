"""Pairs of images: shares against SciPy's beta distribution, pixels against labels."""

import numpy as np
import pytest
from scipy import stats

from datapipe.augment import mixing
from datapipe.augment.mixing import MIXING
from datapipe.augment.options import AugmentOptions
from records.common.backend import tf
from tests.datapipe.ways import WAYS

N, SIZE = 2000, 12
RNG = np.random.default_rng(0)
U = RNG.random((N, 8), np.float32)
U[0], U[1] = 0, np.float32(1 - 2**-24)  # the ends of the unit interval
LABELS = RNG.integers(0, 3, N).astype(np.int32)
PLAIN = np.broadcast_to(np.eye(3, dtype=np.float32)[LABELS][:, None, None], (N, SIZE, SIZE, 3))
SWAPPED = np.arange(N) ^ 1
OPTIONS = {
    "mixup": AugmentOptions(mixup_alpha=0.4),
    "cutmix": AugmentOptions(cutmix_alpha=1.0),
    "both": AugmentOptions(mixup_alpha=0.4, cutmix_alpha=1.0),
}


def shares(name, u=U, size=SIZE):
    return [
        part.numpy() for part in MIXING.sample(OPTIONS[name], tf.constant(u), tf.ones(len(u)), size)
    ]


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1, 2, 8, 300])
def test_beta_equals_scipy(alpha):
    u = (np.arange(1 << 16) + 0.5).astype(np.float32) / (1 << 17)  # the lower half
    lower = mixing.beta(alpha, tf.constant(u)).numpy()
    reached = stats.beta(alpha, alpha).cdf(lower.astype(np.float64))
    assert np.abs(reached - u).max() < 1 / 8192 + 1e-6  # the distance of Kolmogorov
    # The upper half is the mirror image, to the bit: there a share next to 1 is rounded to 1.
    np.testing.assert_array_equal(mixing.beta(alpha, tf.constant(1 - u)), 1 - lower)
    assert (np.diff(lower) >= 0).all() and lower.min() >= 0 and lower.max() <= 0.5


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same(way, name):
    def run(images, u, labels):
        share, boxes = MIXING.sample(OPTIONS[name], u, tf.ones(len(U)), SIZE)
        return mixing.mixed_images(images, share, boxes), mixing.mixed_labels(
            labels, tf.ones_like(share), 3, share
        )

    given = [tf.constant(part[:64]) for part in (PLAIN, U, LABELS)]
    for result, expected in zip(WAYS[way](run)(*given), run(*given), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-6)
        assert result.dtype == tf.float32 and result.shape == expected.shape


@pytest.mark.parametrize("name", OPTIONS)
def test_labels_are_mixed_as_the_pixels_are(name):
    share, boxes = shares(name)
    # Each class has a colour channel, so the mean colour is the distribution of the pixels.
    mixed = mixing.mixed_images(tf.constant(PLAIN), share, boxes).numpy()
    labels = mixing.mixed_labels(tf.constant(LABELS), tf.ones_like(share), 3, share).numpy()
    np.testing.assert_allclose(mixed.mean((1, 2)), labels, atol=1e-5)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    assert labels.min() >= 0


def test_mixup_blends_with_the_partner():
    share, boxes = shares("mixup")
    assert not boxes.any() and abs(share.mean() - 0.5) < 0.02
    images = RNG.random((N, 4, 4, 3), np.float32)
    own = share[:, None, None, None]
    expected = images * own + images[SWAPPED] * (1 - own)
    mixed = mixing.mixed_images(tf.constant(images), tf.constant(share), tf.constant(boxes))
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_cutmix_takes_the_box_from_the_partner():
    share, boxes = shares("cutmix")
    images = RNG.random((N, SIZE, SIZE, 3), np.float32)
    mixed = mixing.mixed_images(tf.constant(images), tf.constant(share), tf.constant(boxes)).numpy()
    for n in range(40):
        top, left, bottom, right = boxes[n].astype(int)
        expected = images[n].copy()
        expected[top:bottom, left:right] = images[n ^ 1, top:bottom, left:right]
        np.testing.assert_array_equal(mixed[n], expected)
        left_over = 1 - (bottom - top) * (right - left) / SIZE**2
        assert share[n] == pytest.approx(left_over, abs=1e-7)


def test_cutmix_boxes_are_as_in_the_paper():
    size = 256
    share, boxes = shares("cutmix", size=size)
    np.testing.assert_array_equal(boxes, np.round(boxes))
    assert boxes.min() >= 0 and boxes.max() <= size
    wanted = mixing.beta(1.0, tf.constant(U[:, 0])).numpy()
    uncut = (boxes.min(1) > 0) & (boxes.max(1) < size)
    np.testing.assert_allclose(share[uncut], wanted[uncut], atol=2 / size)
    assert (share >= wanted - 2 / size).all()  # a box that is cut leaves more
    centres = (boxes[uncut, :2] + boxes[uncut, 2:]) / 2
    np.testing.assert_allclose(centres, U[uncut, 1:3] * size, atol=1)


def test_with_both_each_image_takes_one():
    share, boxes = shares("both")
    cut = U[:, 3] < 0.5
    for name, which in (("cutmix", cut), ("mixup", ~cut)):
        one_share, one_boxes = shares(name)
        np.testing.assert_array_equal(share[which], one_share[which])
        np.testing.assert_array_equal(boxes[which], one_boxes[which])


def test_without_alphas_nothing_is_mixed():
    share, boxes = MIXING.sample(AugmentOptions(), tf.constant(U), tf.ones(len(U)), SIZE)
    assert (share.numpy() == 1).all() and not boxes.numpy().any()
    mixed = mixing.mixed_images(tf.constant(PLAIN), share, boxes)
    np.testing.assert_array_equal(mixed, PLAIN)


def test_weights_are_mixed_as_the_labels_are():
    weights = RNG.random(N).astype(np.float32)
    share, _ = shares("mixup")
    expected = weights * share + weights[SWAPPED] * (1 - share)
    result = mixing.mixed_weights(tf.constant(weights), tf.constant(share))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_slices_of_a_batch_give_what_the_batch_gives():
    whole = mixing.mixed_images(tf.constant(PLAIN), *shares("both")).numpy()
    for start, end in ((0, 2), (2, 10), (10, 64)):
        part = mixing.mixed_images(tf.constant(PLAIN[start:end]), *shares("both", U[start:end]))
        np.testing.assert_array_equal(part, whole[start:end])


@pytest.mark.parametrize(
    "call",
    [
        lambda: MIXING.sample(OPTIONS["mixup"], tf.constant(U[:3]), tf.ones(3), SIZE),
        lambda: mixing.mixed_images(tf.constant(PLAIN[:3]), tf.ones(3), tf.zeros([3, 4])),
        lambda: mixing.mixed_labels(tf.constant(LABELS[:3]), tf.ones(3), 3, tf.ones(3)),
        lambda: mixing.mixed_weights(tf.ones(3), tf.ones(3)),
    ],
)
def test_an_odd_number_of_images_is_refused(call):
    with pytest.raises(ValueError, match="must be even, got 3"):
        call()


@pytest.mark.parametrize(
    ("share", "box", "said"),
    [
        (0.7, (0, 0, 0, 0), ["mixup, own 0.70"]),
        (0.75, (0, 0, 5, 5), ["cutmix, own 0.75"]),
        (1.0, (3, 3, 3, 3), []),
    ],
)
def test_descriptions(share, box, said):
    shares = mixing.Shares(np.float32(share), np.array(box))
    assert list(MIXING.describe(OPTIONS["both"], shares, 10)) == said
