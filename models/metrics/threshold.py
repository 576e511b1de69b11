"""Decision threshold for the second of two classes, chosen on validation images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from models.metrics import confusion
from models.metrics.confusion import Images, Score
from models.metrics.table import Table


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A decision threshold, and the scores of the evaluated images with it."""

    value: float  # the second class is predicted if its probability is at least this
    chosen_on: int  # number of images
    chosen_score: float  # their macro F1; optimistic, because the threshold maximizes it
    scores: dict[str, Score]  # from `confusion.scores`
    confusion: Sequence[Sequence[int]]


def best(labels: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """Returns the threshold with the highest macro F1 (of ties, that nearest 0.5), and that score.

    Args:
        labels: int [n] of 0 and 1, at least 1.
        probability: float [n], of class 1.
    """
    order = np.argsort(probability, kind="stable")
    ordered, positive = np.asarray(probability, float)[order], labels[order] == 1
    cuts = np.flatnonzero(np.diff(ordered, prepend=-1.0, append=2.0))  # where predictions turn to 1
    below = np.concatenate([[0], positive.cumsum()])[cuts]
    missed, hit = below, positive.sum() - below
    rejected, false = cuts - below, len(labels) - cuts - (positive.sum() - below)
    scores = confusion.macro_f1_of(np.stack([[rejected, false], [missed, hit]]).transpose(2, 0, 1))
    beyond = 1.0 if ordered[-1] < 1 else 1 + 1e-6  # above every probability
    edges = np.concatenate([[0.0], ordered, [beyond]])
    # Halfway between neighbouring probabilities, so that rounding does not matter.
    values = (edges[cuts] + edges[cuts + 1]) / 2
    equal = np.flatnonzero(scores >= scores.max() - 1e-12)
    nearest = equal[np.abs(values[equal] - 0.5).argmin()]
    return float(values[nearest]), float(scores[nearest])


def chosen(validation: Table, evaluated: Table) -> Threshold:
    """Returns the best threshold of the validation images, applied to the evaluated ones.

    Raises:
        ValueError: if there are not two classes, or an image is in both tables.
    """
    for table in (validation, evaluated):
        if table.probabilities.shape[1] != 2:
            raise ValueError(f"a threshold needs 2 classes, got {table.probabilities.shape[1]}")
    # A threshold chosen on the evaluated images would be fitted to the test.
    both = set(validation.keys) & set(evaluated.keys)
    if both:
        raise ValueError(
            "a threshold must be chosen on images that are not evaluated,"
            f" {len(both)} are in both sets, such as {min(both)!r}"
        )
    value, score = best(validation.labels, validation.probabilities[:, 1])
    # In float64: in float32 a threshold between two neighbouring values would round to one.
    predicted = (evaluated.probabilities[:, 1].astype(np.float64) >= value).astype(np.int64)
    matrix = confusion.confusion(evaluated.labels, predicted, 2)
    images = Images(evaluated.labels, predicted, evaluated.groups)
    scores = confusion.scores(matrix, images)
    return Threshold(value, len(validation.keys), score, scores, matrix.tolist())
