"""The training images that look most like an image to the model: why it may have decided so."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from records.common.backend import keras, tf


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a model makes of rows.

    Attributes:
        rows: int64 [n], in the order they came in.
        features: float32 [n, width], what the last layer decides by; each of length 1.
        predicted: int64 [n], the class named.
    """

    rows: np.ndarray
    features: np.ndarray
    predicted: np.ndarray


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A training image near another.

    Attributes:
        row: in the training split.
        similarity: cosine of the angle between the features, 1 for the same image.
    """

    row: int
    similarity: float


def see(model: keras.Model, batches: Iterable[Mapping[str, Any]]) -> Seen:
    """Returns what a model makes of the rows of some batches.

    Args:
        model: whose last layer is named `logits`.
        batches: with `image`, `row` and `weight`, which is 0 for padding.
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
    found = np.concatenate(features)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return Seen(
        np.concatenate(rows),
        found / np.where(length > 0, length, 1),
        np.concatenate(predicted),
    )


def nearest(wanted: np.ndarray, among: Seen, count: int) -> list[list[Neighbour]]:
    """Returns the nearest rows to each of some features, the nearest first; by row if equal.

    Args:
        wanted: float32 [m, width], each of length 1.
        among: the rows to choose from.
        count: neighbours of each, fewer if there are not as many.
    """
    by_row = np.argsort(among.rows, kind="stable")
    similarity = wanted @ among.features[by_row].T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    rows = among.rows[by_row]
    return [
        [Neighbour(int(rows[place]), float(line[place])) for place in places.tolist()]
        for line, places in zip(similarity, order, strict=True)
    ]


def at(seen: Seen, rows: Iterable[int]) -> np.ndarray:
    """Returns the features of some rows, float32 [m, width]."""
    place = {row: number for number, row in enumerate(seen.rows.tolist())}
    found = [place[row] for row in rows]
    return seen.features[np.array(found, np.int64)]


def some(batches: Iterable[Any], num_rows: int, batch_size: int) -> Iterable[Any]:
    """Returns the first batches, which hold at least so many rows if there are as many.

    Rows stand in an order without meaning, so these are as good as any.
    """
    return itertools.islice(iter(batches), -(-num_rows // batch_size))
