"""Real, tiny trainings."""

import csv

import numpy as np
import pytest

from datapipe import options, pipeline, resident, sampling
from models import evaluation, training, zoo
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
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    target = options.Target("balanced")
    labels, names = records.index("train").label, records.manifest.class_names
    plan = sampling.plan(labels, names, target, seed=0, batch_size=18)
    with strategy.scope():
        model = zoo.MODELS["lenet"](2, (32, 32, 3))

    def dataset(replica, num_replicas, pieces):
        none = options.PRESETS["none"]
        return pipeline.training_dataset(rows["train"], plan, none).map(change)

    held_out = pipeline.evaluation_dataset(rows["validation"], batch_size=7)
    probabilities = evaluation.predictor(model)

    def validate(_):
        table = evaluation.predict(probabilities, held_out, len(rows["validation"]))
        return training.validation_metrics(records.index("validation").label, table)

    data = training.Input(dataset, plan.steps_per_epoch, plan.batch_size)
    history = training.fit(
        model, strategy, data, validate, train, run_dir=str(run_dir), show_progress=False
    )
    return model, history


def test_the_loss_halves_and_the_folder_holds_the_run(records, rows, tmp_path):
    model, history = fit(records, rows, tmp_path)
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["val_accuracy"] > 0.9
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

    with pytest.raises(training.TrainingError, match="the loss is nan in epoch 1"):
        fit(records, rows, tmp_path, change=spoil)


def test_rows_of_weight_zero_do_not_train(records, rows, tmp_path):
    def mute(batch):
        return {**batch, "weight": tf.zeros_like(batch["weight"])}

    _, history = fit(records, rows, tmp_path, training.TrainOptions(epochs=1), change=mute)
    assert history[0]["loss"] == 0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_cosine_warms_up_and_ends_at_zero(name):
    given = training.TrainOptions(optimizer=name, learning_rate=0.1, warmup=0.1)
    rate = training.optimizer(given, 100)._learning_rate
    values = [float(rate(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(values, [0, 0.05, 0.1, 0.05, 0], atol=1e-6)


def test_constant_stays():
    given = training.TrainOptions(schedule="constant", learning_rate=0.1)
    assert training.learning_rate(given, 100) == 0.1


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
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\), got 1.0"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more, got -1.0"),
    ],
)
def test_wrong_options_are_refused_before_the_first_step(fields, message):
    with pytest.raises(ValueError, match=message):
        training.TrainOptions(**fields)
