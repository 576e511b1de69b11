"""From which probability on the second of two classes is named, chosen on validation images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from models.metrics import confusion as metrics
from models.metrics.confusion import Images, Score
from models.metrics.table import Table


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold, and what it does.

    Attributes:
        value: the second class is named where its probability is at least this.
        chosen_on: images that it was chosen on.
        chosen_score: macro F1 of these; higher than on others, since it was chosen by it.
        scores: of the evaluated images, by name, as of `metrics.scores`.
        confusion: of the evaluated images.
    """

    value: float
    chosen_on: int
    chosen_score: float
    scores: dict[str, Score]
    confusion: Sequence[Sequence[int]]


def best(labels: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """Returns the threshold with the highest macro F1, and that; of equal ones the nearest to 0.5.

    Thresholds lie halfway between neighbouring probabilities, where rounding decides nothing.

    Args:
        labels: int [n] of 0 and 1, at least 1.
        probability: float [n], of class 1.
    """
    order = np.argsort(probability, kind="stable")
    ordered, positive = np.asarray(probability, float)[order], labels[order] == 1
    cuts = np.flatnonzero(np.diff(ordered, prepend=-1.0, append=2.0))  # named from there on
    below = np.concatenate([[0], positive.cumsum()])[cuts]
    missed, hit = below, positive.sum() - below
    rejected, false = cuts - below, len(labels) - cuts - (positive.sum() - below)
    scores = metrics.macro_f1_of(np.stack([[rejected, false], [missed, hit]]).transpose(2, 0, 1))
    beyond = 1.0 if ordered[-1] < 1 else 1 + 1e-6  # from there on nothing is named
    edges = np.concatenate([[0.0], ordered, [beyond]])
    values = (edges[cuts] + edges[cuts + 1]) / 2
    equal = np.flatnonzero(scores >= scores.max() - 1e-12)
    found = equal[np.abs(values[equal] - 0.5).argmin()]
    return float(values[found]), float(scores[found])


def chosen(validation: Table, evaluated: Table) -> Threshold:
    """Returns the best threshold of the validation images, used on the evaluated ones.

    Args:
        validation: of two classes, at least 1 image, none of them among the evaluated.
        evaluated: of the same classes.

    Raises:
        ValueError: if there are other than two classes, or an image stands in both.
    """
    for table in (validation, evaluated):
        if table.probabilities.shape[1] != 2:
            raise ValueError(f"a threshold is of 2 classes, got {table.probabilities.shape[1]}")
    both = set(validation.keys) & set(evaluated.keys)
    if both:
        raise ValueError(
            f"a threshold must be chosen on other images than are evaluated, {len(both)} stand in"
            f" both, such as {min(both)!r}"
        )
    value, score = best(validation.labels, validation.probabilities[:, 1])
    # In float64, where halfway between two float32 is not rounded to one of them.
    named = (evaluated.probabilities[:, 1].astype(np.float64) >= value).astype(np.int64)
    matrix = metrics.confusion(evaluated.labels, named, 2)
    images = Images(evaluated.labels, named, evaluated.groups)
    scores = metrics.scores(matrix, images)
    return Threshold(value, len(validation.keys), score, scores, matrix.tolist())
