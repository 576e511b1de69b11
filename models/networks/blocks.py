"""Building blocks of networks: checks, normalized convolutions, inputs and heads.

A network consists of features, which transfer learning keeps, and a head, which it replaces. The
layers of the head, and only these, are named `head...` or `logits`.
"""

from collections.abc import Sequence
from typing import Any

from models.networks.dropout import Dropout
from records.common import checks
from records.common.backend import keras, tf

layers = keras.layers

HEADS = ("gap", "linear", "mlp", "flatten", "deep")
_MLP_WIDTH = 512
_DEEP_WIDTHS = (4096, 4096, 2048, 1024)
_MINUS_MEANS = (-103.939, -116.779, -123.68)  # of ImageNet, BGR in 0..255


def check_size(network: str, input_shape: Sequence[int], smallest: int) -> None:
    """Raises ValueError if images of a shape [height, width, channels] are below `smallest`."""
    if min(input_shape[:2]) < smallest:
        raise ValueError(
            f"{network} takes images of at least {smallest} pixels, got {min(input_shape[:2])}"
        )


def check_rgb(network: str, input_shape: Sequence[int], smallest: int) -> None:
    """Raises ValueError if images of a shape [height, width, channels] are small or not RGB."""
    check_size(network, input_shape, smallest)
    if input_shape[2] != 3:
        raise ValueError(f"{network} takes images of 3 channels, got {input_shape[2]}")


def check_dropout(rate: float) -> None:
    """Raises ValueError if a dropout rate is out of range."""
    checks.between("dropout", rate, 0, 1, "[)")


def batch_norm(name: str, *, epsilon: float = 1e-3) -> keras.layers.Layer:
    """Returns batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Its statistics are those of the global batch. Call it under the strategy's scope.
    """
    # Synchronized, so that training does not depend on the number of replicas; a single replica
    # uses Keras' fused kernel, which trains convnet 1.1 times as fast on 2 cores. Unlike the
    # synchronized layer, it applies Bessel's correction to the moving variance: switched off.
    synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    # The usual momentum for ImageNet, 0.99 or 0.999, lags behind by hundreds of steps, which are
    # many epochs of a small set.
    layer = layers.BatchNormalization(
        momentum=0.9, epsilon=epsilon, synchronized=synchronized, name=name
    )
    layer._bessels_correction_test_only = False
    return layer


def conv(
    x: tf.Tensor,
    filters: int,
    size: int,
    *,
    name: str,
    strides: int = 1,
    normalized: bool = True,
    relu: bool = True,
) -> tf.Tensor:
    """Returns a convolution of [batch, height, width, channels] with padding.

    The convolution is named `name`, the normalization `{name}_bn`; with one there is no bias.
    """
    x = layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=not normalized,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if normalized:
        x = batch_norm(f"{name}_bn")(x)
    return layers.ReLU()(x) if relu else x


@keras.saving.register_keras_serializable("models")
class CaffeInput(keras.layers.Rescaling):
    """RGB in 0..255 -> BGR minus the means of ImageNet, as Caffe's networks expect.

    Input shape and output shape:
        float [batch, height, width, 3].
    """

    # A `Rescaling` by 1, so that `input_range` recognizes that the model expects 0..255. In float32
    # under any policy, because bfloat16 would round the means.

    def __init__(self, scale: float = 1.0, offset: Sequence[float] = _MINUS_MEANS, **options: Any):
        super().__init__(scale, offset, **{"dtype": "float32", **options})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the channels in reverse order, centred."""
        return super().call(inputs[..., ::-1])


@keras.saving.register_keras_serializable("models")
class MinPooling2D(keras.layers.MaxPooling2D):
    """The smallest value of each window, 2x2 by default: keeps dark strokes on a white background.

    Input shape and output shape:
        as for `MaxPooling2D`.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the minima."""
        return -super().call(-inputs)


def logits(x: tf.Tensor, num_classes: int, *, initial: str = "glorot_uniform") -> tf.Tensor:
    """Returns float32 logits [batch, classes] of values [batch, n], under any policy."""
    dense = layers.Dense(num_classes, dtype="float32", kernel_initializer=initial, name="logits")
    return dense(x)


def head(
    x: tf.Tensor, num_classes: int, *, kind: str, dropout: float, earlier: Sequence[tf.Tensor] = ()
) -> tf.Tensor:
    """Returns float32 logits [batch, classes] of features [batch, height, width, channels].

    Args:
        x: the features.
        num_classes: at least 1.
        kind: `gap` (global average pooling), `linear` (`gap` of the `earlier` maps too, then
            normalization), `mlp` (`linear` and a hidden layer of 512), `flatten` (no pooling), or
            `deep` (flattened, then layers of 4096, 4096, 2048 and 1024).
        dropout: rate before each layer except the first of `deep`, 0 to below 1.
        earlier: features of lower layers, which contain more texture than the last.

    Raises:
        ValueError: if `kind` or `dropout` is out of range.
    """
    checks.one_of("head", kind, HEADS)
    check_dropout(dropout)
    if kind == "gap":
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    elif kind in ("linear", "mlp"):
        x = _means([*earlier, x])
        x = _perceptron(x, dropout) if kind == "mlp" else x
    else:
        x = layers.Flatten(name="head_flatten")(x)
    for number, width in enumerate(_DEEP_WIDTHS if kind == "deep" else (), start=1):
        if number > 1:
            x = Dropout(dropout, name=f"head_dropout{number - 1}")(x)
        x = layers.Dense(width, activation="relu", name=f"head_dense{number}")(x)
    # A few dozen steps do not unlearn random logits of normalized features. Starting from zero, 121
    # instead of 118 of 148 photos were correct in ten folds: within noise, but other trials agree.
    initial = "zeros" if kind in ("linear", "mlp") else "glorot_uniform"
    return logits(Dropout(dropout, name="head_dropout")(x), num_classes, initial=initial)


def _means(maps: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the global averages of several feature maps, normalized."""
    means = [
        layers.GlobalAveragePooling2D(name=f"head_pool{number}")(each)
        for number, each in enumerate(maps, start=1)
    ]
    x = layers.Concatenate(name="head_concat")(means) if len(means) > 1 else means[0]
    return batch_norm("head_norm_means")(x)


def _perceptron(x: tf.Tensor, dropout: float) -> tf.Tensor:
    """Returns a hidden layer of 512, normalized."""
    dense = layers.Dense(
        _MLP_WIDTH, use_bias=False, kernel_initializer="he_normal", name="head_dense"
    )
    x = dense(Dropout(dropout, name="head_dropout_means")(x))
    return layers.ReLU(name="head_relu")(batch_norm("head_norm")(x))
