"""Steps against those of Keras, over replicas, with losses and gradients that are not finite."""

import json
import subprocess
import sys

import numpy as np
import pytest

from models.training import losses, optimizers
from models.training import step as train_step
from records.common.backend import keras, tf
from tests import fakes

STRATEGY = tf.distribute.get_strategy()
IMAGES = np.random.default_rng(0).random((8, 4, 4, 3), np.float32)
LABELS = np.arange(8, dtype=np.int32) % 2
SGD = optimizers.OptimizerOptions("sgd", learning_rate=0.1)


def model(normalized=False, policy="float32"):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((4, 4, 3)), keras.layers.Flatten(dtype=policy)]
    if normalized:
        layers.append(keras.layers.BatchNormalization(dtype=policy))
    return keras.Sequential([*layers, keras.layers.Dense(2, dtype=policy)])


def batch(**parts):
    rows = tf.range(len(LABELS), dtype=tf.int64)
    return {
        "image": tf.constant(IMAGES),
        "label": tf.constant(LABELS),
        "weight": tf.ones(8),
        "row": rows,
        **parts,
    }


def stepped(model, optimizer=SGD, **options):
    return train_step.TrainStep(
        model,
        STRATEGY,
        loss=losses.LossOptions(),
        optimizer=optimizer,
        rate=lambda step, factor: 0.1 * factor,
        batch_size=8,
        **options,
    )


def endless(*batches):
    """Returns the batches as an iterator, the last again and again."""
    stacked = {name: tf.stack([each[name] for each in batches]) for name in batches[0]}
    ds = tf.data.Dataset.from_tensor_slices(stacked)
    return iter(ds.concatenate(ds.skip(len(batches) - 1).repeat()))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_steps_are_those_of_keras(jit_compile, later):
    images = (lambda row, numbers: tf.gather(IMAGES, row) * numbers) if later else None
    ours, reference = model(), model()
    step = stepped(ours, images=images, jit_compile=jit_compile)
    given = batch(numbers=tf.ones([]))
    if later:
        del given["image"]
    state, rows, _ = step.run(endless(given), train_step.initial_state("float32"), 3)
    sgd = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    reference.compile(sgd, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    told = [reference.train_on_batch(IMAGES, LABELS) for _ in range(3)]
    for mine, theirs in zip(ours.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert (state.step, state.steps, len(rows)) == (3, 3, 0)
    np.testing.assert_allclose(state.loss, sum(told), rtol=1e-5)


def test_how_many_steps_a_call_does_makes_no_difference():
    found = []
    for calls in ([6], [1, 2, 3], [1] * 6):
        ours = model()
        step, state = stepped(ours), train_step.initial_state("float32")
        batches = endless(batch(), batch(image=tf.constant(IMAGES * 2)))
        for count in calls:
            state, _, _ = step.run(batches, state, count)
        found.append([*ours.get_weights(), np.array(state)])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("normalized", [False, True])
def test_a_loss_that_is_not_finite_changes_nothing_and_names_its_rows(normalized):
    spoiled = IMAGES.copy()
    spoiled[[2, 5], 1, 1, 1] = np.nan
    ours = model(normalized)
    step = stepped(ours)
    before = [value.numpy() for value in step.variables]
    bad = batch(image=tf.constant(spoiled))
    state, rows, _ = step.run(endless(bad), train_step.initial_state("float32"), 2)
    assert rows.tolist() == [2, 5, 2, 5]
    assert (state.step, state.steps, state.skipped, state.overflows) == (2, 0, 2, 0)
    for value, was in zip(step.variables, before, strict=True):
        np.testing.assert_array_equal(value, was)
    again, rows, _ = step.run(endless(batch()), state, 3)
    assert (again.steps, again.skipped, len(rows)) == (3, 2, 0)
    assert np.isfinite(again.loss) and again.loss > 0


def test_a_weight_or_label_that_is_not_finite_is_named_too():
    weights, labels = np.ones(8, np.float32), np.eye(2, dtype=np.float32)[LABELS]
    weights[3], labels[6, 0] = np.inf, np.nan
    bad = batch(weight=tf.constant(weights), label=tf.constant(labels))
    _, rows, _ = stepped(model()).run(endless(bad), train_step.initial_state("float32"), 1)
    assert rows.tolist() == [3, 6]


def test_the_scale_of_float16_falls_on_overflows_alone_and_never_dies():
    ours = model(policy="mixed_float16")
    step = stepped(ours)
    state = train_step.initial_state("mixed_float16")
    assert state.loss_scale == 2.0**15
    spoiled = batch(image=tf.fill([8, 4, 4, 3], np.nan))
    after, _, _ = step.run(endless(spoiled), state, 200)  # 200 losses that are not finite
    assert (after.loss_scale, after.skipped, after.overflows) == (2.0**15, 200, 0)
    large = state._replace(loss_scale=np.float32(2.0**24))
    after, rows, _ = step.run(endless(batch(image=tf.fill([8, 4, 4, 3], 60.0))), large, 40)
    assert after.overflows > 0 and after.skipped == 0 and len(rows) == 0
    assert 1 <= after.loss_scale < 2.0**24
    assert after.steps == 40 - after.overflows
    assert all(np.isfinite(weight).all() for weight in ours.get_weights())


def test_the_scale_of_float16_grows_after_2000_steps():
    step = stepped(model(policy="mixed_float16"))
    state = train_step.initial_state("mixed_float16")._replace(steps_since_rescale=np.int64(1998))
    once, _, _ = step.run(endless(batch()), state, 1)
    twice, _, _ = step.run(endless(batch()), once, 1)
    assert (once.loss_scale, once.steps_since_rescale) == (2.0**15, 1999)
    assert (twice.loss_scale, twice.steps_since_rescale) == (2.0**16, 0)


def test_float32_is_not_scaled():
    assert (
        train_step.initial_state("float32").loss_scale
        == train_step.initial_state("mixed_bfloat16").loss_scale
    )
    state, _, _ = stepped(model()).run(endless(batch()), train_step.initial_state("float32"), 2)
    assert (state.loss_scale, state.steps_since_rescale) == (1, 0)


def test_rows_of_weight_zero_do_not_train():
    ours = model()
    before = ours.get_weights()
    muted = batch(weight=tf.zeros(8))
    state, _, _ = stepped(ours).run(endless(muted), train_step.initial_state("float32"), 2)
    assert (state.loss, state.correct, state.weight) == (0, 0, 0)
    for value, was in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, was)


def test_frozen_weights_and_their_statistics_stay():
    ours = model(normalized=True)
    ours.layers[1].trainable = False
    before = [value.numpy() for value in ours.layers[1].weights]
    stepped(ours).run(endless(batch()), train_step.initial_state("float32"), 2)
    for value, was in zip(ours.layers[1].weights, before, strict=True):
        np.testing.assert_array_equal(value, was)


REPLICAS = """
import json, sys
from models.networks import blocks, dropout
from models.training import losses, optimizers, distribution, step as train_step
from records.common.backend import keras, tf
replicas, loss = int(sys.argv[1]), sys.argv[2]
how = distribution.configure(strategy="mirrored" if replicas > 1 else "one", precision="float32",
                        seed=0, cpu_devices=replicas)
with how.strategy.scope():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3),
        blocks.batch_norm("norm"), keras.layers.ReLU(), keras.layers.Flatten(),
        dropout.Dropout(0.5), keras.layers.Dense(3)])
    # Rows 0, 1, ... of one table, whoever reads them.
    images = tf.random.stateless_uniform([240, 8, 8, 3], [0, 1])
    labels = tf.cast(tf.argmax(tf.reduce_sum(images, [1, 2]), 1), tf.int32)
step = train_step.TrainStep(model, how.strategy, loss=losses.LossOptions(loss),
    optimizer=optimizers.OptimizerOptions("sgd"), rate=lambda step, factor: 0.05 * factor,
    batch_size=24, seed=3)
batch = {"image": images, "label": labels, "weight": tf.ones([240]) * 0.5,
         "row": tf.range(240, dtype=tf.int64)}
batches = iter(tf.data.Dataset.from_tensor_slices(batch).repeat().batch(24 // replicas))
state, found = train_step.initial_state("float32"), []
for _ in range(8):
    state, _, _ = step.run(batches, state.new_epoch(), 1)
    found.append([float(state.loss), float(state.correct)])
weights = [how.strategy.experimental_local_results(weight)[0] for weight in model.weights]
found.append([float(tf.reduce_sum(weight)) for weight in weights])
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross_entropy", "soft_f1"])
def test_losses_and_weights_do_not_depend_on_the_number_of_replicas(loss):
    found = []
    for replicas in (1, 2, 4):
        command = [sys.executable, "-c", REPLICAS, str(replicas), loss]
        done = subprocess.run(command, cwd=fakes.ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-5)
    assert len({loss for loss, _ in found[0][:-1]}) == 8


def test_xla_is_for_one_replica():
    class Two:
        num_replicas_in_sync = 2

    with pytest.raises(ValueError, match="jit_compile needs a single replica, got 2"):
        train_step.TrainStep(
            model(),
            Two(),
            loss=losses.LossOptions(),
            optimizer=SGD,
            rate=lambda step, factor: factor,
            batch_size=8,
            jit_compile=True,
        )
