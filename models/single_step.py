"""One training step as `training.fit` does it, to be called by hand, such as to be timed."""

from collections.abc import Callable, Mapping

from models import training
from records.backend import keras, tf

Batch = Mapping[str, tf.Tensor]


def of(
    fitted: keras.Model, strategy: tf.distribute.Strategy, *, jit_compile: bool = False
) -> Callable[[Batch], None]:
    """Returns the step: it takes a batch, as of `training.Input`, and changes the model.

    Args:
        fitted: of `training.compiled`.
        strategy: that it was compiled under.
        jit_compile: compile the step with XLA.
    """

    def train(batch: Batch) -> None:
        fitted.train_step(training.keras_batch(batch))

    run = tf.function(train, jit_compile=True) if jit_compile else train

    @tf.function
    def step(batch: Batch) -> None:
        strategy.run(run, args=(batch,))

    return step
