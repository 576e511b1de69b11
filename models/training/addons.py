"""The only import of TensorFlow Addons, for what core Keras lacks; no default setting needs it.

TensorFlow Addons is archived: its last wheels are for Python 3.11, and with TensorFlow 2.21 it can
only be imported while `keras` is an alias of `tf_keras`. This module sets that alias during the
import, and hides the end-of-life warning.
"""

import functools
import sys
import types
import warnings
from collections.abc import Sequence

from records.common import errors
from records.common.backend import keras, tf_keras_is_legacy


class AddonsMissingError(errors.DatapipeError, ImportError):
    """An option needs TensorFlow Addons, which cannot be imported."""


@functools.cache
def load(choice: str) -> types.ModuleType:
    """Returns the module `tensorflow_addons`; messages name the `choice` that needs it.

    Raises:
        AddonsMissingError: if it is not installed, or TensorFlow was imported too early.
    """
    if not tf_keras_is_legacy:
        raise AddonsMissingError(
            f"{choice} needs tensorflow-addons, and that needs TF_USE_LEGACY_KERAS=1 in the"
            " environment before TensorFlow is imported; import our packages first"
        )
    # Loads every module of tf_keras that Addons imports by Keras' name.
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
    learning_rate: float, weight_decay: float, no_decay: Sequence[str]
) -> keras.optimizers.legacy.Optimizer:
    """Returns LAMB (You et al. 2020, arXiv:1904.00962), which keeps large batches stable.

    Variables whose name matches a regular expression of `no_decay` do not decay.
    """
    tfa = load("optimizer 'lamb'")
    return tfa.optimizers.LAMB(
        float(learning_rate),
        weight_decay=float(weight_decay),
        exclude_from_weight_decay=list(no_decay),
    )


def lookahead(inner: keras.optimizers.legacy.Optimizer) -> keras.optimizers.legacy.Optimizer:
    """Returns Lookahead (Zhang et al. 2019, arXiv:1907.08610) with k=6 and alpha=0.5."""
    return load("lookahead").optimizers.Lookahead(inner)


def moving_average(
    inner: keras.optimizers.legacy.Optimizer, decay: float
) -> keras.optimizers.legacy.Optimizer:
    """Returns an optimizer that also averages the weights, in its slot `average`.

    After step t, from 0, the average moves by 1 - min(decay, (1 + t) / (10 + t)) towards the
    weights, so that a short run does not average its initial weights.
    """
    # Not `use_ema` of Keras' new optimizers: its decay is constant (after 30 steps of SGD at 0.9
    # the averages differ by 0.46, for weights of deviation 1), and the new optimizers are not
    # bit-identical to the legacy ones (Adam by 2e-7 after one step), so checkpoints of version 0.5
    # would not resume.
    tfa = load("moving_average")
    return tfa.optimizers.MovingAverage(inner, average_decay=float(decay), dynamic_decay=True)


def _is_keras(name: str) -> bool:
    return name == "keras" or name.startswith("keras.")
