"""Dropout whose masks are a function of the seed, the place in the stream and the layer.

So a step that is done again after an interruption drops the same units, and so does one whose batch
is shared among more or fewer replicas. Keras draws its masks from a generator with a state of its
own, which is in no checkpoint.
"""

import contextlib
import dataclasses
import math
import threading
from collections.abc import Iterator

from records.common.backend import keras, tf

_DRAWING = keras.__internal__.layers.BaseRandomLayer
_PHILOX = 1  # tf.random.Algorithm.PHILOX
_BLOCK = 4  # numbers that one block of Philox gives


@dataclasses.dataclass(frozen=True)
class _Place:
    seed: int
    first: tf.Tensor


class _Current(threading.local):
    place: _Place | None = None


_CURRENT = _Current()  # replicas are traced in threads of their own


@contextlib.contextmanager
def keyed(seed: int, first: tf.Tensor) -> Iterator[None]:
    """Lets the layers that are called within draw their masks for known places of the stream.

    Args:
        seed: of the run.
        first: int64 scalar, the place of the batch's first row in the stream; those of the others
            follow.
    """
    before, _CURRENT.place = _CURRENT.place, _Place(seed, first)
    try:
        yield
    finally:
        _CURRENT.place = before


@keras.saving.register_keras_serializable("models")
class Dropout(keras.layers.Dropout):
    """Dropout (Srivastava et al. 2014), inverted: what stays is divided by the share that stays.

    Within `keyed` the mask of a row depends on the seed, its place and the layer's number alone;
    elsewhere, such as under Keras' own `fit`, it is Keras' dropout.

    Input shape and output shape:
        float [batch, ...], the same for both.
    """

    number = 0  # of the layer among those of its model

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the inputs, with some of them 0 in training."""
        place = _CURRENT.place
        if place is None or not training or self.rate == 0:
            return super().call(inputs, training=training)
        shape = inputs.shape[1:].as_list()
        if self.noise_shape is not None:
            wanted = list(self.noise_shape)[1:]
            shape = [own if one is None else one for own, one in zip(shape, wanted, strict=True)]
        numbers = _uniforms(place, self.number, tf.shape(inputs)[0], shape)
        keep = tf.cast(numbers >= self.rate, inputs.dtype)
        return inputs * keep * tf.cast(1 / (1 - self.rate), inputs.dtype)


def number_layers(model: keras.Model) -> None:
    """Gives the dropout layers of a model their numbers, by which their masks differ."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, Dropout)]
    for number, layer in enumerate(layers):
        layer.number = number


def check(model: keras.Model) -> None:
    """Refuses a model that draws random numbers from a generator that no checkpoint knows.

    Raises:
        ValueError: if a layer does.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, _DRAWING) and not isinstance(layer, Dropout):
            raise ValueError(
                f"layer {layer.name!r} of model {model.name!r} is Keras' {type(layer).__name__},"
                " whose random numbers cannot be resumed; use models.dropout.Dropout"
            )


def _uniforms(place: _Place, layer: int, rows: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """Returns numbers in [0, 1), float32 [rows, *shape]; those of a row come from its place."""
    count = math.prod(shape)
    blocks = math.ceil(count / _BLOCK)
    counter = tf.stack([tf.cast(place.first * blocks, tf.uint64), tf.constant(0, tf.uint64)])
    key = (layer + 1) << 32 | place.seed & 0xFFFFFFFF
    numbers = tf.raw_ops.StatelessRandomUniformV2(
        shape=[rows, blocks * _BLOCK],
        key=tf.constant([key], tf.uint64),
        counter=counter,
        alg=_PHILOX,
    )
    return tf.reshape(numbers[:, :count], [-1, *shape])
