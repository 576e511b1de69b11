"""Real, tiny trainings."""

import csv
import dataclasses
import os

import numpy as np
import pytest

from datapipe import pipeline
from datapipe.augment import presets
from datapipe.plan import sampling
from datapipe.rows import host
from models import run_files
from models.networks import transfer, zoo
from models.reporting import predictor as evaluation
from models.training import addons, distribution, loop, losses, monitor, optimizers
from records.common import targets
from records.common.backend import keras, tf
from tests import fakes

ADAM = optimizers.OptimizerOptions("adam", learning_rate=3e-3)
FAST = loop.TrainOptions(epochs=15, loss=losses.LossOptions(), optimizer=ADAM)
SHORT = dataclasses.replace(FAST, epochs=3, checkpoint_seconds=0, steps_per_execution=1)
VALUES = [name for name in monitor.MONITORS if name != "epoch"]
HOW = distribution.Runtime(tf.distribute.get_strategy(), "one", "float32", 0, 1, "one")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"dark": 60, "light": 30}, size=32)


@pytest.fixture(scope="module")
def rows(records):
    return {s: host.load(records, s, show_progress=False) for s in ("train", "validation")}


@pytest.fixture
def fit(records, rows, tmp_path):
    """Trains in the same folder each time it is called."""

    def run(train=FAST, change=lambda batch: batch, validate=None, how=HOW, folder=tmp_path):
        keras.utils.set_random_seed(0)
        labels, names = records.index("train").label, records.manifest.class_names
        balanced = targets.Target("balanced")
        plan = sampling.plan(labels, names, balanced, seed=0, batch_size=12)
        model = zoo.build("lenet", 2, (32, 32, 3))
        if train.unfreeze_epoch:
            transfer.freeze(model)

        def dataset(start_step, part):
            photo = presets.PRESETS["photo"]
            made = pipeline.training_dataset(rows["train"], plan, photo, start_step=start_step)
            return made.map(change)

        held_out = pipeline.evaluation_dataset(rows["validation"], batch_size=7)
        predictor = evaluation.Predictor(model)

        def measured():
            table = predictor.predict(held_out, len(rows["validation"]))
            return loop.validation_metrics(records.index("validation").label, table)

        data = loop.Input(
            dataset, plan.steps_per_epoch, 12, key=records.index("train").key, identity={"seed": 0}
        )
        trained = loop.fit(
            model,
            how,
            data,
            validate or measured,
            train,
            run_dir=str(folder),
            show_progress=False,
        )
        return model, trained

    return run


def test_the_loss_halves_and_the_folder_holds_the_run(fit, tmp_path):
    model, trained = fit()
    history = trained.history
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["val_accuracy"] > 0.9 and history[-1]["accuracy"] > 0.9
    with open(tmp_path / "history.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["val_loss"]) for line in lines] == [line["val_loss"] for line in history]
    loop.finish(str(tmp_path))
    names = ["best.weights.h5", "history.csv", "last.weights.h5", "tensorboard", "timing.csv"]
    assert sorted(os.listdir(tmp_path)) == names
    assert len(os.listdir(tmp_path / "tensorboard")) == 15
    again = zoo.build("lenet", 2, (32, 32, 3))
    again.load_weights(tmp_path / "last.weights.h5")
    for kept, loaded in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(kept, loaded)


class StopError(Exception):
    """Stands for the end of a process."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "at_save"),
    [("plain", 2), ("plain", 8), ("averaged", 8), ("thawed", 2), ("thawed", 8), ("float16", 8)],
)
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    fit, tmp_path, monkeypatch, kind, at_save
):
    train, how = SHORT, HOW
    if kind == "averaged":
        try:
            addons.load("lookahead")
        except addons.AddonsMissingError as error:
            pytest.skip(str(error))
        moving = dataclasses.replace(ADAM, lookahead=True, moving_average=0.9)
        train = dataclasses.replace(train, optimizer=moving)
    if kind == "thawed":
        train = dataclasses.replace(train, unfreeze_epoch=1)
    if kind == "float16":
        how = dataclasses.replace(HOW, precision="mixed_float16")
        keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        for name in ("calm", "stopped"):
            (tmp_path / name).mkdir()
        model, calm = fit(train, how=how, folder=tmp_path / "calm")
        save, saves = loop.checkpoints.save, []

        def counted(*arguments):
            save(*arguments)
            saves.append(1)
            if len(saves) == at_save:
                raise StopError

        monkeypatch.setattr(loop.checkpoints, "save", counted)
        with pytest.raises(StopError):
            fit(train, how=how, folder=tmp_path / "stopped")
        again, stopped = fit(train, how=how, folder=tmp_path / "stopped")
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert stopped.history == calm.history
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_it_resumes_from_the_checkpoint_before_a_damaged_one(fit, tmp_path, capsys):
    model, calm = fit(SHORT)
    folder = tmp_path / run_files.CHECKPOINTS
    newest = sorted(os.listdir(folder))[-1]
    (folder / newest).write_bytes((folder / newest).read_bytes()[:-1])
    again, repeated = fit(SHORT)
    said = capsys.readouterr().out
    assert f"{newest} is damaged" in said and "resuming at step 11 (2 epochs completed)" in said
    assert repeated == calm
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "cannot resume: seed was 0 when the training began and is 1 now"),
        ({"epochs": 4}, "epochs was 3"),
        ({"optimizer": optimizers.OptimizerOptions("sgd")}, "optimizer.name was 'adam'"),
    ],
)
def test_another_training_is_not_resumed(fit, change, said):
    fit(SHORT)
    with pytest.raises(loop.TrainingError, match=said):
        fit(dataclasses.replace(SHORT, **change))


@pytest.mark.slow
def test_what_changes_no_result_may_be_changed(fit):
    _, calm = fit(SHORT)
    other = dataclasses.replace(SHORT, checkpoint_seconds=9, steps_per_execution=5, max_skipped=1)
    assert fit(other)[1] == calm


def spoiled(rows):
    def change(batch):
        bad = tf.reduce_any(batch["row"][:, None] == tf.constant(rows, tf.int64), 1)
        return {**batch, "image": tf.where(bad[:, None, None, None], np.nan, batch["image"])}

    return change


@pytest.mark.slow
def test_rows_without_a_finite_loss_are_named_and_the_run_recovers(fit, records, capsys):
    _, trained = fit(FAST, spoiled([3]))
    key = records.index("train").key(3)
    assert set(trained.skipped) == {key} and trained.skipped[key] == trained.history[-1]["skipped"]
    assert f"(1 so far); offending rows: {key}" in capsys.readouterr().out
    assert trained.history[-1]["val_accuracy"] > 0.9


@pytest.mark.slow
def test_too_many_of_them_end_the_run(fit, records):
    few = dataclasses.replace(SHORT, max_skipped=2)
    said = r"^3 steps had a non-finite loss .*--max_skipped=2; offending rows: .*\.png .* more; try"
    with pytest.raises(loop.TrainingError, match=said):
        fit(few, spoiled(list(range(100))))


def test_a_validation_that_is_not_finite_stops_the_run(fit):
    found = {name: float("nan") for name in VALUES}
    with pytest.raises(loop.TrainingError, match="val_macro_f1 is nan in epoch 1"):
        fit(validate=lambda: found)


def scripted_accuracy(values):
    told = iter(values)
    return lambda: {name: value for value in [next(told)] for name in VALUES}


def scripted(values):
    told = iter(values)
    return lambda: {**dict.fromkeys(VALUES, 0.5), "val_loss": next(told)}


def test_an_epoch_is_on_disk_before_the_screen_tells(fit, tmp_path, monkeypatch):
    seen = []

    def lines(epoch, num_epochs):
        rows = (tmp_path / "history.csv").read_text("utf-8").splitlines()[1:]
        seen.append((epoch.best, len(rows), len(os.listdir(tmp_path / run_files.CHECKPOINTS))))
        return [f"epoch {len(rows)} of {num_epochs}"]

    monkeypatch.setattr(loop.logs, "lines", lines)
    fit(SHORT, validate=scripted_accuracy([0.5, 0.25, 0.75]))
    assert seen == [(True, 1, 2), (False, 2, 2), (True, 3, 2)]


def test_plateau_and_stopping_follow_the_script(fit):
    train = dataclasses.replace(
        SHORT,
        epochs=9,
        monitor="val_loss",
        stop_patience=4,
        schedule=optimizers.ScheduleOptions("plateau", plateau_patience=2),
    )
    _, trained = fit(train, validate=scripted([3, 2, 1, 2, 2, 2, 2, 2, 2]))
    assert len(trained.history) == 7
    rates = [line["learning_rate"] / 3e-3 for line in trained.history]
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 1, 0.5, 0.5], rtol=1e-6)


@pytest.mark.slow
def test_a_base_is_frozen_until_it_is_time(fit, monkeypatch):
    made, build = [], zoo.build
    monkeypatch.setattr(zoo, "build", lambda *given: made.append(build(*given)) or made[-1])
    base = []

    def validate():
        base.append([weight.numpy() for weight in transfer.base_variables(made[-1])])
        return dict.fromkeys(VALUES, 0.5)

    _, trained = fit(dataclasses.replace(SHORT, unfreeze_epoch=2), validate=validate)
    for first, second, third in zip(*base, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(second, third)
    rates = [line["learning_rate"] for line in trained.history]
    assert rates[2] < rates[1] / 10


def test_a_model_of_another_range_is_refused(fit, monkeypatch):
    layers = [keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    scaled = keras.Sequential([*layers, keras.layers.Dense(2)])
    monkeypatch.setattr(zoo, "build", lambda *_: scaled)
    with pytest.raises(ValueError, match=r"expects images in 0\.\.255, got 0\.\.1"):
        fit()
