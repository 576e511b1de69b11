"""The networks there are, by name. Each gives float32 logits from a last layer named `logits`."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from models.networks import (
    applications,
    baseline20,
    convnet,
    googlenet,
    input_range,
    lenet,
    resnet,
    squeezenet,
    vgg,
)
from records.common.backend import keras


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that can be built.

    Attributes:
        build: makes it, a function of (num_classes, input_shape) and of options by keyword;
            input_shape is (height, width, channels).
        input_range: of the images it takes, a name of `input_range.RANGES`.
    """

    build: Callable[..., keras.Model]
    input_range: str

    def __post_init__(self) -> None:
        if self.input_range not in input_range.RANGES:
            raise ValueError(
                f"input_range must be one of {', '.join(input_range.RANGES)},"
                f" got {self.input_range!r}"
            )


MODELS = {
    "convnet": Network(convnet.build, "0..1"),
    "lenet": Network(lenet.build, "0..1"),
    "baseline20": Network(baseline20.build, "0..1"),
    "resnet_bottleneck": Network(resnet.build, "0..1"),
    "googlenet": Network(googlenet.build, "0..1"),
    "squeezenet": Network(squeezenet.build, "0..255"),
    "vgg16": Network(vgg.vgg16, "0..255"),
    "vgg19": Network(vgg.vgg19, "0..255"),
    "resnet50": Network(applications.resnet50, "0..255"),
    "efficientnet": Network(applications.efficientnet, "0..255"),
    "mobilenet": Network(applications.mobilenet, "-1..1"),
}


def options_of(name: str) -> tuple[str, ...]:
    """Returns the names of the options that a network takes.

    Raises:
        ValueError: if there is no such network.
    """
    parameters = inspect.signature(_network(name).build).parameters.values()
    return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], **options: Any
) -> keras.Model:
    """Returns a new network.

    Args:
        name: of the network.
        num_classes: number of logits, at least 1.
        input_shape: height, width and channels of the images.
        **options: those of the network; None stands for its default.

    Raises:
        ValueError: if there is no such network or no such option, or a value is wrong.
    """
    network, taken = _network(name), options_of(name)
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in taken:
            raise ValueError(f"{name} takes no option {option!r}; it takes {', '.join(taken)}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    return network.build(num_classes, input_shape, **given)


def _network(name: str) -> Network:
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[name]
