"""Tables of histories, and Keras' own callbacks as the reference."""

import numpy as np
import pytest

from models.training import monitor as decisions
from records.common.backend import keras

NAN, INF = float("nan"), float("inf")


def history(values, monitor="val_loss"):
    return [{"epoch": number, monitor: value} for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val_loss", [], 0),
        ("val_loss", [3, 1, 2], 2),
        ("val_loss", [3, 1, 2, 1, 4], 4),  # the later of equal ones
        ("val_accuracy", [0.1, 0.9, 0.9, 0.3], 3),
        ("val_macro_f1", [0, 0], 2),
        ("val_balanced_accuracy", [0.5, 0.4], 1),
        ("val_loss", [NAN, 2, NAN], 2),
        ("val_accuracy", [0.2, NAN], 1),
        ("val_loss", [NAN, NAN], 0),
    ],
)
def test_best_epoch(monitor, values, best):
    assert decisions.best_epoch(history(values, monitor), monitor) == best


@pytest.mark.parametrize(
    ("values", "patience", "stopped"),
    [
        ([], 1, False),
        ([5], 1, False),
        ([5, 5], 1, True),  # an equal value is no better one
        ([5, 4, 6, 6], 3, False),
        ([5, 4, 6, 6, 4], 3, True),
        ([5, 4, 6, 6, 3], 3, False),
        ([5, NAN, NAN], 2, True),
        ([5] * 100, 0, False),  # never
    ],
)
def test_stops(values, patience, stopped):
    assert decisions.stops(history(values), "val_loss", patience) is stopped


def test_a_scripted_loss_stops_ten_epochs_after_its_best():
    losses = [1.0, 0.8, 0.6, 0.4, 0.5, 0.45, 0.4, *[0.5] * 20]
    stopped = [decisions.stops(history(losses[:n]), "val_loss", 10) for n in range(len(losses) + 1)]
    assert stopped.index(True) == 4 + 10


def test_a_plateau_halves_the_rate_again_and_again_and_a_better_value_begins_anew():
    losses = [1.0, 0.5, *[0.6] * 11, 0.4, *[0.7] * 5]
    factors = [decisions.plateau_factor(history(losses[:n]), "val_loss", 5, 0.5) for n in range(20)]
    assert [factors[n] for n in (0, 2, 6, 7, 11, 12, 13, 14, 18, 19)] == [
        *(1, 1, 1, 0.5),  # the best is epoch 2
        *(0.5, 0.25, 0.25, 0.25),  # epoch 14 is better: nothing is taken back
        *(0.25, 0.125),
    ]


def scripted(callback, values, monitor):
    """Returns rate and whether training was stopped after each epoch of a Keras callback."""
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    model.optimizer, model.stop_training = keras.optimizers.SGD(1.0), False
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {monitor: value})
        yield float(model.optimizer.lr.numpy()), model.stop_training


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("val_accuracy", "max")])
def test_they_decide_as_keras_does(seed, monitor, mode):
    values = np.random.default_rng(seed).integers(0, 12, 30).astype(float)
    values[0] = 6  # from a middling start, so that some epochs are better
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor, factor=0.5, patience=2, mode=mode, min_delta=0
    )
    stopping = keras.callbacks.EarlyStopping(monitor, patience=4, mode=mode)
    rates = [rate for rate, _ in scripted(plateau, values, monitor)]
    stopped = [stop for _, stop in scripted(stopping, values, monitor)]
    lines = [history(values[:n], monitor) for n in range(1, 31)]
    assert [decisions.plateau_factor(part, monitor, 2, 0.5) for part in lines] == rates
    assert decisions.stops(lines[stopped.index(True)], monitor, 4)
    assert not any(decisions.stops(part, monitor, 4) for part in lines[: stopped.index(True)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decisions.check_monitor("loss"), "monitor must be one of .*, got 'loss'"),
        (lambda: decisions.best_epoch([], "f1"), "monitor must be one of .*val_macro_f1"),
        (lambda: decisions.stops([], "val_loss", -1), "patience must be at least 0, got -1"),
        (lambda: decisions.plateau_factor([], "val_loss", 0, 0.5), "patience must be at least 1"),
        (
            lambda: decisions.plateau_factor([], "val_loss", 1, 0.0),
            "factor must be above 0 and finite, got 0",
        ),
        (lambda: decisions.plateau_factor([], "val_loss", 1, INF), "factor must be above 0"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
