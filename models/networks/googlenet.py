"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842), with the widths of its table 1.

Without local response normalization, and without the two auxiliary heads, which batch normalization
made unnecessary (Szegedy et al. 2015, arXiv:1512.00567).
"""

import dataclasses

from models.networks import blocks
from records.common.backend import keras, tf

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class _Widths:
    """Channels in an inception module; `_reduce`: of the 1x1 convolution before a larger one."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int


_STAGES = {
    "3": (_Widths(64, 96, 128, 16, 32, 32), _Widths(128, 128, 192, 32, 96, 64)),
    "4": (
        _Widths(192, 96, 208, 16, 48, 64),
        _Widths(160, 112, 224, 24, 64, 64),
        _Widths(128, 128, 256, 24, 64, 64),
        _Widths(112, 144, 288, 32, 64, 64),
        _Widths(256, 160, 320, 32, 128, 128),
    ),
    "5": (_Widths(256, 160, 320, 32, 128, 128), _Widths(384, 192, 384, 48, 128, 128)),
}


def build(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    dropout: float = 0.4,
    batch_norm: bool = True,
) -> keras.Model:
    """Returns the network.

    Images are in 0..1, at least 32 pixels each way; `dropout` is applied before the last layer,
    batch normalization before each ReLU of a convolution.
    """
    blocks.check_size("googlenet", input_shape, 32)
    inputs = keras.Input(input_shape)
    x = blocks.conv(inputs, 64, 7, name="conv1", strides=2, normalized=batch_norm)
    x = _halved(x)
    x = blocks.conv(x, 64, 1, name="conv2_reduce", normalized=batch_norm)
    x = blocks.conv(x, 192, 3, name="conv2", normalized=batch_norm)
    for stage, modules in _STAGES.items():
        x = _halved(x)
        for letter, widths in zip("abcde", modules, strict=False):
            x = _inception(x, widths, name=f"inception{stage}{letter}", normalized=batch_norm)
    outputs = blocks.head(x, num_classes, kind="gap", dropout=dropout)
    return keras.Model(inputs, outputs, name="googlenet")


def _halved(x: tf.Tensor) -> tf.Tensor:
    return layers.MaxPooling2D(3, strides=2, padding="same")(x)


def _inception(x: tf.Tensor, widths: _Widths, *, name: str, normalized: bool) -> tf.Tensor:
    def conv(x: tf.Tensor, filters: int, size: int, part: str) -> tf.Tensor:
        return blocks.conv(x, filters, size, name=f"{name}_{part}", normalized=normalized)

    one = conv(x, widths.one, 1, "1x1")
    three = conv(conv(x, widths.three_reduce, 1, "3x3_reduce"), widths.three, 3, "3x3")
    five = conv(conv(x, widths.five_reduce, 1, "5x5_reduce"), widths.five, 5, "5x5")
    pooled = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    return layers.Concatenate()([one, three, five, conv(pooled, widths.pool, 1, "pool")])
