"""The threshold beside a search of all there are."""

import numpy as np
import pytest

from models.metrics import confusion, threshold
from models.metrics.table import Table


def table(labels, probability, name=""):
    values = np.stack([1 - np.asarray(probability), probability], 1).astype(np.float32)
    keys = tuple(f"{name}{number}" for number in range(len(values)))
    groups = np.arange(len(values))
    return Table(keys, ("",) * len(keys), groups, np.asarray(labels, np.int32), values)


def macro_f1(labels, probability, value):
    return confusion.macro_f1_of(confusion.confusion(labels, np.int64(probability >= value), 2))


@pytest.mark.parametrize("seed", range(8))
def test_no_other_threshold_is_better(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    probability = (rng.beta(2, 2, 60) * 0.8 + labels * 0.1).round(1 + seed % 3)  # with equal ones
    value, score = threshold.best(labels, probability)
    assert macro_f1(labels, probability, value) == pytest.approx(score)
    others = [macro_f1(labels, probability, other) for other in np.linspace(-0.01, 1.01, 2000)]
    assert score == pytest.approx(max(others))


@pytest.mark.parametrize(
    ("labels", "probability", "value"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 0.25),
        ([0, 1], [0.4, 0.8], 0.6),
        ([0, 0], [0.2, 0.4], 0.7),  # above all: the only class is never missed
        ([1], [0.3], 0.15),
    ],
)
def test_it_lies_halfway(labels, probability, value):
    assert threshold.best(np.array(labels), np.array(probability))[0] == pytest.approx(value)


def test_it_is_chosen_on_other_images_than_it_is_used_on():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    probability = np.clip(labels * 0.3 + rng.normal(0.1, 0.08, 400), 0, 1)
    found = threshold.chosen(
        table(labels[:200], probability[:200], "v"), table(labels[200:], probability[200:], "t")
    )
    assert 0.15 < found.value < 0.35 and found.chosen_on == 200
    assert np.sum(found.confusion) == 200
    plain = confusion.scores(
        confusion.confusion(labels[200:], np.int64(probability[200:] > 0.5), 2)
    )
    assert found.scores["macro_f1"].low > plain["macro_f1"].high


@pytest.mark.parametrize(
    ("label", "probability", "named"), [(0, 1.0, 0), (1, 0.0, 1), (0, 0.0, 0), (1, 1.0, 1)]
)
def test_what_is_certain_can_be_wrong(label, probability, named):
    chosen = threshold.chosen(
        table([label], [probability], "v"), table([label], [probability], "t")
    )
    assert np.array(chosen.confusion)[label, named] == 1


def test_images_in_both_are_refused():
    with pytest.raises(ValueError, match=r"3 are in both sets, such as '0'"):
        threshold.chosen(table([0, 1, 0], [0.1, 0.9, 0.2]), table([0, 1, 0], [0.1, 0.9, 0.2]))
