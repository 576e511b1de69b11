"""A small plain network in the manner of LeNet: three convolutions, each followed by pooling.

After LeCun et al. 1998 (doi:10.1109/5.726791), with the widths of a student study on O and X: at
150x150 RGB and one output it has 1,212,513 parameters, at 64x64 176,225.
"""

from records.backend import keras

layers = keras.layers


def build(num_classes: int, input_shape: tuple[int, int, int]) -> keras.Model:
    """Returns the network.

    Input shape:
        float [batch, height, width, channels] in 0..1, at least 22 pixels each way.

    Output shape:
        float32 logits [batch, num_classes].

    Raises:
        ValueError: if the images are smaller.
    """
    if min(input_shape[:2]) < 22:
        raise ValueError(f"lenet takes images of at least 22 pixels, got {min(input_shape[:2])}")
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(num_classes, dtype="float32", name="logits"),
        ],
        name="lenet",
    )
