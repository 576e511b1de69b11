"""Model and dataset to a table of predictions, joined by row, so that order cannot matter."""

import dataclasses
import os
from collections.abc import Callable

import numpy as np

from models import metrics
from records.backend import keras, tf
from records.record_set import RecordSet


@dataclasses.dataclass(frozen=True)
class Table:
    """One line for each evaluated image.

    Attributes:
        keys: source paths.
        domains: names, empty where there is only one.
        labels: int [n].
        probabilities: float32 [n, classes].
    """

    keys: tuple[str, ...]
    domains: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64 [n]."""
        return self.probabilities.argmax(1)

    @property
    def confusion(self) -> np.ndarray:
        """Integer counts, [true, predicted]."""
        return metrics.confusion(self.labels, self.predicted, self.probabilities.shape[1])


def predictor(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function from images [n, size, size, 3] in 0..1 to probabilities [n, classes]."""

    @tf.function
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(model(images, training=False))

    return probabilities


def predict(
    probabilities: Callable[[tf.Tensor], tf.Tensor], dataset: tf.data.Dataset, num_rows: int
) -> np.ndarray:
    """Returns the class probabilities of every row, float32 [num_rows, classes].

    Raises:
        RuntimeError: if a row of the dataset came twice or never.
    """
    result, seen = np.empty(0), np.zeros(num_rows, np.int64)
    for batch in dataset:
        real = batch["weight"].numpy() > 0
        rows = batch["row"].numpy()[real]
        values = probabilities(batch["image"]).numpy()[real]
        if not result.size:
            result = np.empty((num_rows, values.shape[1]), np.float32)
        result[rows] = values
        np.add.at(seen, rows, 1)
    if not (seen == 1).all():
        wrong = int((seen != 1).sum())
        raise RuntimeError(f"{wrong} of {num_rows} rows were not evaluated exactly once")
    return result


def table(record_set: RecordSet, split: str, probabilities: np.ndarray) -> Table:
    """Returns the probabilities joined with what the index knows about each row."""
    index = record_set.index(split)
    domains = record_set.manifest.domains
    return Table(
        keys=tuple(os.fsdecode(key) for key in index.keys),
        domains=tuple(domains[number] for number in index.domain),
        labels=index.label,
        probabilities=probabilities,
    )
