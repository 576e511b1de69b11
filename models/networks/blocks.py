"""What several networks are made of: checks, normalized convolutions, inputs and heads.

A network is features, which transfer learning keeps, and a head, which it replaces. All layers of a
head are named `head...` or `logits`; no other layer is.
"""

from collections.abc import Sequence
from typing import Any

from models.networks.dropout import Dropout
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


def check_colour(network: str, input_shape: Sequence[int]) -> None:
    """Raises ValueError if images of a shape [height, width, channels] are not RGB."""
    if input_shape[2] != 3:
        raise ValueError(f"{network} takes images of 3 channels, got {input_shape[2]}")


def check_dropout(rate: float) -> None:
    """Raises ValueError if a rate is none of dropout."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {rate}")


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError if the value of an option is none of its choices."""
    if value not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}, got {value!r}")


def batch_norm(name: str, *, epsilon: float = 1e-3) -> keras.layers.Layer:
    """Returns batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Its statistics are those of the global batch, so that training does not depend on how many
    replicas share it; to be called under the strategy's scope. One replica takes Keras' fused
    kernel, which trains convnet 1.1 times as fast, without the correction of the variance that
    several replicas do not have either. The momentum of 0.99 or 0.999 that is usual for ImageNet
    lags behind by hundreds of steps, which are many epochs of a small set.
    """
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    layer = layers.BatchNormalization(
        momentum=0.9, epsilon=epsilon, synchronized=several, name=name
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
    """Returns a convolution of [batch, height, width, channels] that keeps the size, if no stride.

    Args:
        x: input.
        filters: channels of the output.
        size: of the kernel, in pixels.
        name: of the convolution; the normalization is `{name}_bn`.
        strides: in pixels.
        normalized: with batch normalization, and then without bias.
        relu: end in a ReLU.
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
    """RGB in 0..255 -> BGR minus the means of ImageNet, which networks of Caffe's time were given.

    Computed in float32 whatever the policy, because bfloat16 rounds the means. It is a `Rescaling`,
    by 1, so that whoever reads a model's first layers sees that it takes 0..255.

    Input shape and output shape:
        float [batch, height, width, 3].
    """

    def __init__(self, scale: float = 1.0, offset: Sequence[float] = _MINUS_MEANS, **options: Any):
        super().__init__(scale, offset, **{"dtype": "float32", **options})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the channels in reverse order, centred."""
        return super().call(inputs[..., ::-1])


@keras.saving.register_keras_serializable("models")
class MinPooling2D(keras.layers.MaxPooling2D):
    """The smallest value of each window, 2x2 by default: it keeps dark strokes on white ground.

    Input shape and output shape:
        as of `MaxPooling2D`.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the minima."""
        return -super().call(-inputs)


def logits(x: tf.Tensor, num_classes: int, *, initial: str = "glorot_uniform") -> tf.Tensor:
    """Returns float32 logits [batch, classes] of values [batch, n], under any policy.

    Args:
        x: the values.
        num_classes: number of logits.
        initial: name of Keras' initializer of the weights.
    """
    dense = layers.Dense(num_classes, dtype="float32", kernel_initializer=initial, name="logits")
    return dense(x)


def head(
    x: tf.Tensor, num_classes: int, *, kind: str, dropout: float, earlier: Sequence[tf.Tensor] = ()
) -> tf.Tensor:
    """Returns float32 logits [batch, classes] of features [batch, height, width, channels].

    Args:
        x: the features.
        num_classes: number of logits.
        kind: `gap` (the mean over the image), `linear` (that of `earlier` maps too, normalized),
            `mlp` (the same and a layer of 512), `flatten` (every value by itself), or `deep`
            (flattened, then layers of 4096, 4096, 2048 and 1024).
        dropout: rate before each layer but the first of `deep`.
        earlier: features of lower layers, which say more of texture than the last.

    Raises:
        ValueError: if `kind` or `dropout` is wrong.
    """
    check_choice("head", kind, HEADS)
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
    # A few dozen steps do not undo random logits of normalized features. From zero, 121 instead of
    # 118 of 148 photographs were right in ten folds: alone within noise, but as in other trials.
    initial = "zeros" if kind in ("linear", "mlp") else "glorot_uniform"
    return logits(Dropout(dropout, name="head_dropout")(x), num_classes, initial=initial)


def _means(maps: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the means over the image of several maps, normalized."""
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
