"""Transfer learning: the features of a network (its base) filled with what another run learned.

Weights are read as plain numbers, by h5py; no code of a file is ever run.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import h5py  # type: ignore[import-untyped]
import numpy as np

from records.common.backend import keras, tf

layers = keras.layers
applications = keras.applications

# The base of a network by the names of its layers, each with its numbers in Keras' order.
Weights = Mapping[str, Sequence[np.ndarray]]

IMAGENET: dict[str, Callable[..., keras.Model]] = {
    "vgg16": applications.VGG16,
    "vgg19": applications.VGG19,
    "resnet50": applications.ResNet50,
    "efficientnet": applications.EfficientNetB0,
    "mobilenet": applications.MobileNetV2,
}

_RUN, _BEST = "run.json", "best.weights.h5"  # of a run folder
_SHOWN = 3  # misfits that an error names
# What heads are made of, as .weights.h5 calls it; two runs of one network may differ in these.
_HEAD_KINDS = ("dense", "dropout", "flatten", "global_average_pooling2d")


def head_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers after the features, which are those named `head...` and `logits`."""
    return [layer for layer in _flat(model) if _is_head(layer)]


def base_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of the features, nested models opened."""
    return [layer for layer in _flat(model) if not _is_head(layer)]


def base_variables(model: keras.Model) -> list[tf.Variable]:
    """Returns all numbers of the features, trainable or not."""
    return [variable for layer in base_layers(model) for variable in layer.weights]


def freeze(model: keras.Model) -> None:
    """Holds the features as they are; batch normalization then uses its learned statistics.

    A model that is compiled already must be compiled again, here and in `unfreeze`.
    """
    for layer in base_layers(model):
        layer.trainable = False


def unfreeze(model: keras.Model) -> None:
    """Lets the features be trained, except batch normalization.

    That keeps its statistics, scale and shift, as Keras' guide to fine-tuning advises: statistics
    of the new images would undo at once what the layers after it have learned.
    """
    for layer in base_layers(model):
        layer.trainable = not isinstance(layer, layers.BatchNormalization)


def init_from(model: keras.Model, source: str, *, name: str) -> str:
    """Fills the features of a network; returns a sentence that says with what.

    Args:
        model: built by the zoo; its head is left as it is.
        source: `imagenet`, where Keras publishes such weights for the network (they are
            downloaded); or the folder of a run, whose best weights are taken; or a file of weights,
            `.weights.h5` as a run writes it, or `.h5` as Keras published them, by layer name.
        name: of the network in the zoo.

    Raises:
        ValueError: if there are no such weights, if they are of another network, or if one number
            of the features is missing among them.
    """
    if source == "imagenet":
        weights, origin = _imagenet(name), "ImageNet (tf_keras.applications)"
    elif os.path.isdir(source):
        weights, origin = _run(model, source, name), f"the run {source}"
    else:
        weights, origin = _file(model, source), source
    count = _fill(model, weights, source)
    return f"the features of {name} begin with {count:,} numbers from {origin}"


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
            f"there are no ImageNet weights to download for {name}; there are for"
            f" {', '.join(IMAGENET)}, others begin with a run folder or a file of weights"
        )
    try:
        published = IMAGENET[name](include_top=False, weights="imagenet")
    except Exception as error:  # the downloader has no error class of its own
        raise ValueError(
            f"cannot download the ImageNet weights of {name} ({error}); get the file some other"
            " way and give its path (.h5, the variant without the top) instead of 'imagenet'"
        ) from None
    return {layer.name: layer.get_weights() for layer in _flat(published)}


def _run(model: keras.Model, folder: str, name: str) -> Weights:
    path = os.path.join(folder, _RUN)
    try:
        with open(path, encoding="utf-8") as file:
            run = json.load(file)
        trained = run["model"]
    except FileNotFoundError:
        raise ValueError(f"no finished run in {folder!r}: {_RUN} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    if trained != name:
        raise ValueError(f"the run {folder} trained {trained!r}, this network is {name!r}")
    return _file(model, os.path.join(folder, _BEST))


def _file(model: keras.Model, path: str) -> Weights:
    if not path.endswith(".h5"):
        raise ValueError(
            "weights must be 'imagenet', a run folder or a file .h5 or .weights.h5, got"
            f" {path!r}; other files may hold code, which is never run"
        )
    if not os.path.isfile(path):
        raise ValueError(f"no file of weights {path!r}")
    try:
        with h5py.File(path, "r") as file:
            if "layers" in file and "layer_names" not in file.attrs:
                return _by_kind(model, file["layers"], path)
            return _by_name(model, file.get("model_weights", file))
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"cannot read the weights {path}: {error}") from None


def _by_name(model: keras.Model, file: h5py.Group) -> Weights:
    """Reads the older format of Keras, a group for each layer, its arrays listed in order."""
    wanted = {layer.name for layer in base_layers(model)}  # heads may take gigabytes
    return {
        name: [np.asarray(file[name][part]) for part in _listed(file[name], "weight_names")]
        for name in _listed(file, "layer_names")
        if name in wanted
    }


def _listed(group: h5py.Group, attribute: str) -> list[str]:
    """Returns an attribute of names; Keras cuts long ones in parts, which it numbers."""
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
    """Reads the newer format, which knows layers by kind and number, in the order of the model.

    So the layers of the features must be the same ones, of each kind as many.
    """
    keys = _keys(model)
    wanted, found = (_kinds(names) for names in (keys.values(), file))
    if wanted != found:
        kind = min(wanted.items() ^ found.items())[0]
        raise ValueError(
            f"the weights {path} are of another network, or of other options: it has"
            f" {found[kind]} layers {kind}, this one {wanted[kind]}"
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
    """Returns how many layers of each kind keys stand for, without those that heads differ in."""
    kinds = Counter(re.sub(r"_\d+$", "", key) for key in keys)
    return Counter({kind: count for kind, count in kinds.items() if kind not in _HEAD_KINDS})


def _snake(name: str) -> str:
    """Returns the name of a class as Keras writes it in files: `ReLU` is `re_lu`."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _numbers(group: h5py.Group) -> list[np.ndarray]:
    return [np.asarray(group[str(number)]) for number in range(len(group))]


def _fill(model: keras.Model, weights: Weights, source: str) -> int:
    """Sets all numbers of the features or none; returns how many they are."""
    wanted = [layer for layer in base_layers(model) if layer.weights]
    misfits = [misfit for layer in wanted for misfit in _misfits(layer, weights.get(layer.name))]
    if misfits:
        total = len(base_variables(model))
        more = f" and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        raise ValueError(
            f"{source} must hold every variable of the features of {model.name!r},"
            f" {total - len(misfits)} of {total} fit: {'; '.join(misfits[:_SHOWN])}{more}"
        )
    for layer in wanted:
        layer.set_weights(weights[layer.name])
    return sum(layer.count_params() for layer in wanted)


def _misfits(layer: keras.layers.Layer, found: Sequence[np.ndarray] | None) -> Iterator[str]:
    """Yields what is wrong with each variable of a layer."""
    found = found or ()
    for number, variable in enumerate(layer.weights):
        name, shape = variable.name.partition(":")[0], tuple(variable.shape)
        if number >= len(found):
            yield f"{name} {shape} is missing"
        elif found[number].shape != shape:
            yield f"{name} must be {shape}, got {found[number].shape}"
        elif number == len(layer.weights) - 1 and len(found) > len(layer.weights):
            yield f"{layer.name} must have {len(layer.weights)} arrays, got {len(found)}"
