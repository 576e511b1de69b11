"""Networks of `tf_keras.applications` for which ImageNet weights are published.

They are built without weights, which `transfer.init_from` sets, and flat: features and head are
layers of one model. Every batch normalization and dropout is replaced by that of our own networks.

Images are RGB, at least 32 pixels each way. `head` is the `kind` of `blocks.head`, `dropout` the
rate before the layers of the head.
"""

from collections.abc import Callable

from models.networks import blocks
from models.networks.dropout import Dropout
from records.common.backend import keras

layers = keras.layers
applications = keras.applications

_MIN_SIZE = 32  # pixels; all of them halve the image five times

# ImageNet's RGB in 0..1.
_MEANS = (0.485, 0.456, 0.406)
_DEVIATIONS = (0.229, 0.224, 0.225)


def vgg16(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "flatten",
    dropout: float = 0.5,
) -> keras.Model:
    """Returns VGG-16 (Simonyan & Zisserman 2014, arXiv:1409.1556), for images in 0..255.

    With frozen features, 50,178 parameters are trained at 224x224 with 2 classes. The head `deep`
    was best in a study of 20 classes, with 130,055,188 parameters at 224x224.
    """
    features = _caffe_features(applications.VGG16, "vgg16", input_shape)
    outputs = blocks.head(features.output, num_classes, kind=head, dropout=dropout)
    return keras.Model(features.input, outputs, name="vgg16")


def vgg19(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "flatten",
    dropout: float = 0.5,
) -> keras.Model:
    """Returns VGG-19: `vgg16` with three more convolutions."""
    features = _caffe_features(applications.VGG19, "vgg19", input_shape)
    outputs = blocks.head(features.output, num_classes, kind=head, dropout=dropout)
    return keras.Model(features.input, outputs, name="vgg19")


def resnet50(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "gap",
    dropout: float = 0.2,
) -> keras.Model:
    """Returns ResNet-50 (He et al. 2016, arXiv:1512.03385), for images in 0..255."""
    features = _caffe_features(applications.ResNet50, "resnet50", input_shape)
    return _with_head("resnet50", features, num_classes, head, dropout)


def efficientnet(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "gap",
    dropout: float = 0.2,
) -> keras.Model:
    """Returns EfficientNet-B0 (Tan & Le 2019, arXiv:1905.11946), for images in 0..255.

    Entire residual branches are dropped at the paper's rates. The model scales its images to 0..1,
    then by constants to mean 0 and deviation 1 over ImageNet. Keras uses two layers for the latter,
    one of which it omits without weights, and counts the constants as 7 more parameters.
    """
    blocks.check_rgb("efficientnet", input_shape, _MIN_SIZE)
    features = applications.EfficientNetB0(include_top=False, weights=None, input_shape=input_shape)
    return _with_head("efficientnet", features, num_classes, head, dropout)


def mobilenet(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    head: str = "gap",
    dropout: float = 0.2,
) -> keras.Model:
    """Returns MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), for images in -1..1."""
    blocks.check_rgb("mobilenet", input_shape, _MIN_SIZE)
    # Version 2 rather than 1: on two cores at 64x64 it trains 1.1 times as many images per second,
    # 1.3 times with frozen features, and Keras' weights are a point better on ImageNet (71.3
    # against 70.4 %) with two thirds of the parameters.
    features = applications.MobileNetV2(include_top=False, weights=None, input_shape=input_shape)
    return _with_head("mobilenet", features, num_classes, head, dropout)


def _caffe_features(
    application: Callable[..., keras.Model], name: str, input_shape: tuple[int, int, int]
) -> keras.Model:
    """Returns the features of an application, which centres its images as Caffe's networks do."""
    blocks.check_rgb(name, input_shape, _MIN_SIZE)
    centred = blocks.CaffeInput()(keras.Input(input_shape))
    return application(
        include_top=False, weights=None, input_tensor=centred, input_shape=input_shape
    )


def _with_head(
    name: str, features: keras.Model, num_classes: int, head: str, dropout: float
) -> keras.Model:
    ours = keras.models.clone_model(features, clone_function=_ours)
    outputs = blocks.head(ours.output, num_classes, kind=head, dropout=dropout)
    return keras.Model(ours.input, outputs, name=name)


def _ours(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns the layer that replaces one of an application, with its name."""
    if isinstance(layer, layers.BatchNormalization):
        return blocks.batch_norm(layer.name, epsilon=layer.epsilon)
    if isinstance(layer, layers.Dropout):
        return Dropout(layer.rate, noise_shape=layer.noise_shape, name=layer.name)
    if isinstance(layer, layers.Normalization):
        variances = [deviation**2 for deviation in _DEVIATIONS]
        return layers.Normalization(mean=_MEANS, variance=variances, name=layer.name)
    return type(layer).from_config(layer.get_config())
