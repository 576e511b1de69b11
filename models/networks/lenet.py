"""A small plain network like LeNet: three convolutions, each followed by pooling.

After LeCun et al. 1998 (doi:10.1109/5.726791), with the widths of a student study on the letters O
and X: with one output, 1,212,513 parameters at 150x150 RGB, 176,225 at 64x64.
"""

from models.networks import blocks
from models.networks.dropout import Dropout
from records.common import checks
from records.common.backend import keras

layers = keras.layers

POOLINGS = {
    "max": layers.MaxPooling2D,
    "average": layers.AveragePooling2D,
    "min": blocks.MinPooling2D,
}
_WIDTHS = (32, 32, 64)


def build(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    pooling: str = "max",
    dropout: float = 0.5,
    batch_norm: bool = False,
) -> keras.Model:
    """Returns the network.

    Images are in 0..1, at least 22 pixels each way; `dropout` is applied before the last layer,
    batch normalization before each ReLU of a convolution. `pooling` is `max`, `average` or `min`,
    which preserves dark glyphs on a white background.
    """
    blocks.check_size("lenet", input_shape, 22)
    checks.one_of("pooling", pooling, POOLINGS)
    blocks.check_dropout(dropout)
    model = keras.Sequential([keras.Input(input_shape)], name="lenet")
    for number, filters in enumerate(_WIDTHS, start=1):
        for layer in _conv(filters, f"conv{number}", batch_norm):
            model.add(layer)
        model.add(POOLINGS[pooling]())
    model.add(layers.Flatten(name="head_flatten"))
    model.add(layers.Dense(64, activation="relu", name="head_dense"))
    model.add(Dropout(dropout, name="head_dropout"))
    model.add(layers.Dense(num_classes, dtype="float32", name="logits"))
    return model


def _conv(filters: int, name: str, batch_norm: bool) -> list[keras.layers.Layer]:
    if not batch_norm:
        return [layers.Conv2D(filters, 3, activation="relu", name=name)]
    plain = layers.Conv2D(filters, 3, use_bias=False, name=name)
    return [plain, blocks.batch_norm(f"{name}_bn"), layers.ReLU()]
