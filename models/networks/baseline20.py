"""The plain baseline of a student study on 20 classes of photos.

Three convolutions and a wide dense layer; 99,190,292 parameters at 224x224 RGB, nearly all of them
in that layer. The study wrote `Convolution2D(32, 3, 3)` as in Keras 1, which Keras 2 interprets as
a stride of 3: it trained 198,164 parameters. This is the intended network.
"""

from models.networks import blocks
from models.networks.dropout import Dropout
from records.common.backend import keras

layers = keras.layers


def build(
    num_classes: int, input_shape: tuple[int, int, int], *, dropout: float = 0.5
) -> keras.Model:
    """Returns the network.

    Images are in 0..1, at least 6 pixels each way; `dropout` is applied before the last layer, half
    of it after each pooling.
    """
    blocks.check_size("baseline20", input_shape, 6)
    blocks.check_dropout(dropout)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(),
            Dropout(dropout / 2),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
            layers.Conv2D(64, 3, name="conv3"),  # without an activation, as in the study
            layers.MaxPooling2D(padding="same"),
            Dropout(dropout / 2),
            layers.Flatten(name="head_flatten"),
            layers.Dense(512, activation="relu", name="head_dense"),
            Dropout(dropout, name="head_dropout"),
            layers.Dense(num_classes, dtype="float32", name="logits"),
        ],
        name="baseline20",
    )
