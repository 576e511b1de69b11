"""Real, tiny trainings."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from datapipe import options, pipeline, resident, sampling
from models import addons, evaluation, training, zoo
from records.backend import keras, tf
from tests import fakes

FAST = training.TrainOptions(epochs=15, learning_rate=3e-3, label_smoothing=0.0)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"dark": 60, "light": 30}, size=32)


@pytest.fixture(scope="module")
def rows(records):
    return {s: resident.load(records, s, show_progress=False) for s in ("train", "validation")}


def fit(records, rows, run_dir, train=FAST, change=lambda batch: batch):
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.get_strategy()
    target = options.Target("balanced")
    labels, names = records.index("train").label, records.manifest.class_names
    plan = sampling.plan(labels, names, target, seed=0, batch_size=18)
    with strategy.scope():
        model = zoo.MODELS["lenet"](2, (32, 32, 3))

    def dataset(replica, num_replicas):
        none = options.PRESETS["none"]
        return pipeline.training_dataset(rows["train"], plan, none).map(change)

    held_out = pipeline.evaluation_dataset(rows["validation"], batch_size=7)
    probabilities = evaluation.predictor(model)

    def validate():
        table = evaluation.predict(probabilities, held_out, len(rows["validation"]))
        return training.validation_metrics(records.index("validation").label, table)

    data = training.Input(dataset, plan.steps_per_epoch, plan.batch_size)
    history, best_epoch = training.fit(
        model, strategy, data, validate, train, run_dir=str(run_dir), show_progress=False
    )
    assert history[best_epoch - 1] == max(reversed(history), key=lambda x: x[train.monitor])
    return model, history


def test_the_loss_halves_and_the_folder_holds_the_run(records, rows, tmp_path):
    model, history = fit(records, rows, tmp_path)
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["val_accuracy"] > 0.9
    assert history[-1]["accuracy"] > 0.9
    with open(tmp_path / "history.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["val_loss"]) for line in lines] == [line["val_loss"] for line in history]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.weights.h5",
        "history.csv",
        "last.weights.h5",
    ]
    again = zoo.MODELS["lenet"](2, (32, 32, 3))
    again.load_weights(tmp_path / "last.weights.h5")
    for kept, loaded in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(kept, loaded)


def test_a_seed_repeats_a_run_to_the_bit(records, rows, tmp_path):
    histories = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        _, history = fit(records, rows, tmp_path / name)
        histories.append([{**line, "images_per_second": 0} for line in history])
    assert histories[0] == histories[1]


def test_a_loss_that_is_not_finite_stops_the_run(records, rows, tmp_path):
    def spoil(batch):
        return {**batch, "weight": batch["weight"] * float("nan")}

    with pytest.raises(training.TrainingError, match=r"^loss is nan in epoch 1"):
        fit(records, rows, tmp_path, change=spoil)


def test_a_validation_that_is_not_finite_stops_the_run(records, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(training.metrics, "log_loss", lambda *_: float("nan"))
    train = training.TrainOptions(epochs=1, monitor="val_loss")
    with pytest.raises(training.TrainingError, match="val_loss is nan in epoch 1"):
        fit(records, rows, tmp_path, train)


def test_weights_of_a_run_before_do_not_stay(records, rows, tmp_path, monkeypatch):
    (tmp_path / training.BEST).write_bytes(b"old")
    monkeypatch.setattr(training.metrics, "log_loss", lambda *_: float("nan"))
    with pytest.raises(training.TrainingError):
        fit(records, rows, tmp_path, training.TrainOptions(epochs=1, monitor="val_loss"))
    assert not (tmp_path / training.BEST).exists()


def test_rows_of_weight_zero_do_not_train(records, rows, tmp_path):
    def mute(batch):
        return {**batch, "weight": tf.zeros_like(batch["weight"])}

    train = training.TrainOptions(epochs=1, optimizer="sgd")
    model, history = fit(records, rows, tmp_path, train, change=mute)
    keras.utils.set_random_seed(0)
    untrained = zoo.MODELS["lenet"](2, (32, 32, 3))
    assert history[0]["loss"] == 0
    for before, after in zip(untrained.weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, after)


REPLICAS = """
import json, sys, tempfile
from models import runtime, training
replicas = int(sys.argv[1])
how = runtime.configure(strategy="mirrored" if replicas > 1 else "one", precision="float32",
                        seed=0, cpu_devices=replicas)
from records.backend import keras, tf
with how.strategy.scope():
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
images = tf.random.stateless_uniform([240, 4, 4, 3], [0, 1])
labels = tf.cast(tf.argmax(tf.reduce_sum(images, [1, 2]), 1), tf.int32)
def dataset(replica, num_replicas):
    batch = {"image": images, "label": labels, "weight": tf.ones([240]) * 0.5}
    ds = tf.data.Dataset.from_tensor_slices(batch).repeat()
    ds = ds.batch(24 // num_replicas, drop_remainder=True)
    return ds.shard(num_replicas, replica)
with tempfile.TemporaryDirectory() as folder:
    history, _ = training.fit(model, how.strategy, training.Input(dataset, 10, 24),
        lambda: {"val_loss": 1, "val_accuracy": 1, "val_macro_f1": 1},
        training.TrainOptions(epochs=5), run_dir=folder, show_progress=False)
    print(json.dumps([[line["loss"], line["accuracy"]] for line in history]), file=sys.stderr)
"""


def test_the_loss_does_not_depend_on_the_number_of_replicas():
    found = []
    for replicas in (1, 2, 4):
        command = [sys.executable, "-c", REPLICAS, str(replicas)]
        done = subprocess.run(command, cwd=fakes.ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stderr))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


def test_lamb_leaves_biases_alone():
    try:
        lamb = training.optimizer(training.TrainOptions(optimizer="lamb", schedule="constant"), 9)
    except addons.AddonsMissingError as error:
        pytest.skip(str(error))
    bias = tf.Variable([1.0, 2.0], name="dense/bias")
    kernel = tf.Variable([1.0, 2.0], name="dense/kernel")
    lamb.apply_gradients([(tf.zeros(2), bias), (tf.zeros(2), kernel)])
    np.testing.assert_array_equal(bias, [1, 2])
    assert (kernel.numpy() != [1, 2]).all()


def test_a_warm_up_over_all_steps_is_not_a_nan():
    rate = training.learning_rate(training.TrainOptions(warmup=0.9), 1)
    assert np.isfinite(float(rate(0))) and np.isfinite(float(rate(1)))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_cosine_warms_up_and_ends_at_zero(name):
    given = training.TrainOptions(optimizer=name, learning_rate=0.1, warmup=0.1)
    rate = training.optimizer(given, 100)._learning_rate
    values = [float(rate(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(values, [0, 0.05, 0.1, 0.05, 0], atol=1e-6)


def test_constant_stays():
    given = training.TrainOptions(schedule="constant", learning_rate=0.1)
    assert training.learning_rate(given, 100) == 0.1


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("mixed", [False, True])
def test_loss_and_accuracy_of_a_compiled_model_by_hand(classes, mixed):
    draws = np.random.default_rng(0)
    logits, labels = draws.normal(size=(40, classes)), draws.integers(0, classes, 40)
    given = np.eye(classes)[labels] * 0.7 + 0.3 / classes if mixed else labels
    inputs = keras.Input((classes,))
    model = training.compiled(
        keras.Model(inputs, keras.layers.Activation("linear")(inputs)),
        tf.distribute.get_strategy(),
        training.TrainOptions(optimizer="sgd", label_smoothing=0.0),
        total_steps=2,
    )
    given = given.astype(np.float32 if mixed else np.int32)
    loss, accuracy = model.evaluate(logits, given, batch_size=20, verbose=0)
    log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = given if mixed else np.eye(classes)[labels]
    np.testing.assert_allclose(loss, -(wanted * log_share).sum(1).mean(), rtol=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).mean())


def test_cross_entropy_by_hand():
    logits = tf.constant([[2.0, 0.0], [0.0, 0.0]])
    labels = tf.constant([0, 1])
    plain = training.CrossEntropy().call(labels, logits).numpy()
    np.testing.assert_allclose(plain, [np.log1p(np.exp(-2)), np.log(2)], rtol=1e-6)
    smooth = training.CrossEntropy(0.1).call(labels, logits).numpy()
    np.testing.assert_allclose(smooth[0], plain[0] + 0.05 * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adagrad"}, "optimizer must be one of .*, got 'adagrad'"),
        ({"monitor": "val_f1"}, "monitor must be one of .*, got 'val_f1'"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"weight_decay": float("nan")}, "weight_decay must be 0 or more, got nan"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\), got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more, got -1.0"),
    ],
)
def test_wrong_options_are_refused_before_the_first_step(fields, message):
    with pytest.raises(ValueError, match=message):
        training.TrainOptions(**fields)
