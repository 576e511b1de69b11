"""The networks by name.

Each maps float images [batch, height, width, channels] to float32 logits [batch, classes], from a
last layer named `logits`. Building one raises ValueError if images are too small or an option is
out of range. Every `dropout` is a rate of 0 to below 1.
"""

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
)
from records.common import checks
from records.common.backend import keras


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that can be built.

    Attributes:
        build: (num_classes, input_shape, options by keyword) -> model; input_shape is (height,
            width, channels).
        input_range: range of the pixel values, one of `input_range.RANGES`.
    """

    build: Callable[..., keras.Model]
    input_range: str

    def __post_init__(self) -> None:
        checks.one_of("input_range", self.input_range, input_range.RANGES)


MODELS = {
    "convnet": Network(convnet.build, "0..1"),
    "lenet": Network(lenet.build, "0..1"),
    "baseline20": Network(baseline20.build, "0..1"),
    "resnet_bottleneck": Network(resnet.build, "0..1"),
    "googlenet": Network(googlenet.build, "0..1"),
    "squeezenet": Network(squeezenet.build, "0..255"),
    "vgg16": Network(applications.vgg16, "0..255"),
    "vgg19": Network(applications.vgg19, "0..255"),
    "resnet50": Network(applications.resnet50, "0..255"),
    "efficientnet": Network(applications.efficientnet, "0..255"),
    "mobilenet": Network(applications.mobilenet, "-1..1"),
}


def options_of(name: str) -> tuple[str, ...]:
    """Returns the names of a network's options; ValueError if there is no such network."""
    checks.one_of("model", name, MODELS)
    parameters = inspect.signature(MODELS[name].build).parameters.values()
    return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], **options: Any
) -> keras.Model:
    """Returns a new network.

    `input_shape` is (height, width, channels); an option of None has the network's default.

    Raises:
        ValueError: if there is no such network or option, or a value is out of range.
    """
    known = options_of(name)
    changed = {option: value for option, value in options.items() if value is not None}
    for option in changed:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    checks.at_least("num_classes", num_classes, 1)
    return MODELS[name].build(num_classes, input_shape, **changed)
