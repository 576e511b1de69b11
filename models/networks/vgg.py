"""VGG-16 and VGG-19 (Simonyan & Zisserman 2014, arXiv:1409.1556), of `tf_keras.applications`.

The network takes RGB in 0..255 and centres it itself, as the published ImageNet weights want it.
"""

from models.networks import blocks
from records.common.backend import keras


def vgg16(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "flatten",
    dropout: float = 0.5,
) -> keras.Model:
    """Returns VGG-16; with the features frozen, 224x224 and 2 classes, 50,178 numbers are trained.

    Args:
        num_classes: number of logits.
        input_shape: height, width and channels (3) of the images.
        head: as of `blocks.head`; a study on 20 classes had the best results with `deep`,
            130,055,188 parameters at 224x224.
        dropout: rate before the layers of the head.

    Input shape:
        float RGB [batch, height, width, 3] in 0..255, at least 32 pixels each way.

    Output shape:
        float32 logits [batch, num_classes].

    Raises:
        ValueError: if the images are smaller or not RGB, or an option has no such value.
    """
    return _build("vgg16", num_classes, input_shape, head, dropout)


def vgg19(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "flatten",
    dropout: float = 0.5,
) -> keras.Model:
    """Returns VGG-19, which differs from `vgg16` by three more convolutions alone."""
    return _build("vgg19", num_classes, input_shape, head, dropout)


def _build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], head: str, dropout: float
) -> keras.Model:
    blocks.check_size(name, input_shape, 32)
    blocks.check_colour(name, input_shape)
    application = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[name]
    inputs = keras.Input(input_shape)
    features = application(
        include_top=False,
        weights=None,
        input_tensor=blocks.CaffeInput()(inputs),
        input_shape=input_shape,
    )
    outputs = blocks.head(features.output, num_classes, kind=head, dropout=dropout)
    return keras.Model(inputs, outputs, name=name)
