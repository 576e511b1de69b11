"""One training step on all replicas, and many steps in one call.

Each replica computes the loss of its slice of the batch and the gradients; the gradients are summed
over the replicas, and every replica makes the same update. The state is in the variables of model
and optimizer, and in the `LoopState`.

A step with a non-finite loss changes nothing: the statistics of normalization are restored. A
forward pass in which rows cannot affect each other then finds the offending rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.networks import dropout
from models.training import distribution, losses, optimizers
from records.common.backend import keras, tf

Batch = Mapping[str, tf.Tensor]
Images = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740). Keras' own also halves the
# scale for a non-finite loss, so a few bad batches would reduce it to 1.
_INITIAL_SCALE, _MIN_SCALE, _MAX_SCALE = 2.0**15, 1.0, 2.0**24
_STEPS_TO_GROW = 2000  # without an overflow


class LoopState(NamedTuple):
    """Scalars passed from step to step.

    The sums are in float64 and start at 0 in each epoch, so they do not depend on the number of
    steps in a call. A checkpoint holds the values in this order.
    """

    step: Any  # int64, number of the next step
    steps: Any  # int64, steps of this epoch that were not skipped
    loss: Any  # float64, sum over these steps
    correct: Any  # float64, sum of the weights of correctly predicted rows
    weight: Any  # float64, sum of the weights of all rows
    skipped: Any  # int64, steps skipped in the whole run
    overflows: Any  # int64, steps of the whole run with a finite loss but gradients beyond float16
    loss_scale: Any  # float32, factor on the loss
    steps_since_rescale: Any  # int64

    def new_epoch(self) -> "LoopState":
        """Returns the state with its sums at 0."""
        return self._replace(**{name: type(getattr(self, name))(0) for name in _SUMS})


_SUMS = ("steps", "loss", "correct", "weight")
_DTYPES = LoopState(
    *("int64", "int64", "float64", "float64", "float64", "int64", "int64", "float32", "int64")
)


def initial_state(precision: str) -> LoopState:
    """Returns the state at the start of a run; the loss is scaled in `mixed_float16` only."""
    scale = _INITIAL_SCALE if precision == "mixed_float16" else 1.0
    return state_of([0, 0, 0, 0, 0, 0, 0, scale, 0])


def state_of(values: Sequence[Any]) -> LoopState:
    """Returns a state of NumPy scalars."""
    return LoopState(*(np.dtype(d).type(v) for d, v in zip(_DTYPES, values, strict=True)))


class TrainStep:
    """A training step of a model, an optimizer and a loss.

    Attributes:
        optimizer: with all its variables created.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        *,
        loss: losses.LossOptions,
        optimizer: optimizers.OptimizerOptions,
        rate: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        batch_size: int,
        seed: int = 0,
        images: Images | None = None,
        jit_compile: bool = False,
        local_replicas: int | None = None,
    ):
        """Creates the optimizer and its variables for the variables that are trainable now.

        Args:
            model: created under the strategy's scope.
            rate: (step, int64; the `factor` of a call) -> learning rate.
            batch_size: global, over all replicas.
            seed: seeds dropout.
            images: (`row`, `numbers`) -> images, if the batches have no `image`.
            jit_compile: compile forward and backward pass with XLA; on one replica only.
            local_replicas: replicas of this process; by default all.

        Raises:
            ValueError: if `jit_compile` is set with several replicas.
        """
        if jit_compile and strategy.num_replicas_in_sync > 1:
            raise ValueError(
                f"jit_compile needs a single replica, got {strategy.num_replicas_in_sync}: XLA"
                " cannot compile synchronized batch normalization"
            )
        dropout.number_layers(model)
        self._model, self._strategy, self._images, self._seed = model, strategy, images, seed
        self._loss, self._rate, self._batch_size = loss, rate, batch_size
        self._local_replicas = local_replicas or strategy.num_replicas_in_sync
        self._trainable = list(model.trainable_variables)
        layers = list(model._flatten_layers())
        self._moving = [
            variable
            for layer in layers
            if layer.trainable  # frozen statistics do not move
            for variable in layer._non_trainable_weights
        ]
        self._float16 = any(layer.compute_dtype == "float16" for layer in layers)
        self._compute = self._computed
        if jit_compile:
            self._compute = tf.function(self._computed, jit_compile=True, autograph=False)
        with strategy.scope():
            self.optimizer = optimizers.build(optimizer)
            optimizers.create(self.optimizer, self._trainable)
        self._many = tf.function(self._steps, autograph=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables that training changes, in an order that depends only on the model."""
        return [*self._model.variables, *optimizers.variables(self.optimizer)]

    def run(
        self, batches: Iterator[Batch], state: LoopState, num_steps: int, factor: float = 1.0
    ) -> tuple[LoopState, np.ndarray, float]:
        """Makes `num_steps` steps, at least 1.

        Args:
            batches: from a training dataset, in each step one for each replica of this process.
            state: after the steps before.
            factor: multiplies the learning rate.

        Returns:
            The new state; the offending rows of skipped steps in this process's batches, int64
            [any]; seconds spent waiting for batches.
        """
        state, rows, waited = self._many(
            batches, _tensors(state), tf.constant(num_steps), tf.constant(factor, tf.float32)
        )
        return state_of([value.numpy() for value in state]), rows.numpy(), float(waited)

    def single(self) -> Callable[[Batch], tf.Tensor]:
        """Returns a function, for timing, that makes a step on one batch and returns its loss."""
        state = _tensors(initial_state("mixed_float16" if self._float16 else "float32"))

        def step(batch: Batch) -> tf.Tensor:
            return self.one((batch,), state, tf.constant(1.0))[0].loss

        return tf.function(step, autograph=False)

    def _steps(
        self, batches: Iterator[Batch], state: LoopState, num_steps: tf.Tensor, factor: tf.Tensor
    ) -> tuple[LoopState, tf.Tensor, tf.Tensor]:
        def body(
            number: tf.Tensor, state: LoopState, offending: tf.Tensor, waited: tf.Tensor
        ) -> tuple[tf.Tensor, LoopState, tf.Tensor, tf.Tensor]:
            # Only `next` is timed: the step before has finished.
            with tf.control_dependencies([*state, waited]):
                start = tf.timestamp()
            # One plain iterator for each process, which yields its replicas' batches in turn.
            # TensorFlow's own multi-device iterator ended 4 of 98 processes with a segmentation
            # fault (2.21): `MultiDeviceBuffer::BackgroundThread` fetched after it was destroyed.
            with tf.control_dependencies([start]):
                parts = tuple(next(batches) for _ in range(self._local_replicas))
            with tf.control_dependencies(tf.nest.flatten(parts)):
                waited += tf.timestamp() - start
            state, rows = self.one(parts, state, factor)
            return number + 1, state, tf.concat([offending, rows], 0), waited

        _, state, offending, waited = tf.while_loop(
            lambda number, *_: number < num_steps,
            body,
            (0, state, tf.zeros([0], tf.int64), tf.constant(0.0, tf.float64)),
            shape_invariants=(
                tf.TensorShape([]),
                LoopState(*[tf.TensorShape([])] * len(state)),
                tf.TensorShape([None]),
                tf.TensorShape([]),
            ),
            parallel_iterations=1,
        )
        return state, offending, waited

    def one(
        self, parts: Sequence[Batch], state: LoopState, factor: tf.Tensor
    ) -> tuple[LoopState, tf.Tensor]:
        """Makes a step inside a graph; returns the next state and the offending rows, int64 [any].

        Args:
            parts: the batches of this process's replicas, in the replicas' order.
            state: as tensors.
            factor: float32 scalar, multiplies the learning rate.
        """
        gradients, sums, statistics = self._strategy.run(
            self._compute, args=(tuple(parts), state.step, state.loss_scale)
        )
        loss, correct, weight, finite_gradients = (
            self._strategy.experimental_local_results(each)[0] for each in sums
        )
        finite_loss = tf.math.is_finite(loss)
        usable = finite_loss & finite_gradients
        optimizers.set_rate(self.optimizer, self._rate(state.step, factor))

        def update() -> tf.Tensor:
            self._strategy.run(self._update, args=(gradients,))
            return tf.zeros([0], tf.int64)

        def skip() -> tf.Tensor:
            self._strategy.run(self._restore, args=(statistics,))
            return tf.cond(
                finite_loss, lambda: tf.zeros([0], tf.int64), lambda: self._offending(parts)
            )

        # The gradients are summed over the replicas before this branch, not in `update`: every
        # replica then takes the same branch, and no branch holds a collective operation.
        rows = tf.cond(usable, update, skip)
        return self._next(state, usable, finite_loss, loss, correct, weight), rows

    def _computed(self, parts: Sequence[Batch], step: tf.Tensor, scale: tf.Tensor) -> Any:
        """Returns gradients and sums over all replicas, and the statistics before the step."""
        context = tf.distribute.get_replica_context()
        number = distribution.replica_number()
        batch = parts[number % len(parts)]
        replicas = context.num_replicas_in_sync
        first = step * self._batch_size + number * (self._batch_size // replicas)
        images = self._images_of(batch)
        statistics = [tf.identity(variable) for variable in self._moving]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._trainable)
            with dropout.keyed(self._seed, first):
                logits = self._model(images, training=True)
            share = losses.share(
                self._loss,
                batch["label"],
                logits,
                batch["weight"],
                global_batch=self._batch_size,
                num_replicas=replicas,
                total=lambda value: context.all_reduce(tf.distribute.ReduceOp.SUM, value),
            )
            scaled = share * scale
        gradients = tape.gradient(
            scaled, self._trainable, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        correct = tf.reduce_sum(losses.correct(batch["label"], logits) * batch["weight"])
        # The images are checked for NaN too: the ReLU of oneDNN turns it into 0, and an image of
        # NaN would train as a black one.
        share = tf.where(tf.reduce_all(tf.math.is_finite(images)), share, np.nan)
        sums = [share, correct, tf.reduce_sum(batch["weight"])]
        if replicas > 1:
            gradients, sums = context.all_reduce(tf.distribute.ReduceOp.SUM, (gradients, sums))
        gradients = [gradient / scale for gradient in gradients]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        return gradients, (*sums, finite), statistics

    def _images_of(self, batch: Batch) -> tf.Tensor:
        if self._images is None:
            return batch["image"]
        return self._images(batch["row"], batch["numbers"])

    def _update(self, gradients: Sequence[tf.Tensor]) -> None:
        optimizers.apply(self.optimizer, list(zip(gradients, self._trainable, strict=True)))

    def _restore(self, statistics: Sequence[tf.Tensor]) -> None:
        for variable, value in zip(self._moving, statistics, strict=True):
            variable.assign(value)

    def _offending(self, parts: Sequence[Batch]) -> tf.Tensor:
        """Returns the rows in this process's batches whose own loss is not finite."""
        found = self._strategy.run(self._rows_and_faults, args=(tuple(parts),))
        rows, bad = (self._strategy.experimental_local_results(each) for each in found)
        return tf.boolean_mask(tf.concat(rows, 0), tf.concat(bad, 0))

    def _rows_and_faults(self, parts: Sequence[Batch]) -> tuple[tf.Tensor, tf.Tensor]:
        batch = parts[distribution.replica_number() % len(parts)]
        images = self._images_of(batch)
        # With the moving statistics: those of the batch would spread NaN from one row to all.
        logits = tf.cast(self._model(images, training=False), tf.float32)
        targets = losses.targets(batch["label"], logits.shape[-1], 0.0)
        finite = tf.math.is_finite(logits) & tf.math.is_finite(targets)
        finite = tf.reduce_all(finite, 1) & tf.math.is_finite(batch["weight"])
        finite &= tf.reduce_all(tf.math.is_finite(images), [1, 2, 3])
        return batch["row"], ~finite

    def _next(
        self,
        state: LoopState,
        usable: tf.Tensor,
        finite_loss: tf.Tensor,
        loss: tf.Tensor,
        correct: tf.Tensor,
        weight: tf.Tensor,
    ) -> LoopState:
        # Non-finite gradients at the smallest scale are not an overflow: the step is skipped.
        overflow = finite_loss & ~usable & (state.loss_scale > _MIN_SCALE)
        skipped = ~usable & ~overflow

        def added(total: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
            return total + tf.where(usable, tf.cast(value, tf.float64), 0)

        scale, since = state.loss_scale, state.steps_since_rescale
        if self._float16:
            grown = usable & (since + 1 >= _STEPS_TO_GROW)
            scale = tf.where(grown, tf.minimum(scale * 2, _MAX_SCALE), scale)
            scale = tf.where(overflow, tf.maximum(scale / 2, _MIN_SCALE), scale)
            since = tf.where(grown | overflow, tf.zeros_like(since), since + _one(usable))
        return LoopState(
            step=state.step + 1,
            steps=state.steps + _one(usable),
            loss=added(state.loss, loss),
            correct=added(state.correct, correct),
            weight=added(state.weight, weight),
            skipped=state.skipped + _one(skipped),
            overflows=state.overflows + _one(overflow),
            loss_scale=scale,
            steps_since_rescale=since,
        )


def _tensors(state: LoopState) -> LoopState:
    return LoopState(*(tf.constant(v, d) for v, d in zip(state, _DTYPES, strict=True)))


def _one(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(condition, tf.int64)
