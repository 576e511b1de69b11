"""Networks of `tf_keras.applications` for which ImageNet weights are published.

They are built without weights, which `transfer.init_from` fills in, and flat: the layers of the
features stand beside those of the head. Every batch normalization and dropout is replaced by that
of our own networks.
"""

from models.networks import blocks
from models.networks.dropout import Dropout
from records.common.backend import keras

layers = keras.layers
applications = keras.applications

_SMALLEST = 32  # pixels; all of them halve the image five times

# Of ImageNet's RGB in 0..1.
_MEANS = (0.485, 0.456, 0.406)
_DEVIATIONS = (0.229, 0.224, 0.225)


def resnet50(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "gap",
    dropout: float = 0.2,
) -> keras.Model:
    """Returns ResNet-50 (He et al. 2016, arXiv:1512.03385).

    Args:
        num_classes: number of logits.
        input_shape: height, width and channels (3) of the images.
        head: as of `blocks.head`.
        dropout: rate before the layers of the head.

    Input shape:
        float RGB [batch, height, width, 3] in 0..255, at least 32 pixels each way.

    Output shape:
        float32 logits [batch, num_classes].

    Raises:
        ValueError: if the images are smaller or not RGB, or an option has no such value.
    """
    _check("resnet50", input_shape)
    inputs = keras.Input(input_shape)
    features = applications.ResNet50(
        include_top=False,
        weights=None,
        input_tensor=blocks.CaffeInput()(inputs),
        input_shape=input_shape,
    )
    return _with_head("resnet50", features, num_classes, head, dropout)


def efficientnet(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "gap",
    dropout: float = 0.2,
) -> keras.Model:
    """Returns EfficientNet-B0 (Tan & Le 2019, arXiv:1905.11946).

    It brings its images to 0..1 itself, and then to mean 0 and deviation 1 over ImageNet by fixed
    numbers. Keras does the same in two layers, of which it leaves one out where it is given no
    weights, and keeps the numbers among these: 7 more than there are here.

    Args:
        num_classes: number of logits.
        input_shape: height, width and channels (3) of the images.
        head: as of `blocks.head`.
        dropout: rate before the layers of the head; within the features whole residuals are
            dropped at the paper's rates.

    Input shape:
        float RGB [batch, height, width, 3] in 0..255, at least 32 pixels each way.

    Output shape:
        float32 logits [batch, num_classes].

    Raises:
        ValueError: if the images are smaller or not RGB, or an option has no such value.
    """
    _check("efficientnet", input_shape)
    features = applications.EfficientNetB0(include_top=False, weights=None, input_shape=input_shape)
    return _with_head("efficientnet", features, num_classes, head, dropout)


def mobilenet(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "gap",
    dropout: float = 0.2,
) -> keras.Model:
    """Returns MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381).

    The second version rather than the first: on two cores at 64x64 it trains 1.1 times as many
    images a second, 1.3 times with the features frozen, and Keras' weights are a point better on
    ImageNet (71.3 to 70.4 %) with two thirds of the parameters.

    Args:
        num_classes: number of logits.
        input_shape: height, width and channels (3) of the images.
        head: as of `blocks.head`.
        dropout: rate before the layers of the head.

    Input shape:
        float RGB [batch, height, width, 3] in -1..1, at least 32 pixels each way.

    Output shape:
        float32 logits [batch, num_classes].

    Raises:
        ValueError: if the images are smaller or not RGB, or an option has no such value.
    """
    _check("mobilenet", input_shape)
    features = applications.MobileNetV2(include_top=False, weights=None, input_shape=input_shape)
    return _with_head("mobilenet", features, num_classes, head, dropout)


def _check(name: str, input_shape: tuple[int, int, int]) -> None:
    blocks.check_size(name, input_shape, _SMALLEST)
    blocks.check_colour(name, input_shape)


def _with_head(
    name: str, features: keras.Model, num_classes: int, head: str, dropout: float
) -> keras.Model:
    ours = keras.models.clone_model(features, clone_function=_ours)
    outputs = blocks.head(ours.output, num_classes, kind=head, dropout=dropout)
    return keras.Model(ours.input, outputs, name=name)


def _ours(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a new layer in the place of one of an application, with its name."""
    if isinstance(layer, layers.BatchNormalization):
        return blocks.batch_norm(layer.name, epsilon=layer.epsilon)
    if isinstance(layer, layers.Dropout):
        return Dropout(layer.rate, noise_shape=layer.noise_shape, name=layer.name)
    if isinstance(layer, layers.Normalization):
        variances = [deviation**2 for deviation in _DEVIATIONS]
        return layers.Normalization(mean=_MEANS, variance=variances, name=layer.name)
    return type(layer).from_config(layer.get_config())
