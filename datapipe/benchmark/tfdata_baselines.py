"""Batches by `tf.data` and by Keras, as tutorials write it and as well as we can."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from datapipe.augment import warp
from datapipe.augment.options import AugmentOptions
from records.common.backend import keras, tf

_BUFFER = 4096  # examples that are shuffled among each other
_GROUP = 32  # records handed on together: 1.2 times as many images a second as one by one
_AUTO = tf.data.AUTOTUNE


@dataclasses.dataclass(frozen=True)
class Shards:
    """What the `tf.data` pipelines read.

    Attributes:
        paths: TFRecord files.
        image_size: height and width, in pixels.
        batch_size: images in a batch.
    """

    paths: Sequence[str]
    image_size: int
    batch_size: int


def tutorial(shards: Shards, options: AugmentOptions | None) -> tf.data.Dataset:
    """Returns the pipeline of the TensorFlow guides: parse and change one image at a time.

    Args:
        options: how images are moved; None leaves the stored pixels as they are.
    """
    ds = _parsed_one_by_one(shards).shuffle(_BUFFER).repeat()
    return _changed_and_batched(ds, shards, options)


def tutorial_balanced(
    shards: Shards, options: AugmentOptions, labels: Sequence[int]
) -> tf.data.Dataset:
    """Returns `tutorial` with equal draws of each class: a dataset a class, and one that samples.

    Args:
        labels: the classes that have rows; one without would be looked for without end.
    """

    def of_class(wanted: int) -> tf.data.Dataset:
        ds = _parsed_one_by_one(shards).filter(lambda image, label: label == wanted)
        return ds.shuffle(_BUFFER).repeat()

    ds = tf.data.Dataset.sample_from_datasets([of_class(label) for label in labels])
    return _changed_and_batched(ds, shards, options)


def expert(
    shards: Shards, options: AugmentOptions | None, *, buffer: int = _BUFFER
) -> tf.data.Dataset:
    """Returns the best `tf.data` pipeline over the same shards that we can write.

    Shards in shuffled order and several at once, serialized records in the shuffle buffer, and
    after that each op once for a batch.

    Args:
        options: how images are moved; None leaves the stored pixels as they are.
        buffer: examples that are shuffled among each other.
    """
    size, batch_size = shards.image_size, shards.batch_size

    def batch(payloads: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_example(payloads, _SPEC)
        flat = tf.io.decode_raw(features["image"], tf.uint8)
        images = tf.reshape(flat, [batch_size, size, size, 3])
        return _moved(images, options) if options else images, features["label"]

    paths = tf.data.Dataset.from_tensor_slices(list(shards.paths))
    # Repeated before all buffers, so that none runs empty at the end of an epoch.
    ds = paths.shuffle(len(shards.paths)).repeat()
    ds = ds.interleave(
        lambda path: tf.data.TFRecordDataset(path).batch(_GROUP),
        cycle_length=8,
        num_parallel_calls=_AUTO,
    )
    ds = ds.unbatch().shuffle(buffer).batch(batch_size, drop_remainder=True)
    ds = ds.map(batch, num_parallel_calls=_AUTO).prefetch(_AUTO)
    return _in_any_order(ds)


def decoded_by_tf_data(shards: Shards) -> tf.data.Dataset:
    """Returns one pass over records that hold JPEG, decoded in a parallel map, not shuffled."""

    def decoded(payload: tf.Tensor) -> tf.Tensor:
        features = tf.io.parse_single_example(payload, _SPEC)
        return tf.io.decode_jpeg(features["image"], channels=3)

    ds = tf.data.TFRecordDataset(list(shards.paths), num_parallel_reads=_AUTO)
    ds = ds.map(decoded, num_parallel_calls=_AUTO)
    ds = ds.batch(shards.batch_size, drop_remainder=True).prefetch(_AUTO)
    return _in_any_order(ds)


_SPEC = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}


def _parsed_one_by_one(shards: Shards) -> tf.data.Dataset:
    shape = [shards.image_size, shards.image_size, 3]

    def parse(payload: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_single_example(payload, _SPEC)
        return tf.reshape(tf.io.decode_raw(features["image"], tf.uint8), shape), features["label"]

    ds = tf.data.TFRecordDataset(list(shards.paths), num_parallel_reads=_AUTO)
    return ds.map(parse, num_parallel_calls=_AUTO)


def _changed_and_batched(
    ds: tf.data.Dataset, shards: Shards, options: AugmentOptions | None
) -> tf.data.Dataset:
    if options:
        ds = ds.map(
            lambda image, label: (_moved(image[None], options)[0], label), num_parallel_calls=_AUTO
        )
    return ds.batch(shards.batch_size, drop_remainder=True).prefetch(_AUTO)


def _moved(images: tf.Tensor, options: AugmentOptions) -> tf.Tensor:
    """Returns uint8 [n, size, size, 3] moved at random, float32 in 0..1."""
    size = images.shape[1]
    moves = warp.WARP.sample(options, tf.random.uniform([images.shape[0], 8]), 1.0, size)
    return warped_by_tf(images, warp.matrices(moves, size))


def warped_by_tf(images: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Returns images moved by the op that TensorFlow has for it, the edge repeated outside.

    Args:
        images: uint8 [n, size, size, 3].
        maps: float32 [n, 6], as from `warp.matrices`.

    Returns:
        float32 [n, size, size, 3] in 0..1.
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32) * (1 / 255),
        transforms=tf.pad(maps, [[0, 0], [0, 2]]),
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _in_any_order(ds: tf.data.Dataset) -> tf.data.Dataset:
    """Lets threads hand on what is ready; a fixed order would make them wait for each other."""
    options = tf.data.Options()
    options.deterministic = False
    return ds.with_options(options)


def image_data_generator(
    pixels: np.ndarray, options: AugmentOptions, batch_size: int, num_threads: int
) -> Iterator[np.ndarray]:
    """Yields batches of Keras' `ImageDataGenerator`, fed as `fit(workers=num_threads)` feeds it.

    Args:
        pixels: [rows, size, size, 3]; held once more as float32, the only dtype it can scale.
        options: rotation, shifts, zoom and horizontal flip; others are not handed on.
        num_threads: that make batches.
    """
    generator = keras.preprocessing.image.ImageDataGenerator(
        rotation_range=options.rotation_range,
        width_shift_range=options.width_shift_range,
        height_shift_range=options.height_shift_range,
        zoom_range=options.zoom_range,
        horizontal_flip=options.horizontal_flip,
        fill_mode=options.fill_mode,
        rescale=1 / 255,
    )
    whole = len(pixels) // batch_size * batch_size  # a short batch would be counted as a whole one
    flow = generator.flow(pixels[:whole], batch_size=batch_size)
    queue = keras.utils.OrderedEnqueuer(flow)
    queue.start(workers=num_threads, max_queue_size=10)
    try:
        yield from queue.get()
    finally:
        queue.stop()
