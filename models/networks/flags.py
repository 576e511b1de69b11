"""The flags that say which network is trained, and what it begins with.

A binary adopts them: `flags.adopt_module_key_flags(model_flags)`.
"""

from typing import Any

from absl import flags

from models.networks import blocks, transfer, zoo
from records.common import cli
from records.common.backend import keras

_MODEL = flags.DEFINE_enum("model", "convnet", sorted(zoo.MODELS), "Network.")
_DROPOUT = flags.DEFINE_float("dropout", None, "Rate of dropout; the network's own if left out.")
_BATCH_NORM = flags.DEFINE_bool("batch_norm", None, "Normalize; as the network does if left out.")
_POOLING = flags.DEFINE_enum(
    "pooling", None, ("max", "average", "min"), "Pooling of lenet: min suits dark on light."
)
_HEAD = flags.DEFINE_enum(
    "head",
    None,
    blocks.HEADS,
    "What follows the features: the mean of each map; these normalized, with or without a hidden"
    " layer; every value; or four dense layers.",
)
_INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "Begin with the features of: `imagenet` (downloaded), a run folder, or a file of weights.",
)
_FREEZE = flags.DEFINE_bool("freeze", True, "With --init_from: train the head only, at first.")


def name() -> str:
    """Returns the name of the network."""
    return str(_MODEL.value)


def options() -> dict[str, Any]:
    """Returns the options that were given."""
    given = {
        "dropout": _DROPOUT.value,
        "batch_norm": _BATCH_NORM.value,
        "pooling": _POOLING.value,
        "head": _HEAD.value,
    }
    return {option: value for option, value in given.items() if value is not None}


def identity() -> dict[str, Any]:
    """Returns what two trainings must agree on to begin alike, by the names of the flags."""
    return {
        "model": name(),
        "model_options": options(),
        "init_from": _INIT_FROM.value,
        "freeze": freezes(),
    }


def freezes() -> bool:
    """Returns whether the features are frozen at first."""
    return bool(_INIT_FROM.value) and bool(_FREEZE.value)


def check() -> None:
    """Refuses flags that have no effect beside the others.

    Raises:
        UsageError: if there is one.
    """
    for option in options():
        if option not in zoo.options_of(name()):
            taken = ", ".join(zoo.options_of(name()))
            raise cli.UsageError(f"--{option} has no effect on {name()}, which takes {taken}")
    if _FREEZE.present and not _INIT_FROM.value:
        raise cli.UsageError("--freeze belongs to --init_from, which is not given")


def build(num_classes: int, image_size: int) -> tuple[keras.Model, str]:
    """Returns the network, and a sentence on what it begins with.

    Raises:
        ValueError: if it cannot be built so, or what it is to begin with does not fit.
    """
    model = zoo.build(name(), num_classes, (image_size, image_size, 3), **options())
    if not _INIT_FROM.value:
        return model, "it begins with random weights"
    said = transfer.init_from(model, _INIT_FROM.value, name=name())
    if freezes():
        transfer.freeze(model)
    return model, said
