"""Optimizers by name, their schedules, and all that must be saved to go on to the bit.

The learning rate is a variable that is set before each step: the schedule is a pure function of the
step, so nothing of it has to be saved.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from models.training import addons
from records.common.backend import keras, tf

NAMES = ("sgd", "adam", "adamw", "lamb", "sgdw")
SCHEDULES = ("constant", "cosine", "step", "plateau")
_WARMUP = 0.05
# The names of biases and of normalization: "dense/bias:0", and "dense/bias/replica_1:0" of a copy.
_NO_DECAY = (r"(^|/)(bias|gamma|beta)[:/]",)


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """How gradients become steps.

    Attributes:
        name: `sgd` with Nesterov momentum, `adam`, `adamw`, `lamb` or `sgdw`. The last two come
            from TensorFlow Addons, and so do `lookahead` and `moving_average`.
        learning_rate: highest rate of the schedule, above 0.
        weight_decay: of `adamw`, `lamb` and `sgdw`: the share of a weight that each step takes
            off, times the learning rate. Biases and normalization are left alone.
        momentum: of `sgd` and `sgdw`, 0 to below 1.
        lookahead: go half of the way back after every 6 steps.
        moving_average: decay of an average of the weights; 0 keeps none.
    """

    name: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    lookahead: bool = False
    moving_average: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"optimizer must be one of {NAMES}, got {self.name!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay}")
        for field in ("momentum", "moving_average"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{field} must lie in [0, 1), got {getattr(self, field)}")


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """How the learning rate goes over the steps.

    Attributes:
        name: `constant`, `cosine` down to 0 after a linear warm-up, `step` by a factor after every
            so many epochs, or `plateau`, whose factor the history decides.
        warmup: of `cosine`: share of all steps in which the rate rises from 0, 0 to below 1. None
            is 0.05 for `cosine`, and nothing for the others, which have no warm-up.
        step_epochs: of `step`, at least 1.
        step_factor: of `step`, above 0 and at most 1.
        plateau_patience: of `plateau`: epochs without a better value, at least 1.
        plateau_factor: of `plateau`, above 0 and at most 1.
    """

    name: str = "cosine"
    warmup: float | None = None
    step_epochs: int = 10
    step_factor: float = 0.5
    plateau_patience: int = 5
    plateau_factor: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.name!r}")
        if not 0 <= (self.warmup or 0) < 1:
            raise ValueError(f"warmup must lie in [0, 1), got {self.warmup}")
        if self.warmup and self.name != "cosine":
            raise ValueError(f"warmup must be 0 with schedule {self.name}, got {self.warmup}")
        for field in ("step_epochs", "plateau_patience"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        for field in ("step_factor", "plateau_factor"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{field} must lie in (0, 1], got {getattr(self, field)}")


def build(options: OptimizerOptions) -> keras.optimizers.Optimizer:
    """Returns the optimizer; to be called under the strategy's scope.

    Raises:
        addons.AddonsMissingError: if it needs TensorFlow Addons and there is none.
    """
    wrapped = options.lookahead or options.moving_average > 0
    optimizer = _legacy(options) if wrapped else _plain(options)
    if options.lookahead:
        optimizer = addons.lookahead(optimizer)
    if options.moving_average > 0:  # outside, so that it averages what Lookahead leaves
        optimizer = addons.moving_average(optimizer, options.moving_average)
    return optimizer


def create(optimizer: keras.optimizers.Optimizer, trainable: Sequence[tf.Variable]) -> None:
    """Makes all variables of an optimizer, under the strategy's scope, before the first step.

    Slow and averaged weights begin as the weights are now.

    Args:
        optimizer: of `build`.
        trainable: all variables that it will ever be given, in an order that does not change.
    """
    if not isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        optimizer.build(list(trainable))
        return
    # A wrapper hands its count of steps to the next one only, and only when applied: an Adam inside
    # two of them would count for itself, and stay at its first step.
    for inner in _layers(optimizer)[1:]:
        inner._iterations = optimizer.iterations
    optimizer._create_all_weights(list(trainable))


def variables(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Returns all that an optimizer must be given back to go on to the bit, in a stable order.

    The count of steps, slots, slow and averaged weights; not the learning rate, which is set anew
    before each step.
    """
    if isinstance(optimizer, keras.optimizers.legacy.Optimizer):
        return list(optimizer.weights)
    return list(optimizer.variables)


def set_rate(optimizer: keras.optimizers.Optimizer, rate: tf.Tensor) -> None:
    """Sets the learning rate; outside of `strategy.run`, inside a `tf.function` or not.

    Args:
        optimizer: after `create`.
        rate: float32 scalar.
    """
    _layers(optimizer)[-1].learning_rate.assign(rate)


def apply(
    optimizer: keras.optimizers.Optimizer,
    gradients_and_variables: Sequence[tuple[tf.Tensor, tf.Variable]],
) -> None:
    """Makes a step; inside `strategy.run`, by gradients that are summed over the replicas already.

    Args:
        optimizer: after `create`.
        gradients_and_variables: pairs.
    """
    # Legacy optimizers have this argument, and Keras' new ones take it as well.
    optimizer.apply_gradients(list(gradients_and_variables), experimental_aggregate_gradients=False)


@contextlib.contextmanager
def averaged(
    optimizer: keras.optimizers.Optimizer, trainable: Sequence[tf.Variable]
) -> Iterator[None]:
    """Within, the variables hold their moving average, and after it what they held before, exactly.

    Without a moving average nothing changes. Statistics of normalization are no trainable
    variables; they stay those of the trained weights. Not for use inside a `tf.function`.

    Args:
        optimizer: after `create`.
        trainable: the variables given to `create`.
    """
    if "average" not in getattr(optimizer, "_slot_names", ()):
        yield
        return
    # Copies, as sums and differences of the two would not give every bit back.
    kept = [tf.identity(variable) for variable in trainable]
    try:
        for variable in trainable:
            variable.assign(optimizer.get_slot(variable, "average"))
        yield
    finally:
        for variable, value in zip(trainable, kept, strict=True):
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
    """Returns the learning rate of a step, float32 scalar: of TensorFlow for a tensor, else NumPy.

    A pure function, computed in float64, so that both are equal but for the last bit.

    Args:
        schedule: which, and its numbers.
        base_rate: the highest rate.
        step: int or int64 scalar tensor, 0 for the first step of the first epoch.
        steps_per_epoch: at least 1.
        epochs: of the whole training.
        factor: number or scalar tensor that the rate is multiplied by, of `plateau`.
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
    """Returns the share of the base rate, float64, by the functions of TensorFlow or NumPy."""
    if schedule.name == "cosine":
        total = steps_per_epoch * epochs
        warmup = _WARMUP if schedule.warmup is None else schedule.warmup
        rising = min(round(warmup * total), total - 1)
        place = ops.minimum((step - rising) / (total - rising), 1.0)
        falling = 0.5 * (1 + ops.cos(math.pi * place))
        return ops.where(step < rising, step / max(rising, 1), falling)
    if schedule.name == "step":
        return schedule.step_factor ** ops.floor(step / (steps_per_epoch * schedule.step_epochs))
    return ops.ones_like(step)


def _plain(options: OptimizerOptions) -> keras.optimizers.Optimizer:
    if options.name in ("lamb", "sgdw"):
        return _legacy(options)
    # Without XLA, which Keras would compile single updates with on GPUs only: one order of
    # operations everywhere, and a step that is compiled as a whole compiles these as well.
    if options.name == "sgd":
        return keras.optimizers.SGD(
            options.learning_rate, momentum=options.momentum, nesterov=True, jit_compile=False
        )
    if options.name == "adam":
        return keras.optimizers.Adam(options.learning_rate, jit_compile=False)
    optimizer = keras.optimizers.AdamW(
        options.learning_rate, weight_decay=options.weight_decay, jit_compile=False
    )
    optimizer.exclude_from_weight_decay(var_names=list(_NO_DECAY))
    return optimizer


def _legacy(options: OptimizerOptions) -> keras.optimizers.legacy.Optimizer:
    """Returns the optimizer of the older kind, the only one that Addons has and wraps."""
    rate, legacy = options.learning_rate, keras.optimizers.legacy
    if options.name == "sgd":
        return legacy.SGD(rate, momentum=options.momentum, nesterov=True)
    if options.name == "adam":
        return legacy.Adam(rate)
    if options.name == "adamw":
        return addons.adamw(rate, options.weight_decay, _NO_DECAY)
    if options.name == "lamb":
        return addons.lamb(rate, options.weight_decay, _NO_DECAY)
    return addons.sgdw(rate, options.weight_decay, _NO_DECAY, momentum=options.momentum)


def _layers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Returns an optimizer and those it wraps, the innermost last."""
    inner = getattr(optimizer, "_optimizer", None)
    return [optimizer] if inner is None else [optimizer, *_layers(inner)]
