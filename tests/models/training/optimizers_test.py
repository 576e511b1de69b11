"""Each optimizer with each wrapper: it descends, and resumes to the bit; rates by the step."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from models.training import addons, optimizers
from models.training.options import OPTIMIZERS, SCHEDULES
from records.common.backend import keras, tf
from tests import fakes

HAS_ADDONS = sys.version_info < (3, 12)
needs_addons = pytest.mark.skipif(
    not HAS_ADDONS, reason="TensorFlow Addons has no wheels for this Python"
)
OF_KERAS = [(name, False, 0.0) for name in OPTIMIZERS if name != "lamb"]
ALL = [
    pytest.param(*case, id="-".join(map(str, case)), marks=() if case in OF_KERAS else needs_addons)
    for case in itertools.product(OPTIMIZERS, (False, True), (0.0, 0.9))
]
# Wrapped in neither or both; for a process of its own, which skips nothing by itself.
PLAIN_OR_BOTH = [
    case
    for case in ALL
    if case.values[1] == (case.values[2] > 0) and (HAS_ADDONS or not case.marks)
]


class Descent:
    """A kernel and a bias on their way to 0.25, where a quadratic has its minimum."""

    def __init__(self, options, strategy=None):
        self.strategy = strategy or tf.distribute.get_strategy()
        with self.strategy.scope():
            kernel = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
            self.weights = [
                tf.Variable(kernel, name="dense/kernel"),
                tf.Variable([0.5, -0.5], name="dense/bias"),
            ]
            self.optimizer = optimizers.build(options)
            optimizers.create(self.optimizer, self.weights)
        self.variables = [*self.weights, *optimizers.variables(self.optimizer)]

    @tf.function
    def _steps(self, count, rate):
        for _ in tf.range(count):
            optimizers.set_rate(self.optimizer, rate)
            # As in training, where a step that is not finite is left out.
            tf.cond(rate > 0, lambda: self.strategy.run(self._step), lambda: None)

    def _step(self):
        gradients = [weight - 0.25 for weight in self.weights]
        optimizers.apply(self.optimizer, list(zip(gradients, self.weights, strict=True)))

    def steps(self, count, rate=0.02):
        self._steps(tf.constant(count), tf.constant(rate))
        return self

    def values(self):
        return [
            part.numpy()
            for variable in self.variables
            for part in self.strategy.experimental_local_results(variable)
        ]

    def restored(self, other):
        for variable, value in zip(self.variables, other.variables, strict=True):
            variable.assign(value.numpy())
        return self


def options(name="adamw", lookahead=False, decay=0.0, **others):
    return optimizers.OptimizerOptions(
        name, lookahead=lookahead, moving_average=decay, **{"learning_rate": 0.02, **others}
    )


def same(first, second):
    pairs = zip(first.values(), second.values(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lookahead", "decay"), ALL)
def test_a_run_that_is_resumed_continues_to_the_bit(name, lookahead, decay):
    how = options(name, lookahead, decay)
    half = Descent(how).steps(5)
    again = Descent(how).restored(half).steps(5, 0.03)
    assert not same(half, again)
    assert same(half.steps(5, 0.03), again)
    # Every variable has moved, so none was restored by being what it is at the start.
    still = [
        np.array_equal(a, b) for a, b in zip(Descent(how).values(), again.values(), strict=True)
    ]
    assert not any(still)


@pytest.mark.parametrize(("name", "lookahead", "decay"), ALL)
def test_it_goes_down(name, lookahead, decay):
    descent = Descent(options(name, lookahead, decay, weight_decay=0.001))
    far = sum(np.abs(weight.numpy() - 0.25).sum() for weight in descent.weights)
    descent.steps(150)
    near = sum(np.abs(weight.numpy() - 0.25).sum() for weight in descent.weights)
    assert near < far / 5


MIRRORED = """
import numpy as np
from models.training import optimizers
from records.common.backend import tf
from tests.models.training.optimizers_test import PLAIN_OR_BOTH, Descent, options, same

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for case in PLAIN_OR_BOTH:
    how = options(*case.values)
    half = Descent(how, two).steps(5)
    again = Descent(how, two).restored(half).steps(5, 0.03)
    resumed_alike = same(half.steps(5, 0.03), again)
    one = Descent(how).steps(5).steps(5, 0.03).values()
    as_one = all(np.array_equal(one[i // 2], v) for i, v in enumerate(again.values()))
    with optimizers.averaged(half.optimizer, half.weights):
        held = half.values()[1]  # by the second replica
    back = same(half, again)
    if how.moving_average:
        average = half.optimizer.get_slot(half.weights[0], "average").numpy()
        back = back and np.array_equal(held, average) and not np.array_equal(held, one[0])
    print(case.id, resumed_alike, as_one, back)
"""


@pytest.mark.slow
def test_two_replicas_resume_to_the_bit_and_as_one():
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], cwd=fakes.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = [f"{case.id} True True True" for case in PLAIN_OR_BOTH]
    assert done.stdout.split("\n")[:-1] == expected


@pytest.mark.parametrize(("name", "lookahead", "decay"), ALL)
def test_only_kernels_decay_and_by_the_rate(name, lookahead, decay):
    rate, decaying = 0.01, name in ("adamw", "lamb", "sgdw")
    without = Descent(options(name, lookahead, decay, weight_decay=0.0)).steps(1, rate)
    within = Descent(options(name, lookahead, decay, weight_decay=0.5)).steps(1, rate)
    pairs = zip(without.weights, within.weights, strict=True)
    kernel, bias = (one.numpy() - other.numpy() for one, other in pairs)
    assert not bias.any()
    assert kernel.any() == decaying
    if name in ("adamw", "sgdw"):
        start = Descent(options(name)).weights[0].numpy()
        np.testing.assert_allclose(kernel, rate * 0.5 * start, atol=1e-7)


@needs_addons
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "sgdw"])
def test_the_kind_that_is_wrapped_makes_the_steps_of_keras(name):
    plain, averaging = Descent(options(name)).steps(20), Descent(options(name, decay=0.9)).steps(20)
    for one, other in zip(plain.weights, averaging.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@needs_addons
def test_sgdw_makes_the_steps_of_version_0_5():
    """Then it came from TensorFlow Addons; its checkpoints are resumed by Keras' own."""
    reference = addons.load("a test").optimizers.SGDW(
        0.05 * 0.02, learning_rate=0.02, momentum=0.9, nesterov=True
    )
    kernel = tf.Variable(Descent(options()).weights[0], name="dense/kernel")
    for _ in range(20):
        reference.apply_gradients([(kernel - 0.25, kernel)])
    found = Descent(options("sgdw", weight_decay=0.05)).steps(20)
    np.testing.assert_allclose(found.weights[0], kernel, rtol=1e-6)
    assert [v.shape for v in found.variables[2:4]] == [v.shape for v in reference.weights]


def test_sgdw_without_momentum_saves_no_momenta():
    assert len(Descent(options("sgdw", momentum=0.0)).variables) == 3  # two weights, and a count


@needs_addons
def test_slow_weights_begin_as_the_weights_and_take_half_of_six_steps_back():
    start = Descent(options("sgd"))
    plain = [Descent(options("sgd")).steps(count).weights[0].numpy() for count in (5, 6)]
    ahead = Descent(options("sgd", lookahead=True)).steps(5)
    np.testing.assert_allclose(ahead.weights[0], plain[0], rtol=1e-6)
    half = (start.weights[0].numpy() + plain[1]) / 2
    np.testing.assert_allclose(ahead.steps(1).weights[0], half, rtol=1e-5)


@needs_addons
def test_an_adam_within_two_wrappers_counts_its_steps():
    both = Descent(options("adam", lookahead=True, decay=0.9)).steps(20)
    ahead = Descent(options("adam", lookahead=True)).steps(20)
    np.testing.assert_array_equal(both.weights[0], ahead.weights[0])
    assert not np.allclose(ahead.weights[0], Descent(options("adam")).steps(20).weights[0])


@needs_addons
@pytest.mark.parametrize("lookahead", [False, True])
def test_the_average_is_held_within_and_the_weights_are_back_after(lookahead):
    descent, decay = Descent(options("sgd", lookahead, 0.5)), 0.5
    expected = descent.weights[0].numpy()
    for step in range(8):
        used = min(decay, (1 + step) / (10 + step))
        expected = used * expected + (1 - used) * descent.steps(1).weights[0].numpy()
    before = descent.values()
    with optimizers.averaged(descent.optimizer, descent.weights):
        np.testing.assert_allclose(descent.weights[0], expected, rtol=1e-5)
    for one, other in zip(before, descent.values(), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_addons
def test_the_weights_are_back_after_an_error():
    descent = Descent(options(decay=0.9)).steps(3)
    before = descent.values()
    with pytest.raises(RuntimeError), optimizers.averaged(descent.optimizer, descent.weights):
        raise RuntimeError
    np.testing.assert_array_equal(descent.weights[0], before[0])


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "sgdw"])
def test_without_an_average_nothing_changes(name):
    descent = Descent(options(name)).steps(3)
    before = descent.weights[0].numpy()
    with optimizers.averaged(descent.optimizer, descent.weights):
        np.testing.assert_array_equal(descent.weights[0], before)


@needs_addons
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_variables_of_mixed_precision_are_averaged_in_float32(precision):
    layer = keras.layers.Dense(2, dtype=precision)
    layer.build([None, 3])
    optimizer = optimizers.build(options(lookahead=True, decay=0.9))
    optimizers.create(optimizer, layer.trainable_variables)
    held = optimizers.variables(optimizer)
    assert {variable.dtype.name for variable in held} == {"float32", "int64"}
    slow = optimizer._optimizer.get_slot(layer.kernel, "slow")
    np.testing.assert_array_equal(slow, layer.kernel)


def rates(schedule, steps, **others):
    how = {"steps_per_epoch": 10, "epochs": 4, **others}
    return [optimizers.rate_at(schedule, 0.5, step, **how) for step in steps]


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (optimizers.ScheduleOptions("constant"), [0, 39, 40], [0.5, 0.5, 0.5]),
        (optimizers.ScheduleOptions("plateau"), [0, 39], [0.5, 0.5]),
        # Two warm-up steps of 40; half of the way down after 19 of the other 38.
        (optimizers.ScheduleOptions(), [0, 1, 2, 21, 40, 41], [0, 0.25, 0.5, 0.25, 0, 0]),
        (optimizers.ScheduleOptions(warmup=0.0), [0, 20, 40], [0.5, 0.25, 0]),
        (
            optimizers.ScheduleOptions("step", step_epochs=2, step_factor=0.1),
            [0, 19, 20, 39, 40],
            [0.5, 0.5, 0.05, 0.05, 0.005],
        ),
    ],
)
def test_rates_of_steps(schedule, steps, expected):
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-6, atol=1e-9)


def test_the_factor_of_a_plateau_multiplies():
    plateau = optimizers.ScheduleOptions("plateau")
    assert rates(plateau, [7], factor=0.25) == [np.float32(0.125)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_graph_and_plain_numbers_have_the_same_rate(name):
    schedule = optimizers.ScheduleOptions(name)
    how = {"steps_per_epoch": 97, "epochs": 30}

    @tf.function
    def in_graph(step, factor):
        return optimizers.rate_at(schedule, 0.002, step, factor=factor, **how)

    for step in range(0, 3000, 7):
        factor = 0.5 ** (step // 1000)
        found = in_graph(tf.constant(step, tf.int64), tf.constant(factor))
        plain = optimizers.rate_at(schedule, 0.002, step, factor=factor, **how)
        assert found.dtype == tf.float32
        assert plain.dtype == np.float32
        np.testing.assert_allclose(found, plain, rtol=2e-7)


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 0.99])
def test_cosine_is_that_of_keras(warmup):
    schedule = optimizers.ScheduleOptions(warmup=warmup)
    rising = min(round(warmup * 40), 39)
    reference = keras.optimizers.schedules.CosineDecay(
        0.0 if rising else 0.5, 40 - rising, warmup_target=0.5 if rising else None,
        warmup_steps=rising,
    )  # fmt: skip
    expected = [float(reference(step)) for step in range(41)]
    np.testing.assert_allclose(rates(schedule, range(41)), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(HAS_ADDONS, reason="it is about Pythons without TensorFlow Addons")
@pytest.mark.parametrize("others", [{"lookahead": True}, {"decay": 0.9}, {"name": "lamb"}])
def test_without_addons_the_choice_is_refused(others):
    with pytest.raises(addons.AddonsMissingError):
        optimizers.build(options(**others))
