"""The one door to TensorFlow Addons, for what core Keras lacks.

TensorFlow Addons is archived: its last wheels are for Python 3.11, and beside TensorFlow 2.21 it
imports only while `keras` means `tf_keras`. This module makes that so for the length of the import
and keeps its farewell messages off the screen. Nothing on the default path comes through here.
"""

import functools
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any

from records.backend import keras, tf_keras_is_legacy


class AddonsMissingError(ImportError):
    """A choice needs TensorFlow Addons and this Python has none."""


@functools.cache
def load(choice: str) -> types.ModuleType:
    """Returns the module `tensorflow_addons`.

    Args:
        choice: what needs it, for the message.

    Raises:
        AddonsMissingError: if it is not installed, or TensorFlow was imported too early.
    """
    if not tf_keras_is_legacy:
        raise AddonsMissingError(
            f"{choice} needs tensorflow-addons, and that needs TF_USE_LEGACY_KERAS=1 in the"
            " environment before TensorFlow is imported; import our packages first"
        )
    # So that every module of tf_keras that Addons asks for by Keras' name is loaded already.
    import tf_keras.src.engine.keras_tensor  # noqa: F401

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_keras(name)}
    for name, module in list(sys.modules.items()):
        if name.startswith("tf_") and _is_keras(name.removeprefix("tf_")):
            sys.modules[name.removeprefix("tf_")] = module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_addons
    except ImportError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        raise AddonsMissingError(
            f"{choice} needs tensorflow-addons, which cannot be imported in this Python {version}"
            f" ({error}); it exists for Python 3.11 and older"
        ) from None
    finally:
        for name in [name for name in sys.modules if _is_keras(name)]:
            del sys.modules[name]
        sys.modules.update(hidden)
    return tensorflow_addons


def lamb(
    learning_rate: Any, weight_decay: float, no_decay: Sequence[str]
) -> keras.optimizers.legacy.Optimizer:
    """Returns LAMB (You et al. 2020, arXiv:1904.00962), which keeps large batches stable.

    Args:
        learning_rate: number or Keras schedule.
        weight_decay: of all variables but those whose name holds a word of `no_decay`.
        no_decay: words.
    """
    tfa = load("optimizer 'lamb'")
    return tfa.optimizers.LAMB(
        learning_rate, weight_decay=weight_decay, exclude_from_weight_decay=list(no_decay)
    )


def _is_keras(name: str) -> bool:
    return name == "keras" or name.startswith("keras.")
