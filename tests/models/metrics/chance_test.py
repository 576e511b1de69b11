"""Published and made-up tables: what chance would give, and what it did not."""

import numpy as np
import pytest

from models.metrics import chance, confusion

# A published study on face masks: TN, FP / FN, TP of 10,800 images.
MASKS = np.array([[2713, 2687], [2662, 2738]])


def test_the_published_predictions_are_consistent_with_unrelated_ones():
    found = chance.levels(MASKS)
    assert found.verdict == chance.UNRELATED and f"{found.z:.2f}" == "0.98"
    assert found.majority_share == 0.5 == found.prior_matched.value
    assert found.unrelated.low < 0.5047222 < found.unrelated.high
    # Hits have a standard deviation of 52 there: twice that of the hits of one class, 26.
    assert (found.unrelated.high - 0.5) * 10_800 == pytest.approx(1.96 * 52, rel=0.01)


@pytest.mark.parametrize(
    ("matrix", "verdict"),
    [
        ([[50, 0], [0, 50]], chance.RELATED),
        ([[0, 7], [7, 0]], chance.WORSE),
        ([[0, 50], [50, 0]], chance.SWAPPED),
        ([[97, 3], [0, 0]], chance.ONE_CLASS),
        ([[60, 0], [40, 0]], chance.UNRELATED),  # one class for all
        ([[31, 19], [19, 31]], chance.BARELY),
        ([[1, 0], [0, 1]], chance.UNRELATED),
        ([[1]], chance.ONE_CLASS),
    ],
)
def test_verdicts(matrix, verdict):
    assert chance.levels(np.array(matrix)).verdict == verdict


def test_ranges_are_what_guessing_shows():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    predicted = rng.permutation(np.repeat([0, 1, 2], [20, 30, 50]))
    found = chance.levels(confusion.confusion(labels, predicted, 3))
    guessed = [(labels == rng.choice(3, 100, p=[0.6, 0.3, 0.1])).mean() for _ in range(5000)]
    dealt = [(labels == rng.permutation(predicted)).mean() for _ in range(5000)]
    for guess, shown in ((found.prior_matched, guessed), (found.unrelated, dealt)):
        assert guess.value == pytest.approx(np.mean(shown), abs=0.005)
        assert (guess.high - guess.low) / 3.92 == pytest.approx(np.std(shown), rel=0.05)


@pytest.mark.parametrize(
    ("matrix", "pairs"),
    [
        ([[90, 10], [10, 90]], []),
        ([[10, 90], [80, 20]], [(0, 1), (1, 0)]),
        ([[90, 5, 5], [2, 8, 90], [3, 85, 12]], [(1, 2), (2, 1)]),
        ([[4, 6], [6, 4]], []),  # luck
        ([[50, 0, 0], [0, 0, 0], [0, 0, 50]], []),  # a class that is not there
        ([[60, 0], [40, 0]], []),  # one class for all is no swap
        ([[0, 60], [0, 60]], []),
        ([[0, 30, 0], [0, 200, 0], [0, 500, 0]], []),
        ([[0, 60, 0], [0, 0, 70], [80, 0, 0]], [(0, 1), (1, 2), (2, 0)]),
        ([[0, 0, 0], [60, 0, 0], [30, 0, 0]], []),  # all called a class that is not there
        ([[0, 60, 0, 0], [60, 0, 0, 0], [0, 0, 0, 60], [0, 0, 0, 60]], [(0, 1), (1, 0)]),
    ],
)
def test_swapped_names_are_told(matrix, pairs):
    assert chance.swapped(np.array(matrix)) == tuple(pairs)


def test_chance_z_is_what_shuffling_shows():
    matrix = np.array([[30, 5, 5], [10, 20, 10], [0, 5, 15]])
    labels = np.repeat(np.arange(3), matrix.sum(1))
    predicted = np.concatenate([np.repeat(np.arange(3), row) for row in matrix])
    rng = np.random.default_rng(0)
    hits = [(labels == rng.permutation(predicted)).sum() for _ in range(20_000)]
    expected = (np.trace(matrix) - np.mean(hits)) / np.std(hits)
    np.testing.assert_allclose(chance.z_of(matrix), expected, rtol=0.02)


def test_a_collapsed_model_has_no_z():
    assert chance.z_of(np.array([[60, 0], [40, 0]])) == 0


@pytest.mark.parametrize("size", [7, 50])
def test_answers_of_a_group_are_one_answer(size):
    rng, zs = np.random.default_rng(0), []
    for _ in range(300):
        labels, predicted = (np.repeat(rng.integers(0, 2, 12), size) for _ in range(2))
        images = confusion.Images(labels, predicted, np.repeat(np.arange(12), size))
        zs.append(chance.z_of(confusion.confusion(labels, predicted, 2), images))
    assert np.mean(np.abs(zs) > 1.96) < 0.08 and np.mean(np.abs(zs) > 3) < 0.01
