import numpy as np
import pytest

from models import single_step, training
from records.backend import keras, tf

STRATEGY = tf.distribute.get_strategy()
OPTIONS = training.TrainOptions(optimizer="sgd", schedule="constant", learning_rate=0.1)
IMAGES = np.random.default_rng(0).random((8, 4, 4, 3), np.float32)
LABELS = np.arange(8, dtype=np.int32) % 2


def model():
    keras.utils.set_random_seed(0)
    with STRATEGY.scope():
        layers = [keras.layers.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
        return keras.Sequential(layers)


def batch(**parts):
    return {"label": tf.constant(LABELS), "weight": tf.ones(8), **parts}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_a_step_is_that_of_keras(jit_compile, later):
    images = (lambda row, numbers: tf.gather(IMAGES, row) * numbers) if later else None
    parts = {"row": tf.range(8), "numbers": tf.ones([])} if later else {"image": IMAGES}
    stepped, reference = model(), model()
    fitted = training.compiled(
        stepped, STRATEGY, OPTIONS, total_steps=9, images=images, jit_compile=jit_compile
    )
    step = single_step.of(fitted, STRATEGY, jit_compile=jit_compile)
    with STRATEGY.scope():
        reference.compile(training.optimizer(OPTIONS, 9), training.CrossEntropy(0.05))
    for _ in range(3):
        step(batch(**parts))
        reference.train_on_batch(IMAGES, LABELS)
    for ours, theirs in zip(stepped.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not np.allclose(stepped.get_weights()[0], model().get_weights()[0], atol=1e-3)
