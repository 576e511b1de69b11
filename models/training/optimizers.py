"""Optimizers by name, learning-rate schedules, and the variables to save for resuming to the bit.

The learning rate is a variable that is set before each step. The schedule is a pure function of the
step, so it has no state to save.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from models.training import addons
from models.training.options import OptimizerOptions, ScheduleOptions
from records.common.backend import keras, tf

_WARMUP = 0.05
# Names of biases and of normalization: "dense/bias:0", or "dense/bias/replica_1:0" on a replica.
_NO_DECAY = (r"(^|/)(bias|gamma|beta)[:/]",)


def build(options: OptimizerOptions) -> keras.optimizers.Optimizer:
    """Returns the optimizer; call it under the strategy's scope.

    Raises:
        addons.AddonsMissingError: if it needs TensorFlow Addons, which cannot be imported.
    """
    wrapped = options.lookahead or options.moving_average > 0
    optimizer = _legacy(options) if wrapped else _plain(options)
    if options.lookahead:
        optimizer = addons.lookahead(optimizer)
    if options.moving_average > 0:  # outermost, so that it averages the weights after Lookahead
        optimizer = addons.moving_average(optimizer, options.moving_average)
    return optimizer


def create(optimizer: keras.optimizers.Optimizer, trainable: Sequence[tf.Variable]) -> None:
    """Creates all variables of an optimizer, under the strategy's scope, before the first step.

    Slow and averaged weights start as copies of the weights.

    Args:
        optimizer: from `build`.
        trainable: all variables it will ever update, always in the same order.
    """
    if not isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        optimizer.build(list(trainable))
        return
    # A wrapper shares its step counter with the next optimizer only, and only when applied: an Adam
    # inside two wrappers would have its own counter, which stays at its first step.
    for inner in _layers(optimizer)[1:]:
        inner._iterations = optimizer.iterations
    optimizer._create_all_weights(list(trainable))


def variables(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Returns the variables to save for resuming to the bit, in a stable order.

    They are the step counter, slots, slow and averaged weights; not the learning rate, which is set
    before each step.
    """
    if isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        return list(optimizer.weights)
    if _is_sgdw(optimizer) and not optimizer.momentum:
        # Momenta exist but have no effect, and checkpoints of version 0.5 do not contain them.
        return [optimizer.iterations]
    return list(optimizer.variables)


def set_rate(optimizer: keras.optimizers.Optimizer, rate: tf.Tensor) -> None:
    """Sets the learning rate, float32 scalar; call it after `create`, outside `strategy.run`."""
    _layers(optimizer)[-1].learning_rate.assign(rate)


def apply(
    optimizer: keras.optimizers.Optimizer,
    gradients_and_variables: Sequence[tuple[tf.Tensor, tf.Variable]],
) -> None:
    """Makes a step, inside `strategy.run`, with gradients already summed over the replicas."""
    # Both legacy and new optimizers of Keras have this argument.
    optimizer.apply_gradients(list(gradients_and_variables), experimental_aggregate_gradients=False)


@contextlib.contextmanager
def averaged(
    optimizer: keras.optimizers.Optimizer, trainable: Sequence[tf.Variable]
) -> Iterator[None]:
    """Replaces variables by their moving averages, and restores their exact values at exit.

    Does nothing without a moving average. Statistics of normalization are not trainable variables;
    they stay those of the trained weights. Not for use inside a `tf.function`. `trainable` are the
    variables passed to `create`.
    """
    if "average" not in getattr(optimizer, "_slot_names", ()):
        yield
        return
    # Copies: swapping by sums and differences would not restore every bit.
    weights = [tf.identity(variable) for variable in trainable]
    try:
        for variable in trainable:
            variable.assign(optimizer.get_slot(variable, "average"))
        yield
    finally:
        for variable, value in zip(trainable, weights, strict=True):
            variable.assign(value)


def rate_at(
    schedule: ScheduleOptions,
    base_rate: float,
    step: Any,
    *,
    steps_per_epoch: int,
    epochs: int,
    factor: Any = 1.0,
) -> Any:
    """Returns the learning rate of a step, float32 scalar: a tensor if `step` is one, else NumPy.

    A pure function, computed in float64, so that both are equal except for the last bit.

    Args:
        base_rate: the peak rate.
        step: int or int64 scalar tensor, 0 for the first step of the first epoch.
        steps_per_epoch: at least 1.
        epochs: planned epochs of the training.
        factor: number or scalar tensor, multiplies the rate.
    """
    in_graph = tf.is_tensor(step)
    now = tf.cast(step, tf.float64) if in_graph else np.float64(step)
    share = _share_of_base(schedule, now, steps_per_epoch, epochs, tf if in_graph else np)
    if in_graph:
        return tf.cast(base_rate * share * tf.cast(factor, tf.float64), tf.float32)
    return np.float32(base_rate * share * np.float64(factor))


def _share_of_base(
    schedule: ScheduleOptions, step: Any, steps_per_epoch: int, epochs: int, ops: Any
) -> Any:
    """Returns the share of the base rate, float64, computed by TensorFlow or NumPy (`ops`)."""
    if schedule.name == "cosine":  # Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts
        total = steps_per_epoch * epochs
        warmup = _WARMUP if schedule.warmup is None else schedule.warmup
        warmup_steps = min(round(warmup * total), total - 1)
        progress = ops.minimum((step - warmup_steps) / (total - warmup_steps), 1.0)
        cosine = 0.5 * (1 + ops.cos(math.pi * progress))
        return ops.where(step < warmup_steps, step / max(warmup_steps, 1), cosine)
    if schedule.name == "step":
        return schedule.step_factor ** ops.floor(step / (steps_per_epoch * schedule.step_epochs))
    return ops.ones_like(step)


def _plain(options: OptimizerOptions) -> keras.optimizers.Optimizer:
    if options.name == "lamb":
        return _legacy(options)
    # `jit_compile` off: Keras would compile single updates with XLA, on GPUs only. Without it the
    # order of operations is the same everywhere, and a compiled step includes the updates anyway.
    if options.name == "adam":
        return keras.optimizers.Adam(options.learning_rate, jit_compile=False)
    if options.name == "adamw":
        optimizer = keras.optimizers.AdamW(
            options.learning_rate, weight_decay=options.weight_decay, jit_compile=False
        )
    else:
        optimizer = keras.optimizers.SGD(
            options.learning_rate,
            momentum=options.momentum,
            nesterov=True,
            weight_decay=options.weight_decay if options.name == "sgdw" else None,
            jit_compile=False,
        )
    optimizer.exclude_from_weight_decay(var_names=list(_NO_DECAY))
    return optimizer


def _legacy(options: OptimizerOptions) -> keras.optimizers.legacy.Optimizer:
    """Returns a legacy optimizer of Keras, the only kind that Addons provides and wraps."""
    rate, legacy = options.learning_rate, keras.optimizers.legacy
    if options.name == "lamb":
        return addons.lamb(rate, options.weight_decay, _NO_DECAY)
    decay = options.weight_decay if options.name in ("adamw", "sgdw") else 0.0
    if options.name in ("adam", "adamw"):
        return _decaying(legacy.Adam, decay)(rate)
    return _decaying(legacy.SGD, decay)(rate, momentum=options.momentum, nesterov=True)


def _decaying(kind: Any, weight_decay: float) -> Any:
    """Returns a legacy optimizer class with the decoupled weight decay of Keras' new ones."""
    # That of Addons 0.23 ignores the learning rate, and does not recognize the copies of a mirrored
    # variable as that variable; here variables are recognized by name.

    class Decaying(kind):
        def _resource_apply_dense(self, grad: Any, var: Any, apply_state: Any = None) -> Any:
            decayed = []
            if not any(re.search(pattern, var.name) for pattern in _NO_DECAY):
                decay = weight_decay * self._decayed_lr(var.dtype)
                decayed = [var.assign_sub(decay * var)]
            with tf.control_dependencies(decayed):
                return super()._resource_apply_dense(grad, var, apply_state)

    return Decaying if weight_decay else kind


def _is_sgdw(optimizer: keras.optimizers.Optimizer) -> bool:
    return isinstance(optimizer, keras.optimizers.SGD) and optimizer.weight_decay is not None


def _layers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Returns an optimizer and those it wraps, the innermost last."""
    inner = getattr(optimizer, "_optimizer", None)
    return [optimizer] if inner is None else [optimizer, *_layers(inner)]
