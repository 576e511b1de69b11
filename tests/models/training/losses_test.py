"""Values and gradients against plain NumPy in float64, extremes, and replicas against one."""

import subprocess
import sys

import numpy as np
import pytest

from models.metrics import confusion
from models.training import losses
from records.common.backend import tf
from tests import fakes

ROWS = losses.NAMES[:3]


def batch(seed=0, rows=12, classes=4):
    """Returns labels as distributions, logits and weights, one of them 0."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2, rows)
    weights[3] = 0
    return rng.dirichlet([0.5] * classes, rows), rng.normal(0, 3, (rows, classes)), weights


def reference_rows(options, wanted, logits):
    """Returns the loss of each row, as its definition reads, float64."""
    wanted = wanted * (1 - options.label_smoothing) + options.label_smoothing / wanted.shape[1]
    sigmoid = 1 / (1 + np.exp(-logits))
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {
        "cross_entropy": -wanted * np.log(softmax),
        "binary_cross_entropy": -wanted * np.log(sigmoid) - (1 - wanted) * np.log(1 - sigmoid),
        "focal": -wanted * (1 - softmax) ** options.focal_gamma * np.log(softmax),
    }[options.name].sum(1)


def reference(options, wanted, logits, weights):
    """Returns the loss of a batch, as its definition reads, float64."""
    if options.name != "soft_f1":
        return (reference_rows(options, wanted, logits) * weights).sum() / len(weights)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    hit, named, support = (weights @ part for part in (softmax * wanted, softmax, wanted))
    there = support > 0
    return 1 - (2 * hit[there] / (named + support)[there]).mean()


def one_share(options, labels, logits, weights):
    return losses.share(
        options,
        tf.constant(labels),
        logits,
        tf.constant(weights, tf.float32),
        global_batch=len(weights),
        num_replicas=1,
        total=tf.identity,
    )


def with_gradient(options, labels, logits, weights):
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = one_share(options, labels, logits, weights)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


OPTIONS = [
    losses.LossOptions("cross_entropy"),
    losses.LossOptions("cross_entropy", label_smoothing=0.2),
    losses.LossOptions("binary_cross_entropy"),
    losses.LossOptions("binary_cross_entropy", label_smoothing=0.1),
    losses.LossOptions("focal"),
    losses.LossOptions("focal", label_smoothing=0.1, focal_gamma=0.5),
    losses.LossOptions("soft_f1"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients_are_those_of_the_definition(options):
    wanted, logits, weights = batch()
    wanted[:, 2] = 0  # a class that no row has
    wanted /= wanted.sum(1, keepdims=True)
    loss, gradient = with_gradient(options, wanted, logits, weights)
    np.testing.assert_allclose(loss, reference(options, wanted, logits, weights), rtol=1e-5)
    expected, step = np.zeros_like(logits), 1e-6
    for place in np.ndindex(*logits.shape):
        moved = np.zeros_like(logits)
        moved[place] = step
        above, below = (reference(options, wanted, logits + m, weights) for m in (moved, -moved))
        expected[place] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=2e-6)


def test_focal_by_hand():
    # Probability 0.8 of the true class: 0.2^2 times -ln 0.8.
    found = losses.rows(losses.LossOptions("focal"), tf.constant([0]), np.log([[0.8, 0.2]]))
    np.testing.assert_allclose(found, [0.04 * 0.2231436], rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_slope_where_nothing_is_in_doubt(gamma):
    options = losses.LossOptions("focal", focal_gamma=gamma)
    loss, gradient = with_gradient(options, [0, 1], [[90.0, 0.0], [90.0, 0.0]], [1, 1])
    np.testing.assert_allclose(loss, 45, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [0.5, -0.5]], atol=1e-6)


def test_focal_without_gamma_is_cross_entropy():
    wanted, logits, weights = batch()
    found = with_gradient(losses.LossOptions("focal", focal_gamma=0), wanted, logits, weights)
    expected = with_gradient(losses.LossOptions(), wanted, logits, weights)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


@pytest.mark.parametrize("name", losses.NAMES)
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("dtype", [tf.float16, tf.float32])
def test_extreme_logits_stay_finite(name, label, dtype):
    logits = tf.cast([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]], dtype)
    loss, gradient = with_gradient(losses.LossOptions(name), [label] * 3, logits, [1, 1, 1])
    assert loss.dtype == np.float32
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() <= 1
    said = losses.probabilities(name, logits)
    np.testing.assert_allclose(tf.reduce_sum(said, 1), 1, rtol=1e-6)
    assert said.dtype == tf.float32


@pytest.mark.parametrize("name", losses.NAMES)
@pytest.mark.parametrize("value", [1e4, np.inf, np.nan])
def test_rows_of_weight_0_count_for_nothing_whatever_they_hold(name, value):
    wanted, logits, weights = batch()
    expected = with_gradient(losses.LossOptions(name), wanted, logits, weights)
    logits[3] = [value, -value, value, value]
    loss, gradient = with_gradient(losses.LossOptions(name), wanted, logits, weights)
    np.testing.assert_array_equal(loss, expected[0])
    np.testing.assert_array_equal(gradient, expected[1])
    assert not gradient[3].any()


@pytest.mark.parametrize("name", losses.NAMES)
def test_a_batch_without_weight_has_no_loss(name):
    wanted, logits, weights = batch()
    loss, gradient = with_gradient(losses.LossOptions(name), wanted, logits, weights * 0)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", ROWS)
def test_the_shares_of_replicas_add_up(name):
    options, (wanted, logits, weights) = losses.LossOptions(name), batch()
    whole = one_share(options, wanted, logits, weights)
    parts = [
        losses.share(
            options,
            tf.constant(wanted[part]),
            logits[part],
            weights[part],
            global_batch=12,
            num_replicas=2,
            total=tf.identity,
        )
        for part in (slice(6), slice(6, 12))
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_hard_predictions_give_macro_f1_over_the_classes_that_are_there(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, 4, 40), rng.integers(0, 5, 40)  # no label is 4
    loss = one_share(losses.LossOptions("soft_f1"), labels, np.eye(5)[predicted] * 500, np.ones(40))
    matrix = confusion.confusion(labels, predicted, 5)
    expected = confusion.per_class(matrix)["f1"][:4].mean()
    np.testing.assert_allclose(1 - loss, expected, rtol=1e-6)


def test_a_class_that_is_nowhere_does_not_move_soft_f1():
    labels, logits = [0, 1, 0, 1], np.array([[2.0, 1], [0, 1], [1, 3], [0, 2]])
    with_absent = np.column_stack([logits, np.full(4, -200.0)])
    loss, gradient = with_gradient(losses.LossOptions("soft_f1"), labels, logits, np.ones(4))
    wider = with_gradient(losses.LossOptions("soft_f1"), labels, with_absent, np.ones(4))
    np.testing.assert_allclose(wider[0], loss, rtol=1e-6)
    np.testing.assert_allclose(wider[1][:, :2], gradient, rtol=1e-5, atol=1e-7)
    assert not wider[1][:, 2].any()


@pytest.mark.parametrize(
    "labels", [[2, 0], [[2], [0]], [[2.0], [0.0]], [[0, 0, 1], [1, 0, 0]], [2.0, 0.0]]
)
def test_labels_are_told_apart_by_their_shape(labels):
    wanted = losses.targets(tf.constant(labels), 3, 0.3)
    np.testing.assert_allclose(wanted, [[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]], rtol=1e-6)
    assert wanted.dtype == tf.float32


def test_hits_go_by_the_largest_label():
    logits = tf.constant([[0.0, 2, 1], [3, 0, 1], [0, 0, 1]], tf.float16)
    assert losses.correct(tf.constant([1, 2, 2]), logits).numpy().tolist() == [1, 0, 1]
    mixed = tf.constant([[0.1, 0.7, 0.2], [0.6, 0.0, 0.4], [0.5, 0.3, 0.2]])
    assert losses.correct(mixed, logits).numpy().tolist() == [1, 1, 0]


def test_probabilities_of_each_kind():
    logits = tf.constant([[0.0, np.log(3)]])
    np.testing.assert_allclose(losses.probabilities("focal", logits), [[0.25, 0.75]], rtol=1e-6)
    of_sigmoids = losses.probabilities("binary_cross_entropy", logits)
    np.testing.assert_allclose(of_sigmoids, [[0.5 / 1.25, 0.75 / 1.25]], rtol=1e-6)


REPLICAS = """
import numpy as np
from models.training import losses
from records.common.backend import tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
rng = np.random.default_rng(0)
features = tf.constant(rng.normal(size=(8, 5)), tf.float32)
labels, weights = tf.constant(rng.integers(0, 3, 8)), tf.constant([1.0, 2, 0, 1, 1, 0.5, 1, 1])

def trained(strategy, name):
    with strategy.scope():
        kernel = tf.Variable(np.linspace(-1, 1, 15).reshape(5, 3), dtype=tf.float32)

    def replica():
        context = tf.distribute.get_replica_context()
        replicas, number = context.num_replicas_in_sync, context.replica_id_in_sync_group
        add = lambda value: context.all_reduce(tf.distribute.ReduceOp.SUM, value)
        mine = tf.range(8 // replicas) + number * (8 // replicas)
        with tf.GradientTape() as tape:
            share = losses.share(
                losses.LossOptions(name), tf.gather(labels, mine),
                tf.gather(features, mine) @ kernel, tf.gather(weights, mine),
                global_batch=8, num_replicas=replicas, total=add,
            )
        return add(share), add(tape.gradient(share, kernel))

    found = tf.function(lambda: strategy.run(replica))()
    return [strategy.experimental_local_results(part)[-1].numpy() for part in found]

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name in losses.NAMES:
    one, two = trained(tf.distribute.get_strategy(), name), trained(mirrored, name)
    np.testing.assert_allclose(two[0], one[0], rtol=1e-6)
    np.testing.assert_allclose(two[1], one[1], rtol=1e-5, atol=1e-7)
    print(name, abs(one[1]).max() > 0.01)
"""


@pytest.mark.slow
def test_two_replicas_have_loss_and_gradient_of_one():
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS], cwd=fakes.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [f"{name} True" for name in losses.NAMES]


def test_soft_f1_has_no_rows():
    with pytest.raises(ValueError, match=r"for each row must be one of .*focal.*, got 'soft_f1'"):
        losses.rows(losses.LossOptions("soft_f1"), tf.constant([0]), tf.zeros([1, 2]))
    with pytest.raises(ValueError, match="loss must be one of"):
        losses.probabilities("hinge", tf.zeros([1, 2]))
