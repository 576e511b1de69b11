"""A residual network of bottleneck blocks for small images.

Blocks of He et al. 2016 (arXiv:1512.03385), three for each of the widths 64, 128, 256 and 512, the
best configuration of a student study; the 3x3 convolution has the stride (Goyal et al. 2017,
arXiv:1706.02677). The stem is one 3x3 convolution of stride 2: of 64 pixels it leaves 32 before the
first block and 4 after the last; the stem for ImageNet, 7x7 and pooling, would leave 16 and 2. Only
the head has dropout: before batch normalization it would shift the learned variance (Li et al.
2019, arXiv:1801.05134).
"""

from models.networks import blocks
from records.common.backend import keras, tf

layers = keras.layers

_STEM = 64
_WIDTHS = (64, 128, 256, 512)
_BLOCKS = 3  # of each width
_EXPANSION = 4


def build(
    num_classes: int, input_shape: tuple[int, int, int], *, dropout: float = 0.3
) -> keras.Model:
    """Returns the network.

    Images are in 0..1, at least 16 pixels each way; `dropout` is applied before the last layer.
    """
    blocks.check_size("resnet_bottleneck", input_shape, 16)
    inputs = keras.Input(input_shape)
    x = blocks.conv(inputs, _STEM, 3, name="stem", strides=2)
    for stage, width in enumerate(_WIDTHS, start=1):
        for number in range(1, _BLOCKS + 1):
            strides = 2 if number == 1 and stage > 1 else 1
            x = _bottleneck(x, width, name=f"stage{stage}_block{number}", strides=strides)
    outputs = blocks.head(x, num_classes, kind="gap", dropout=dropout)
    return keras.Model(inputs, outputs, name="resnet_bottleneck")


def _bottleneck(x: tf.Tensor, width: int, *, name: str, strides: int) -> tf.Tensor:
    """Returns a block of 1x1, 3x3 and 1x1 convolutions and a shortcut."""
    expanded, shortcut = width * _EXPANSION, x
    if x.shape[-1] != expanded:
        shortcut = blocks.conv(x, expanded, 1, name=f"{name}_shortcut", strides=strides, relu=False)
    x = blocks.conv(x, width, 1, name=f"{name}_conv1")
    x = blocks.conv(x, width, 3, name=f"{name}_conv2", strides=strides)
    x = blocks.conv(x, expanded, 1, name=f"{name}_conv3", relu=False)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, shortcut]))
