"""What the screen says of an epoch, its timing, and tables."""

import csv

import pytest

from models.training import logs

METRICS = {
    **{"epoch": 1, "loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 0.8},
    **{"val_macro_f1": 0.7, "val_named": 2},
}
TIMING = {"images_per_second": 1234.0, "waiting_for_input": 0.25}


def said(best=False, waiting=0.25, **metrics):
    timing = {**TIMING, "waiting_for_input": waiting}
    return list(logs.lines(logs.Epoch({**METRICS, **metrics}, timing, best), 30))


def test_a_line_has_training_validation_and_speed():
    assert said() == [
        "epoch   1/30  loss 0.5000  accuracy 0.7500  | validation: loss 0.2500  accuracy 0.8000"
        "  macro F1 0.7000  | 1,234 images/s, 25% waiting"
    ]


def test_the_best_epoch_so_far_is_marked():
    assert said(best=True)[0].endswith("25% waiting *")


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"val_named": 1}, "warning: all validation images are predicted as a single class (the"),
        ({"epoch": 2}, "training waits for input 25% of the time: python -m models.doctor_main"),
        ({"epoch": 2, "waiting": 0.05}, "for input 5% of the time: the network is the bottleneck"),
    ],
)
def test_what_can_still_be_changed_is_said_at_once(changes, warning):
    _, told = said(**changes)
    assert warning in told


def test_the_input_is_judged_once():
    assert len(said(epoch=1)) == len(said(epoch=3)) == 1


@pytest.fixture
def clock(monkeypatch):
    """Returns a list whose only number is the time."""
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "steps"), [(0.125, 4), (2.0, 1), (0.0009765625, 64)])
def test_a_call_takes_half_a_second(clock, seconds, steps):
    with logs.ProgressBar("epoch 1/1", 100, 0, show=False) as bar:
        assert bar.steps_per_call() == 1  # nothing is known yet
        for each in (10 * seconds, seconds):  # the first also compiles
            clock[0] += each
            bar.advance(1, 32, 0.0)
        assert bar.steps_per_call() == steps


def test_the_timing_of_an_epoch(clock):
    with logs.ProgressBar("epoch 1/1", 8, 0, show=False) as bar:
        for _ in range(2):
            clock[0] += 2.0
            bar.advance(4, 10, 0.5)
    assert bar.timing() == {
        **{"steps": 8, "seconds": 4.0, "images_per_second": 20.0, "waiting_for_input": 0.25}
    }


def test_a_table_is_replaced_whole(tmp_path):
    for count in (1, 2):
        lines = [{"epoch": epoch, "loss": 0.1 * epoch} for epoch in range(1, count + 1)]
        logs.write_csv(lines, str(tmp_path / "history.csv"))
    with open(tmp_path / "history.csv", encoding="utf-8") as file:
        assert [float(line["loss"]) for line in csv.DictReader(file)] == [0.1, 0.2]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
