"""The training images nearest to an image in the model's feature space."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from records.common.backend import keras, tf


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Features and predictions of rows."""

    rows: np.ndarray  # int64 [n], in input order
    features: np.ndarray  # float32 [n, width], the inputs of the last layer, scaled to length 1
    predicted: np.ndarray  # int64 [n]


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A training image near another."""

    row: int  # in the training split
    similarity: float  # cosine of the angle between the features, 1 for the same image


def embed(model: keras.Model, batches: Iterable[Mapping[str, Any]]) -> Embedded:
    """Returns features and predictions of all rows of the batches.

    Args:
        model: its last layer must be named `logits`.
        batches: dicts of `image`, `row` and `weight`, which is 0 for padding.
    """
    last = model.get_layer("logits")
    both = keras.Model(model.inputs, [last.input, last.output])
    compiled = tf.function(lambda images: both(images, training=False), autograph=False)
    rows, features, predicted = [], [], []
    for batch in batches:
        real = batch["weight"].numpy() > 0
        values, logits = compiled(batch["image"])
        rows.append(batch["row"].numpy()[real])
        features.append(tf.cast(values, tf.float32).numpy()[real])
        predicted.append(logits.numpy()[real].argmax(1))
    stacked = np.concatenate(features)
    length = np.linalg.norm(stacked, axis=1, keepdims=True)
    normalized = stacked / np.where(length > 0, length, 1)
    return Embedded(np.concatenate(rows), normalized, np.concatenate(predicted))


def nearest(features: np.ndarray, among: Embedded, count: int) -> list[list[Neighbour]]:
    """Returns the `count` nearest rows to each feature vector, the nearest first; ties by row.

    Args:
        features: float32 [m, width], each of length 1.
        among: the rows to choose from; if they are fewer than `count`, all are returned.
        count: neighbours of each vector.
    """
    by_row = np.argsort(among.rows, kind="stable")
    similarity = features @ among.features[by_row].T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    rows = among.rows[by_row]
    return [
        [Neighbour(int(rows[index]), float(line[index])) for index in indexes.tolist()]
        for line, indexes in zip(similarity, order, strict=True)
    ]


def select(embedded: Embedded, rows: Iterable[int]) -> np.ndarray:
    """Returns the features of some rows, float32 [m, width]."""
    index = {row: number for number, row in enumerate(embedded.rows.tolist())}
    return embedded.features[np.array([index[row] for row in rows], np.int64)]


def take(batches: Iterable[Any], num_rows: int, batch_size: int) -> Iterable[Any]:
    """Returns the first batches, with at least `num_rows` rows if there are that many."""
    # Rows are sorted by a hash of their keys, so the first ones are a random sample.
    return itertools.islice(iter(batches), -(-num_rows // batch_size))
