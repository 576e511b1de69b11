"""Transfer learning: a network's features (its base) are initialized with trained weights.

Weights are read as plain numbers, by h5py; code in a file is never run.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import h5py  # type: ignore[import-untyped]
import numpy as np

from models import run_files
from records.common.backend import keras, tf

layers = keras.layers
applications = keras.applications

# The weights of the base by layer name, each layer's in Keras' order.
Weights = Mapping[str, Sequence[np.ndarray]]

IMAGENET: dict[str, Callable[..., keras.Model]] = {
    "vgg16": applications.VGG16,
    "vgg19": applications.VGG19,
    "resnet50": applications.ResNet50,
    "efficientnet": applications.EfficientNetB0,
    "mobilenet": applications.MobileNetV2,
}

_SHOWN = 3  # mismatches listed in an error
# Kinds of layers in heads, as named in .weights.h5; two runs of a network may differ in these.
_HEAD_KINDS = ("dense", "dropout", "flatten", "global_average_pooling2d")


def head_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers after the features, which are those named `head...` and `logits`."""
    return [layer for layer in _flat(model) if _is_head(layer)]


def base_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of the features, including those of nested models."""
    return [layer for layer in _flat(model) if not _is_head(layer)]


def base_variables(model: keras.Model) -> list[tf.Variable]:
    """Returns all variables of the features, trainable or not."""
    return [variable for layer in base_layers(model) for variable in layer.weights]


def freeze(model: keras.Model) -> None:
    """Excludes the features from training; batch normalization then uses its moving statistics.

    A compiled model must be compiled again, here and in `unfreeze`.
    """
    for layer in base_layers(model):
        layer.trainable = False


def unfreeze(model: keras.Model) -> None:
    """Includes the features in training again, except batch normalization."""
    # Its statistics, scale and shift stay frozen, as Keras' guide to fine-tuning advises: those of
    # the new images would destroy what the layers after it have learned.
    for layer in base_layers(model):
        layer.trainable = not isinstance(layer, layers.BatchNormalization)


def init_from(model: keras.Model, source: str, *, name: str) -> str:
    """Initializes the features of a network; returns a message about the weights.

    Args:
        model: built by the zoo; its head is not changed.
        source: `imagenet`, to download the weights that Keras publishes for the network; or a run
            folder, for its best weights; or a weights file: `.weights.h5` as written by a run, or
            `.h5` as published by Keras, by layer name.
        name: of the network in the zoo.

    Raises:
        ValueError: if there are no such weights, they are of another network, or they lack a
            variable of the features.
    """
    if source == "imagenet":
        weights, origin = _imagenet(name), "ImageNet (tf_keras.applications)"
    elif os.path.isdir(source):
        weights, origin = _run(model, source, name), f"the run {source}"
    else:
        weights, origin = _file(model, source), source
    count = _fill(model, weights, source)
    return f"features of {name} initialized with {count:,} parameters from {origin}"


def _flat(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def _is_head(layer: keras.layers.Layer) -> bool:
    return layer.name == "logits" or layer.name.startswith("head")


def _imagenet(name: str) -> Weights:
    if name not in IMAGENET:
        raise ValueError(
            f"ImageNet weights can be downloaded for {', '.join(IMAGENET)}, not for {name}, which"
            " can be initialized from a run folder or a weights file"
        )
    try:
        published = IMAGENET[name](include_top=False, weights="imagenet")
    except Exception as error:  # the downloader has no error class of its own
        raise ValueError(
            f"cannot download the ImageNet weights of {name} ({error}); obtain the file otherwise"
            " and pass its path (.h5, the variant without the top) instead of 'imagenet'"
        ) from None
    return {layer.name: layer.get_weights() for layer in _flat(published)}


def _run(model: keras.Model, folder: str, name: str) -> Weights:
    path = os.path.join(folder, run_files.RUN)
    try:
        with open(path, encoding="utf-8") as file:
            run = json.load(file)
        trained = run["model"]
    except FileNotFoundError:
        raise ValueError(f"no finished run in {folder!r}: {run_files.RUN} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    if trained != name:
        raise ValueError(f"the run {folder} trained {trained!r}, this network is {name!r}")
    return _file(model, os.path.join(folder, run_files.BEST))


def _file(model: keras.Model, path: str) -> Weights:
    if not path.endswith(".h5"):
        raise ValueError(
            "weights must be 'imagenet', a run folder, or an .h5 or .weights.h5 file, got"
            f" {path!r}; other formats may contain code, which is never run"
        )
    if not os.path.isfile(path):
        raise ValueError(f"the weights file {path!r} does not exist")
    try:
        with h5py.File(path, "r") as file:
            if "layers" in file and "layer_names" not in file.attrs:
                return _by_kind(model, file["layers"], path)
            return _by_name(model, file.get("model_weights", file))
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"cannot read the weights {path}: {error}") from None


def _by_name(model: keras.Model, file: h5py.Group) -> Weights:
    """Reads the older format of Keras: a group for each layer, which lists its arrays in order."""
    needed = {layer.name for layer in base_layers(model)}  # heads may have gigabytes
    return {
        name: [np.asarray(file[name][part]) for part in _listed(file[name], "weight_names")]
        for name in _listed(file, "layer_names")
        if name in needed
    }


def _listed(group: h5py.Group, attribute: str) -> list[str]:
    """Returns an attribute that lists names; Keras splits long ones into numbered parts."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        numbered = [f"{attribute}{number}" for number in range(len(group.attrs))]
        parts = [group.attrs[part] for part in numbered if part in group.attrs]
    if not parts:
        raise KeyError(f"{group.name} lists no {attribute}")
    names = [name for part in parts for name in part]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _by_kind(model: keras.Model, file: h5py.Group, path: str) -> Weights:
    """Reads the newer format, which numbers the layers of each kind in the order of the model.

    The features must therefore have the same number of layers of each kind.
    """
    keys = _keys(model)
    expected, actual = (_kinds(names) for names in (keys.values(), file))
    if expected != actual:
        kind = min(expected.items() ^ actual.items())[0]
        raise ValueError(
            f"the weights {path} are of another network, or of other options: they must have"
            f" {expected[kind]} layers {kind}, got {actual[kind]}"
        )
    return {name: _numbers(file[key]["vars"]) for name, key in keys.items() if key in file}


def _keys(model: keras.Model) -> dict[str, str]:
    """Returns the key of each layer in the newer format, by its name in the model."""
    seen: Counter[str] = Counter()
    keys = {}
    for layer in model.layers:
        kind = _snake(type(layer).__name__)
        keys[layer.name] = f"{kind}_{seen[kind]}" if seen[kind] else kind
        seen[kind] += 1
    return keys


def _kinds(keys: Iterable[str]) -> Counter[str]:
    """Returns the number of layers of each kind, except the kinds in which heads differ."""
    kinds = Counter(re.sub(r"_\d+$", "", key) for key in keys)
    return Counter({kind: count for kind, count in kinds.items() if kind not in _HEAD_KINDS})


def _snake(name: str) -> str:
    """Returns the name of a class as Keras writes it in files: `ReLU` is `re_lu`."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _numbers(group: h5py.Group) -> list[np.ndarray]:
    return [np.asarray(group[str(number)]) for number in range(len(group))]


def _fill(model: keras.Model, weights: Weights, source: str) -> int:
    """Sets all variables of the features or none; returns the number of parameters."""
    base = [layer for layer in base_layers(model) if layer.weights]
    problems = [each for layer in base for each in _mismatches(layer, weights.get(layer.name))]
    if problems:
        total = len(base_variables(model))
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{source} must contain every variable of the features of {model.name!r},"
            f" {total - len(problems)} of {total} match: {'; '.join(problems[:_SHOWN])}{more}"
        )
    for layer in base:
        layer.set_weights(weights[layer.name])
    return sum(layer.count_params() for layer in base)


def _mismatches(layer: keras.layers.Layer, arrays: Sequence[np.ndarray] | None) -> Iterator[str]:
    """Yields the mismatches between the variables of a layer and some arrays."""
    arrays = arrays or ()
    for number, variable in enumerate(layer.weights):
        name, shape = variable.name.partition(":")[0], tuple(variable.shape)
        if number >= len(arrays):
            yield f"{name} {shape} is missing"
        elif arrays[number].shape != shape:
            yield f"{name} must have shape {shape}, got {arrays[number].shape}"
        elif number == len(layer.weights) - 1 and len(arrays) > len(layer.weights):
            yield f"{layer.name} must have {len(layer.weights)} arrays, got {len(arrays)}"
