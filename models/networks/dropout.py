"""Dropout whose masks are a function of the seed, the position in the stream and the layer.

A step repeated after an interruption, or with another number of replicas, then drops the same
units. Keras draws its masks from a stateful generator, which checkpoints do not contain.
"""

import contextlib
import dataclasses
import math
import threading
from collections.abc import Iterator

from records.common.backend import keras, tf

_RANDOM_LAYER = keras.__internal__.layers.BaseRandomLayer
_PHILOX = 1  # tf.random.Algorithm.PHILOX
_BLOCK = 4  # numbers in a block of Philox


@dataclasses.dataclass(frozen=True)
class _Position:
    seed: int
    first: tf.Tensor


class _Current(threading.local):
    position: _Position | None = None


_CURRENT = _Current()  # replicas are traced in threads of their own


@contextlib.contextmanager
def keyed(seed: int, first: tf.Tensor) -> Iterator[None]:
    """Makes the masks of layers called in this context depend on the seed and stream positions.

    Args:
        seed: of the run.
        first: int64 scalar, position of the batch's first row; the other rows follow it.
    """
    before, _CURRENT.position = _CURRENT.position, _Position(seed, first)
    try:
        yield
    finally:
        _CURRENT.position = before


@keras.saving.register_keras_serializable("models")
class Dropout(keras.layers.Dropout):
    """Inverted dropout (Srivastava et al. 2014): kept values are divided by the share kept.

    Within `keyed` the mask of a row depends only on the seed, its position and the layer's number;
    elsewhere, such as in Keras' own `fit`, it is Keras' dropout.

    Input shape and output shape:
        float [batch, ...], the same for both.
    """

    number = 0  # index of the layer among the dropout layers of its model

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the inputs, with some of them 0 in training."""
        position = _CURRENT.position
        if position is None or not training or self.rate == 0:
            return super().call(inputs, training=training)
        shape = inputs.shape[1:].as_list()
        if self.noise_shape is not None:
            noise = list(self.noise_shape)[1:]
            shape = [own if one is None else one for own, one in zip(shape, noise, strict=True)]
        numbers = _uniforms(position, self.number, tf.shape(inputs)[0], shape)
        keep = tf.cast(numbers >= self.rate, inputs.dtype)
        return inputs * keep * tf.cast(1 / (1 - self.rate), inputs.dtype)


def number_layers(model: keras.Model) -> None:
    """Numbers the dropout layers of a model, so that their masks differ."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, Dropout)]
    for number, layer in enumerate(layers):
        layer.number = number


def check(model: keras.Model) -> None:
    """Raises ValueError if a layer has a random generator, whose state checkpoints do not hold."""
    for layer in model._flatten_layers():
        if isinstance(layer, _RANDOM_LAYER) and not isinstance(layer, Dropout):
            raise ValueError(
                f"layer {layer.name!r} of model {model.name!r} is Keras' {type(layer).__name__},"
                " whose random numbers cannot be resumed; use models.networks.dropout.Dropout"
            )


def _uniforms(position: _Position, layer: int, rows: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """Returns numbers in [0, 1), float32 [rows, *shape], determined by each row's position."""
    count = math.prod(shape)
    blocks = math.ceil(count / _BLOCK)
    counter = tf.stack([tf.cast(position.first * blocks, tf.uint64), tf.constant(0, tf.uint64)])
    key = (layer + 1) << 32 | position.seed & 0xFFFFFFFF
    numbers = tf.raw_ops.StatelessRandomUniformV2(
        shape=[rows, blocks * _BLOCK],
        key=tf.constant([key], tf.uint64),
        counter=counter,
        alg=_PHILOX,
    )
    return tf.reshape(numbers[:, :count], [-1, *shape])
