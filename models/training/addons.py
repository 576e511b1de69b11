"""The one door to TensorFlow Addons, for what core Keras lacks.

TensorFlow Addons is archived: its last wheels are for Python 3.11, and beside TensorFlow 2.21 it
imports only while `keras` means `tf_keras`. This module makes that so for the length of the import
and keeps its farewell messages off the screen. Nothing on the default path comes through here.
"""

import functools
import re
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any

from records.common import errors
from records.common.backend import keras, tf_keras_is_legacy


class AddonsMissingError(errors.DatapipeError, ImportError):
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
    learning_rate: float, weight_decay: float, no_decay: Sequence[str]
) -> keras.optimizers.legacy.Optimizer:
    """Returns LAMB (You et al. 2020, arXiv:1904.00962), which keeps large batches stable.

    Args:
        learning_rate: above 0.
        weight_decay: of all variables but those whose name matches a pattern of `no_decay`.
        no_decay: regular expressions.
    """
    tfa = load("optimizer 'lamb'")
    return tfa.optimizers.LAMB(
        float(learning_rate),
        weight_decay=float(weight_decay),
        exclude_from_weight_decay=list(no_decay),
    )


def sgdw(
    learning_rate: float, weight_decay: float, no_decay: Sequence[str], *, momentum: float
) -> keras.optimizers.legacy.Optimizer:
    """Returns SGD with Nesterov momentum and decoupled weight decay (arXiv:1711.05101).

    Args:
        learning_rate: above 0.
        weight_decay: share of a weight that each step takes off, times the learning rate.
        no_decay: regular expressions, of the names of variables that do not decay.
        momentum: 0 to below 1.
    """
    tfa = load("optimizer 'sgdw'")
    return _decaying(tfa.optimizers.SGDW)(
        float(weight_decay),
        learning_rate=float(learning_rate),
        momentum=float(momentum),
        nesterov=True,
        exclude_from_weight_decay=list(no_decay),
    )


def adamw(
    learning_rate: float, weight_decay: float, no_decay: Sequence[str]
) -> keras.optimizers.legacy.Optimizer:
    """Returns AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) as the wrappers here take it.

    It makes the steps of Keras' own. Arguments as of `sgdw`.
    """
    tfa = load("optimizer 'adamw' with lookahead or moving_average")
    return _decaying(tfa.optimizers.AdamW)(
        float(weight_decay),
        learning_rate=float(learning_rate),
        exclude_from_weight_decay=list(no_decay),
    )


def lookahead(inner: keras.optimizers.legacy.Optimizer) -> keras.optimizers.legacy.Optimizer:
    """Returns Lookahead (Zhang et al. 2019, arXiv:1907.08610): every 6 steps half of them back."""
    return load("lookahead").optimizers.Lookahead(inner)


def moving_average(
    inner: keras.optimizers.legacy.Optimizer, decay: float
) -> keras.optimizers.legacy.Optimizer:
    """Returns an optimizer that also averages the weights; the slot `average` holds them.

    After step t the average moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights, t
    from 0, so that a short run does not average the weights it began with.

    Args:
        inner: makes the steps.
        decay: above 0 and below 1.
    """
    tfa = load("moving_average")
    return tfa.optimizers.MovingAverage(inner, average_decay=float(decay), dynamic_decay=True)


@functools.cache
def _decaying(kind: Any) -> Any:
    """Returns a class of Addons with the weight decay as Keras has it: times the learning rate.

    In Addons 0.23 it is not, so that a schedule of the rate would leave it as it is. Which
    variables decay Addons knows only after its own `apply_gradients`, which a wrapper does not
    call, and on several replicas it takes none of the copies of a variable for that variable: there
    everything would decay, here nothing. So variables are asked for their names.
    """

    class Decaying(kind):
        def _decayed_wd(self, var_dtype: Any) -> Any:
            return super()._decayed_wd(var_dtype) * self._decayed_lr(var_dtype)

        def _do_use_weight_decay(self, var: Any) -> bool:
            return not any(re.search(p, var.name) for p in self.exclude_from_weight_decay)

    Decaying.__name__ = kind.__name__
    return Decaying


def _is_keras(name: str) -> bool:
    return name == "keras" or name.startswith("keras.")
