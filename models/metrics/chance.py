"""Chance levels, and a test whether predictions are related to the images at all."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from scipy import optimize  # type: ignore[import-untyped]

from models.metrics import confusion
from models.metrics.confusion import Z95, Images

RELATED, BARELY, UNRELATED, WORSE = "related", "barely", "unrelated", "worse"
SWAPPED, ONE_CLASS = "swapped", "one_class"
_MIN_Z = 3.0  # below: barely related; below Z95: unrelated
_MIN_SWAPPED_Z = 5.0  # of the hits gained by permuting the names


@dataclasses.dataclass(frozen=True)
class Guess:
    """The accuracy of a guessing strategy: its mean, and its range in 95 % of such tests."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Chance:
    """Accuracies of predictions that ignore the images, and how far the model is from them.

    `verdict` is `one_class` if only one class is present, so that chance is undefined; `swapped` if
    there are swapped pairs; else `related`, `barely` (z below 3), `unrelated` (below 1.96) or
    `worse` (below -3).
    """

    majority: int  # label of the largest class; the first of equal ones
    majority_share: float  # accuracy of always predicting it
    prior_matched: Guess  # of predicting each class at random, as often as it occurs
    unrelated: Guess  # of predicting each class at random, as often as the model does
    z: float  # standard deviations by which the hits exceed `unrelated` (see `z_of`)
    swapped: tuple[tuple[int, int], ...]  # (class, predicted class) with permuted names
    verdict: str


def levels(matrix: np.ndarray, images: Images | None = None) -> Chance:
    """Returns the chance levels.

    Args:
        matrix: counts [classes, classes] of at least 1 image.
        images: the counted images, needed if groups have several images.
    """
    # Every score is shown with its chance level because a study published an accuracy of .505 for
    # two equal classes (z = .98) without noticing.
    count, support = int(matrix.sum()), matrix.sum(1)
    shares, z = support / count, z_of(matrix, images)
    # Guesses by class share are independent: an image of class c is hit with probability shares[c].
    prior_deviation = math.sqrt(float((support * shares * (1 - shares)).sum())) / count
    unrelated = float(confusion.accuracy_of(confusion.if_unrelated(matrix)))
    # Checked first: if class names are permuted, the number of hits means nothing.
    pairs = swapped(matrix, images)
    return Chance(
        majority=int(support.argmax()),
        majority_share=float(shares.max()),
        prior_matched=_guess(float((shares**2).sum()), prior_deviation),
        unrelated=_guess(unrelated, hits_deviation(matrix, images) / count),
        z=z,
        swapped=pairs,
        verdict=ONE_CLASS if shares.max() == 1 else SWAPPED if pairs else _verdict(z),
    )


def z_of(matrix: np.ndarray, images: Images | None = None) -> float:
    """Returns by how many standard deviations the hits exceed those of unrelated predictions.

    0 if nothing can vary, as when a single class is predicted.
    """
    deviation = hits_deviation(matrix, images)
    excess = np.trace(matrix) - np.trace(confusion.if_unrelated(matrix))
    return float(excess / deviation) if deviation > 1e-6 else 0.0


def hits_deviation(matrix: np.ndarray, images: Images | None = None) -> float:
    """Returns the standard deviation of the hits when predictions are permuted over the images.

    The permutation distribution of a bilinear statistic (Hoeffding 1951,
    doi:10.1214/aoms/1177729545), widened by `group_effect`.
    """
    count = int(matrix.sum())
    if count < 2:
        return 0.0
    expected = confusion.if_unrelated(matrix)
    variance = (expected * _excess_hits(matrix) ** 2).sum() * count / (count - 1)
    return math.sqrt(variance * group_effect(matrix, images))


def group_effect(matrix: np.ndarray, images: Images | None) -> float:
    """Returns the variance inflation of the hits by grouped images, at least 1.

    The ratio of the cluster-robust variance (Liang and Zeger 1986, doi:10.1093/biomet/73.1.13) to
    that of independent images.
    """
    if images is None or images.independent or images.num_groups < 2:
        return 1.0
    by_image = _excess_hits(matrix)[images.labels, images.predicted]
    by_image = by_image - by_image.mean()
    by_group = np.bincount(np.unique(images.groups, return_inverse=True)[1], by_image)
    image_sum, group_sum = float((by_image**2).sum()), float((by_group**2).sum())
    num_groups = images.num_groups
    if image_sum <= 1e-9:
        return 1.0
    return max(1.0, group_sum / image_sum * num_groups / (num_groups - 1))


def _excess_hits(matrix: np.ndarray) -> np.ndarray:
    """Returns the hits of an image in each cell beyond those expected from its row and column."""
    count, support, predicted = matrix.sum(), matrix.sum(1), matrix.sum(0)
    excess = np.eye(len(matrix)) - (predicted / count)[:, None] - (support / count)[None, :]
    return excess + (support * predicted).sum() / count**2


def swapped(matrix: np.ndarray, images: Images | None = None) -> tuple[tuple[int, int], ...]:
    """Returns the pairs (class, predicted class) of class names that appear to be permuted.

    The predicted names are reassigned to maximize the hits (the assignment problem, Kuhn 1955,
    doi:10.1002/nav.3800020109). A cycle of classes that exchange names is returned if each gains
    hits, and all together gain more than 5 standard deviations, the square root of their images.
    """
    labels, predicted = optimize.linear_sum_assignment(matrix, maximize=True)
    assigned = dict(zip(labels.tolist(), predicted.tolist(), strict=True))
    gain = {label: int(matrix[label, p] - matrix[label, label]) for label, p in assigned.items()}
    effect, found = group_effect(matrix, images), []
    for cycle in _cycles(assigned):
        gains = [gain[label] for label in cycle]
        min_total = _MIN_SWAPPED_Z * math.sqrt(matrix[cycle].sum() * effect)
        if min(gains) > 0 and sum(gains) > min_total:
            found += cycle
    return tuple((label, assigned[label]) for label in sorted(found))


def _cycles(permutation: dict[int, int]) -> Iterator[list[int]]:
    """Yields the cycles of a permutation that are longer than 1."""
    seen: set[int] = set()
    for first in permutation:
        cycle, number = [], first
        while number not in seen:
            seen.add(number)
            cycle.append(number)
            number = permutation[number]
        if len(cycle) > 1:
            yield cycle


def _guess(value: float, deviation: float) -> Guess:
    half = Z95 * deviation
    return Guess(value, max(0.0, value - half), min(1.0, value + half))


def _verdict(z: float) -> str:
    if z <= -_MIN_Z:
        return WORSE
    if z < Z95:
        return UNRELATED
    return BARELY if z < _MIN_Z else RELATED
