"""One check for every network, and the parameter counts that papers and reports state."""

import numpy as np
import pytest

from models.networks import dropout, input_range, zoo
from models.training import losses, optimizers
from models.training import step as train_step
from records.common.backend import keras, tf

SHAPE = (64, 64, 3)
PARAMETERS = {  # for two classes
    "convnet": 489_834,
    "lenet": 176_290,
    "baseline20": 7_430_658,
    "resnet_bottleneck": 19_915_202,
    "googlenet": 5_997_442,
    "squeezenet": 723_522,
    "vgg16": 14_718_786,
    "vgg19": 20_028_482,
    "resnet50": 23_591_810,
    "efficientnet": 4_052_126,
    "mobilenet": 2_260_546,
}
LIMITS = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}


def seeded(name):
    keras.utils.set_random_seed(7)
    return zoo.build(name, 2, SHAPE)


def random_images(name):
    low, high = LIMITS[zoo.MODELS[name].input_range]
    return tf.random.stateless_uniform([3, *SHAPE], [0, 1], low, high)


@pytest.fixture(scope="module", params=zoo.MODELS)
def model(request):
    return seeded(request.param)


@pytest.fixture
def policy(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy("float32")


def test_logits_and_size(model):
    logits = model(random_images(model.name), training=False)
    assert logits.shape == (3, 2) and logits.dtype == tf.float32
    assert np.isfinite(logits).all() and np.ptp(logits, axis=0).all()
    assert model.layers[-1].name == "logits"
    assert model.count_params() == PARAMETERS[model.name]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"], indirect=True)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_logits_of_half_precision(name, policy):
    model = zoo.build(name, 2, SHAPE)
    logits = model(random_images(name), training=False)
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()
    assert {variable.dtype for variable in model.variables} == {tf.float32}
    assert model.layers[-2].output.dtype == policy.removeprefix("mixed_")


@pytest.mark.slow
def test_a_seed_gives_one_model_and_its_weights_come_back(model, tmp_path):
    again = seeded(model.name)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)
        other.assign(tf.zeros_like(other))
    model.save_weights(tmp_path / "w.weights.h5")
    again.load_weights(tmp_path / "w.weights.h5")
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_takes_its_own_range_and_no_other(model):
    declared = zoo.MODELS[model.name].input_range
    input_range.check(model, declared, declared=declared)
    for other in set(input_range.RANGES) - {declared}:
        with pytest.raises(ValueError, match=f"{declared}, got {other}"):
            input_range.check(model, other, declared=declared)


def test_layers_that_depend_on_keras_seeds_or_on_replicas_are_ours(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            assert type(layer) is dropout.Dropout
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.momentum == 0.9 and not layer._bessels_correction_test_only
    dropout.check(model)


@pytest.mark.slow
def test_it_trains_and_a_step_can_be_repeated_to_the_bit(model):
    images = tf.random.stateless_uniform([4, *model.input_shape[1:]], [0, 1])
    batch = {
        "image": images,
        "label": tf.constant([0, 1, 1, 0]),
        "weight": tf.ones(4),
        "row": tf.range(4, dtype=tf.int64),
    }
    weights, found = model.get_weights(), []
    step = train_step.TrainStep(
        model,
        tf.distribute.get_strategy(),
        loss=losses.LossOptions(),
        optimizer=optimizers.OptimizerOptions("sgd"),
        rate=lambda step, factor: 1e-3 * factor,
        batch_size=4,
    )
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    begun = [variable.numpy() for variable in step.variables]
    for _ in range(2):  # by one step: to compile the large networks is what takes the time
        for variable, value in zip(step.variables, begun, strict=True):
            variable.assign(value)
        state, _, _ = step.run(batches, train_step.initial_state("float32"), 2)
        found.append([state.loss, *model.get_weights()])
    assert state.steps == 2
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    model.set_weights(weights)


def test_the_head_stands_at_the_end(model):
    head = [layer.name.startswith("head") or layer.name == "logits" for layer in model.layers]
    assert head == sorted(head) and 1 < sum(head) < len(head)


@pytest.mark.parametrize(
    ("name", "size", "outputs", "options", "parameters"),
    [
        ("lenet", 150, 1, {}, 1_212_513),
        ("lenet", 64, 1, {"pooling": "min"}, 176_225),
        ("lenet", 64, 1, {"batch_norm": True}, 176_225 + 3 * 128),
        ("baseline20", 224, 20, {}, 99_190_292),
        ("vgg16", 224, 20, {"head": "deep"}, 14_714_688 + 130_055_188),
        # As published, with the 1,000 classes of ImageNet:
        ("googlenet", 224, 1000, {"batch_norm": False}, 6_998_552),
        ("squeezenet", 224, 1000, {}, 1_235_496),
    ],
)
def test_published_parameter_counts(name, size, outputs, options, parameters):
    with tf.Graph().as_default():  # where variables take no memory
        model = zoo.build(name, outputs, (size, size, 3), **options)
    assert model.count_params() == parameters


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("vgg99", 2, SHAPE), {}, "model must be one of convnet, lenet, .*, got 'vgg99'"),
        (("convnet", 0, SHAPE), {}, "num_classes must be at least 1, got 0"),
        (("convnet", 2, SHAPE), {"head": "gap"}, "convnet has no option 'head'; .* dropout$"),
        (("convnet", 2, SHAPE), {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        (("lenet", 2, SHAPE), {"dropout": -0.1}, r"dropout must lie in \[0, 1\), got -0.1"),
        (("baseline20", 2, SHAPE), {"dropout": 2}, r"dropout must lie in \[0, 1\), got 2"),
        (("lenet", 2, SHAPE), {"pooling": "sum"}, "pooling must be one of max, average, min, got"),
        (
            ("vgg16", 2, SHAPE),
            {"head": "top"},
            "head must be one of gap, linear, mlp, flatten, deep, got 'top'",
        ),
        (("squeezenet", 2, (64, 64, 1)), {}, "squeezenet takes images of 3 channels, got 1"),
        (("vgg19", 2, (64, 64, 4)), {}, "vgg19 takes images of 3 channels, got 4"),
        (("mobilenet", 2, (64, 64, 1)), {}, "mobilenet takes images of 3 channels, got 1"),
    ],
)
def test_wrong_values_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(*arguments, **options)


SMALLEST = {"convnet": 16, "lenet": 22, "baseline20": 6, "resnet_bottleneck": 16, "squeezenet": 31}


@pytest.mark.parametrize(("name", "size"), SMALLEST.items())
def test_the_smallest_images(name, size):
    assert zoo.build(name, 2, (size, size, 3)).output_shape == (None, 2)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_smaller_images_are_refused(name):
    size = SMALLEST.get(name, 32)
    with pytest.raises(
        ValueError, match=f"{name} takes images of at least {size} pixels, got {size - 1}"
    ):
        zoo.build(name, 2, (99, size - 1, 3))


def test_options_that_are_none_are_left_out():
    assert zoo.options_of("lenet") == ("pooling", "dropout", "batch_norm")
    model = zoo.build("lenet", 2, SHAPE, head=None, pooling=None, dropout=0.1)
    assert model.get_layer("head_dropout").rate == 0.1


def test_a_range_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"input_range must be one of .*, got '0..2'"):
        zoo.Network(zoo.MODELS["lenet"].build, "0..2")
