"""The models there are, by name. Each takes images in `INPUT_RANGE` and gives float32 logits."""

from collections.abc import Callable

from models import convnet, lenet
from records.backend import keras

MODELS: dict[str, Callable[[int, tuple[int, int, int]], keras.Model]] = {
    "convnet": convnet.build,
    "lenet": lenet.build,
}

INPUT_RANGE = "0..1"
