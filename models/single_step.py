"""One training step as `training.fit` compiles it, to be called by hand, such as to be timed."""

from collections.abc import Callable, Mapping

from models import training
from records.backend import keras, tf

Batch = Mapping[str, tf.Tensor]


def compiled(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    options: training.TrainOptions,
    *,
    total_steps: int,
    images: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    jit_compile: bool = False,
) -> Callable[[Batch], None]:
    """Returns the step: it takes a batch and changes the model.

    A batch has `label`, `weight` and `image`; or, with `images`, `row` and `numbers` instead of
    `image`, as of `training.Input`.

    Args:
        model: made under the strategy's scope.
        strategy: who computes.
        options: how the model is trained.
        total_steps: that the learning rate is scheduled over.
        images: makes the images of a batch inside the step.
        jit_compile: compile the step with XLA.
    """
    with strategy.scope():
        model.compile(
            optimizer=training.optimizer(options, total_steps),
            loss=training.CrossEntropy(options.label_smoothing),
            weighted_metrics=[keras.metrics.MeanMetricWrapper(training.accuracy, name="accuracy")],
            jit_compile=jit_compile,
        )

    def train(batch: Batch) -> None:
        image = images(batch["row"], batch["numbers"]) if images else batch["image"]
        model.train_step((image, batch["label"], batch["weight"]))

    run = tf.function(train, jit_compile=True) if jit_compile else train

    @tf.function
    def step(batch: Batch) -> None:
        strategy.run(run, args=(batch,))

    return step
