"""That the `tf.data` pipelines give the images of the set, moved as ours are."""

import numpy as np
import pytest

from datapipe.augment import warp
from datapipe.benchmark import systems
from datapipe.benchmark import tfdata_baselines as tfdata
from records.builder import replicate
from records.common.backend import tf
from tests import fakes

BATCH, SIZE = 8, 16


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return fakes.built(folder, {"a": 30, "b": 6}, ratios={"train": 1.0})


def shards(records):
    return systems.Inputs(records, "train", BATCH).shards


def stored(records):
    """Returns the label of each image by its bytes."""
    index = records.index("train")
    return {records.pixels("train", row).tobytes(): index.label[row] for row in range(len(index))}


@pytest.mark.parametrize("pipeline", [tfdata.tutorial, tfdata.expert])
def test_stored_pixels_come_with_their_label(records, pipeline):
    wanted = stored(records)
    seen = []
    for image, label in pipeline(shards(records), None).take(80):
        assert image.shape == (BATCH, SIZE, SIZE, 3) and image.dtype == tf.uint8
        seen += [picture.tobytes() for picture in image.numpy()]
        assert [wanted[key] for key in seen[-BATCH:]] == label.numpy().tolist()
    assert set(seen) == set(wanted)  # in 640 draws of 36 images
    assert seen[:36] != sorted(seen[:36])


@pytest.mark.parametrize("pipeline", [tfdata.tutorial, tfdata.expert])
def test_moved_pictures_are_float_in_0_to_1(records, pipeline):
    dataset = pipeline(shards(records), systems.FEED)
    (first, _), (second, _) = dataset.take(2)
    assert first.shape == (BATCH, SIZE, SIZE, 3) and first.dtype == tf.float32
    assert np.min(first) >= 0 and 0.2 < np.max(first) <= 1
    assert not any(np.array_equal(one, other) for one in first for other in second)


def test_the_op_of_tensorflow_moves_images_as_ours_does(records):
    images = tf.constant(np.stack([records.pixels("train", row) for row in range(BATCH)]))
    uniforms = tf.random.stateless_uniform([BATCH, 8], [3, 4])
    maps = warp.matrices(warp.WARP.sample(systems.FEED, uniforms, 1.0, SIZE), SIZE)
    ours = warp.apply(images, maps, fill_mode="nearest")
    np.testing.assert_allclose(tfdata.warped_by_tf(images, maps), ours, atol=1e-4)


def test_balanced_draws_are_about_equal(records):
    dataset = tfdata.tutorial_balanced(shards(records), systems.FEED, [0, 1])
    labels = np.concatenate([label for _, label in dataset.take(60)])
    assert 0.35 < labels.mean() < 0.65  # of 480 draws; a sixth of the rows are of class 1


def test_decoding_is_one_pass_in_whole_batches(records, tmp_path):
    jpeg = replicate.tile(records, "train", 36, str(tmp_path), encoding="jpeg")
    found = np.concatenate(list(tfdata.decoded_by_tf_data(shards(jpeg))))
    wanted = np.stack([jpeg.pixels("train", row) for row in range(36)]).astype(int)
    assert found.shape == (32, SIZE, SIZE, 3)
    for picture in found:  # threads may hand them on in any order
        assert np.abs(wanted - picture).max(axis=(1, 2, 3)).min() <= 8


def test_keras_gives_whole_batches_in_0_to_1(records):
    pytest.importorskip("scipy")
    pixels = np.stack([records.pixels("train", row) for row in range(12)])
    batches = tfdata.image_data_generator(pixels, systems.FEED, BATCH, 2)
    for _ in range(4):
        batch = next(batches)
        assert batch.shape == (BATCH, SIZE, SIZE, 3) and batch.dtype == np.float32
        assert batch.min() >= 0 and 0.2 < batch.max() <= 1
    batches.close()
