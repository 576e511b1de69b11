"""One training step on all replicas, and many in one call.

Each replica computes the loss of its slice and the gradients; these are summed over the replicas,
and every replica makes the same update. All that changes from step to step is in the variables of
model and optimizer, and in the `Carry`.

A step whose loss is not finite changes nothing: the statistics of normalization are put back, and
the rows that are to blame are found by a forward pass that no row can spoil for the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.networks import dropout
from models.training import distribution, losses, optimizers
from records.common.backend import keras, tf

Batch = Mapping[str, tf.Tensor]
Images = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_FIRST_SCALE, _LEAST_SCALE, _MOST_SCALE = 2.0**15, 1.0, 2.0**24
_GROW_AFTER = 2000  # steps without an overflow, as of Micikevicius et al. 2018, arXiv:1710.03740


class Carry(NamedTuple):
    """What goes from step to step beside the variables; each a scalar.

    The sums are in float64 and begun anew with each epoch, so it makes no difference how many steps
    one call does.
    """

    step: Any  # int64, the next one
    steps: Any  # int64, that were not skipped in this epoch
    loss: Any  # float64, sum over these steps
    hits: Any  # float64, weights of rows that were predicted right
    weight: Any  # float64, weights of all rows
    skipped: Any  # int64, in the whole run
    overflows: Any  # int64, in the whole run: gradients beyond float16, the loss being finite
    scale: Any  # float32, that the loss is multiplied by
    since: Any  # int64, steps since the scale was changed

    def new_epoch(self) -> "Carry":
        """Returns the carry with its sums at 0."""
        return self._replace(**{name: type(getattr(self, name))(0) for name in _SUMS})


_SUMS = ("steps", "loss", "hits", "weight")
_DTYPES = Carry(
    *("int64", "int64", "float64", "float64", "float64", "int64", "int64", "float32", "int64")
)


def first_carry(precision: str) -> Carry:
    """Returns the carry to begin a run with; losses are scaled in float16 only."""
    scale = _FIRST_SCALE if precision == "mixed_float16" else 1.0
    return carry_of([0, 0, 0, 0, 0, 0, 0, scale, 0])


def carry_of(values: Sequence[Any]) -> Carry:
    """Returns a carry of NumPy scalars."""
    return Carry(*(np.dtype(d).type(v) for d, v in zip(_DTYPES, values, strict=True)))


class TrainStep:
    """A model, an optimizer and a loss, to be stepped.

    Attributes:
        optimizer: with all its variables made.
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
        """Makes the optimizer and its variables for what is trainable now.

        Args:
            model: made under the strategy's scope.
            strategy: who computes.
            loss: what is minimized.
            optimizer: by what.
            rate: from the step, int64, and the factor of a call to the learning rate.
            batch_size: the global batch.
            seed: of dropout.
            images: makes the images of `row` and `numbers`, where the batches have none.
            jit_compile: compile forward and backward pass with XLA; on one replica only.
            local_replicas: of this process; all if not given.

        Raises:
            ValueError: if XLA is wanted on several replicas.
        """
        if jit_compile and strategy.num_replicas_in_sync > 1:
            raise ValueError(
                f"jit_compile is for one replica, got {strategy.num_replicas_in_sync}: XLA cannot"
                " compile the normalization over several"
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
        self._several = tf.function(self._steps, autograph=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables that training changes, in an order that depends on the model alone."""
        return [*self._model.variables, *optimizers.variables(self.optimizer)]

    def run(
        self, batches: Iterator[Batch], carry: Carry, num_steps: int, factor: float = 1.0
    ) -> tuple[Carry, np.ndarray, float]:
        """Does steps.

        Args:
            batches: of a training dataset, one for each replica of this process and step.
            carry: of the steps before.
            num_steps: how many.
            factor: that the learning rate is multiplied by.

        Returns:
            The carry; rows of steps that were skipped, int64 [any], among those of this process;
            seconds that were spent on waiting for batches.
        """
        carry, rows, waited = self._several(
            batches,
            Carry(*(tf.constant(v, d) for v, d in zip(carry, _DTYPES, strict=True))),
            tf.constant(num_steps),
            tf.constant(factor, tf.float32),
        )
        return carry_of([value.numpy() for value in carry]), rows.numpy(), float(waited)

    def single(self) -> Callable[[Batch], tf.Tensor]:
        """Returns a step of one replica on a batch, to be timed; it gives the loss."""
        first = first_carry("mixed_float16" if self._float16 else "float32")
        carry = Carry(*(tf.constant(v, d) for v, d in zip(first, _DTYPES, strict=True)))

        def step(batch: Batch) -> tf.Tensor:
            return self.one((batch,), carry, tf.constant(1.0))[0].loss

        return tf.function(step, autograph=False)

    def _steps(
        self, batches: Iterator[Batch], carry: Carry, num_steps: tf.Tensor, factor: tf.Tensor
    ) -> tuple[Carry, tf.Tensor, tf.Tensor]:
        def body(
            number: tf.Tensor, carry: Carry, bad: tf.Tensor, waited: tf.Tensor
        ) -> tuple[tf.Tensor, Carry, tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([*carry, waited]):
                began = tf.timestamp()
            with tf.control_dependencies([began]):
                pieces = tuple(next(batches) for _ in range(self._local_replicas))
            with tf.control_dependencies(tf.nest.flatten(pieces)):
                waited += tf.timestamp() - began
            carry, rows = self.one(pieces, carry, factor)
            return number + 1, carry, tf.concat([bad, rows], 0), waited

        _, carry, bad, waited = tf.while_loop(
            lambda number, *_: number < num_steps,
            body,
            (0, carry, tf.zeros([0], tf.int64), tf.constant(0.0, tf.float64)),
            shape_invariants=(
                tf.TensorShape([]),
                Carry(*[tf.TensorShape([])] * len(carry)),
                tf.TensorShape([None]),
                tf.TensorShape([]),
            ),
            parallel_iterations=1,
        )
        return carry, bad, waited

    def one(
        self, pieces: Sequence[Batch], carry: Carry, factor: tf.Tensor
    ) -> tuple[Carry, tf.Tensor]:
        """Does one step, inside a graph.

        Args:
            pieces: the batches of this process's replicas, in their order.
            carry: of tensors.
            factor: float32 scalar, that the learning rate is multiplied by.

        Returns:
            The next carry, and the rows that made the loss infinite, int64 [any].
        """
        done = self._strategy.run(self._compute, args=(tuple(pieces), carry.step, carry.scale))
        gradients, sums, kept = done
        loss, hits, weight, finite_gradients = self._first(sums)
        finite_loss = tf.math.is_finite(loss)
        usable = finite_loss & finite_gradients
        optimizers.set_rate(self.optimizer, self._rate(carry.step, factor))

        def update() -> tf.Tensor:
            self._strategy.run(self._update, args=(gradients,))
            return tf.zeros([0], tf.int64)

        def skip() -> tf.Tensor:
            self._strategy.run(self._put_back, args=(kept,))
            return tf.cond(
                finite_loss, lambda: tf.zeros([0], tf.int64), lambda: self._to_blame(pieces)
            )

        rows = tf.cond(usable, update, skip)
        return self._next(carry, usable, finite_loss, loss, hits, weight), rows

    def _computed(self, pieces: Sequence[Batch], step: tf.Tensor, scale: tf.Tensor) -> Any:
        """Returns a replica's gradients and sums, over all replicas, and what may be put back."""
        context = tf.distribute.get_replica_context()
        number = distribution.replica_number()
        batch = pieces[number % len(pieces)]
        replicas = context.num_replicas_in_sync
        first = step * self._batch_size + number * (self._batch_size // replicas)
        images = self._images_of(batch)
        kept = [tf.identity(variable) for variable in self._moving]
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
        right = tf.reduce_sum(losses.hits(batch["label"], logits) * batch["weight"])
        # Layers may take what is no number for 0, as the ReLU of oneDNN does.
        share = tf.where(tf.reduce_all(tf.math.is_finite(images)), share, np.nan)
        sums = [share, right, tf.reduce_sum(batch["weight"])]
        if replicas > 1:
            gradients, sums = context.all_reduce(tf.distribute.ReduceOp.SUM, (gradients, sums))
        gradients = [gradient / scale for gradient in gradients]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        return gradients, (*sums, finite), kept

    def _images_of(self, batch: Batch) -> tf.Tensor:
        if self._images is None:
            return batch["image"]
        return self._images(batch["row"], batch["numbers"])

    def _update(self, gradients: Sequence[tf.Tensor]) -> None:
        optimizers.apply(self.optimizer, list(zip(gradients, self._trainable, strict=True)))

    def _put_back(self, kept: Sequence[tf.Tensor]) -> None:
        for variable, value in zip(self._moving, kept, strict=True):
            variable.assign(value)

    def _to_blame(self, pieces: Sequence[Batch]) -> tf.Tensor:
        """Returns the rows of this process that alone give a loss that is not finite."""
        found = self._strategy.run(self._blamed, args=(tuple(pieces),))
        rows, bad = (self._strategy.experimental_local_results(part) for part in found)
        return tf.boolean_mask(tf.concat(rows, 0), tf.concat(bad, 0))

    def _blamed(self, pieces: Sequence[Batch]) -> tuple[tf.Tensor, tf.Tensor]:
        batch = pieces[distribution.replica_number() % len(pieces)]
        images = self._images_of(batch)
        logits = tf.cast(self._model(images, training=False), tf.float32)
        wanted = losses.targets(batch["label"], logits.shape[-1], 0.0)
        finite = tf.math.is_finite(logits) & tf.math.is_finite(wanted)
        finite = tf.reduce_all(finite, 1) & tf.math.is_finite(batch["weight"])
        finite &= tf.reduce_all(tf.math.is_finite(images), [1, 2, 3])
        return batch["row"], ~finite

    def _first(self, sums: Any) -> list[tf.Tensor]:
        return [self._strategy.experimental_local_results(part)[0] for part in sums]

    def _next(
        self,
        carry: Carry,
        usable: tf.Tensor,
        finite_loss: tf.Tensor,
        loss: tf.Tensor,
        hits: tf.Tensor,
        weight: tf.Tensor,
    ) -> Carry:
        # Gradients that are too large at the least scale are no matter of scale.
        overflow = finite_loss & ~usable & (carry.scale > _LEAST_SCALE)
        skipped = ~usable & ~overflow

        def added(total: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
            return total + tf.where(usable, tf.cast(value, tf.float64), 0)

        scale, since = carry.scale, carry.since
        if self._float16:
            grown = usable & (since + 1 >= _GROW_AFTER)
            scale = tf.where(grown, tf.minimum(scale * 2, _MOST_SCALE), scale)
            scale = tf.where(overflow, tf.maximum(scale / 2, _LEAST_SCALE), scale)
            since = tf.where(grown | overflow, tf.zeros_like(since), since + _one(usable))
        return Carry(
            step=carry.step + 1,
            steps=carry.steps + _one(usable),
            loss=added(carry.loss, loss),
            hits=added(carry.hits, hits),
            weight=added(carry.weight, weight),
            skipped=carry.skipped + _one(skipped),
            overflows=carry.overflows + _one(overflow),
            scale=scale,
            since=since,
        )


def _one(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(condition, tf.int64)
