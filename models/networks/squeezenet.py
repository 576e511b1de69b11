"""SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360): 722,496 parameters before the head.

Layers are named as in the ImageNet weights published for Keras, so that `transfer.init_from` can
read them; images are centred as these weights expect.
"""

from models.networks import blocks
from records.common.backend import keras, tf

layers = keras.layers

# Channels of each fire module: of its squeeze convolution, and of each of its two expansions.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
_POOLED_AFTER = (3, 5)  # the numbers of fire modules; the first is fire2


def build(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "gap",
    dropout: float = 0.5,
) -> keras.Model:
    """Returns the network.

    Images are RGB in 0..255, at least 31 pixels each way; `dropout` is applied before the layers of
    the head. `head` is the `kind` of `blocks.head`; `linear` and `mlp` use the last two fire
    modules. The paper's head, a 1x1 convolution and then pooling, is `gap` except for a ReLU.
    """
    blocks.check_rgb("squeezenet", input_shape, 31)
    inputs = keras.Input(input_shape)
    x = blocks.CaffeInput()(inputs)
    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(x)
    x = _halved(x, name="pool1")
    fires = []
    for number, (squeezed, expanded) in enumerate(_FIRES, start=2):
        x = _fire(x, squeezed, expanded, name=f"fire{number}")
        fires.append(x)
        if number in _POOLED_AFTER:
            x = _halved(x, name=f"pool{number}")
    outputs = blocks.head(x, num_classes, kind=head, dropout=dropout, earlier=fires[-2:-1])
    return keras.Model(inputs, outputs, name="squeezenet")


def _halved(x: tf.Tensor, *, name: str) -> tf.Tensor:
    return layers.MaxPooling2D(3, strides=2, name=name)(x)


def _fire(x: tf.Tensor, squeezed: int, expanded: int, *, name: str) -> tf.Tensor:
    def conv(x: tf.Tensor, filters: int, size: int, part: str) -> tf.Tensor:
        return layers.Conv2D(
            filters,
            size,
            padding="same",
            activation="relu",
            kernel_initializer="he_uniform",
            name=f"{name}/{part}",
        )(x)

    x = conv(x, squeezed, 1, "squeeze1x1")
    both = [conv(x, expanded, 1, "expand1x1"), conv(x, expanded, 3, "expand3x3")]
    return layers.Concatenate(name=f"{name}/concat")(both)
