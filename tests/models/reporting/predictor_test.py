"""Evaluation joins by row, so no order of batches can change a score."""

import pytest

from datapipe import pipeline
from datapipe.rows import host
from models.reporting import predictor
from records.common.backend import tf
from tests import fakes


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"dark": 40, "light": 30})


def by_brightness(images, training):
    """A perfect classifier of the fake classes: the light ones lie above 60."""
    light = tf.reduce_mean(images, [1, 2, 3]) * 255 > 60
    return tf.one_hot(tf.cast(light, tf.int32), 2) * 9


BY_BRIGHTNESS = predictor.Predictor(by_brightness)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_a_perfect_model_scores_1_even_when_the_loader_is_shuffled(records, batch_size):
    rows = host.load(records, "train", show_progress=False)
    dataset = pipeline.evaluation_dataset(rows, batch_size=batch_size)
    for ds in (dataset, dataset.shuffle(100, seed=1)):
        probabilities = BY_BRIGHTNESS.predict(ds, len(rows))
        table = predictor.table(records, "train", probabilities)
        assert table.confusion.tolist() == [[24, 0], [0, 18]]
        assert table.keys[5] == records.index("train").key(5)


@pytest.mark.parametrize("spoil", ["twice", "missing"])
def test_a_row_that_comes_twice_or_never_is_an_error(records, spoil):
    rows = host.load(records, "test", show_progress=False)
    dataset = pipeline.evaluation_dataset(rows, batch_size=5)
    wrong = dataset.concatenate(dataset.take(1)) if spoil == "twice" else dataset.skip(1)
    with pytest.raises(RuntimeError, match="5 of 14 rows were not evaluated exactly once"):
        BY_BRIGHTNESS.predict(wrong, len(rows))
