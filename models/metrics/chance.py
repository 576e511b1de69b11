"""What knowing nothing of the images gives, and whether predictions have to do with them at all."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from scipy import optimize  # type: ignore[import-untyped]

from models.metrics import confusion
from models.metrics.confusion import Images

RELATED, BARELY, UNRELATED, WORSE = "related", "barely", "unrelated", "worse"
SWAPPED, ONE_CLASS = "swapped", "one_class"
_LEAST_Z, _BARELY_Z = 3.0, 1.959963984540054
_SWAPPED_Z = 5.0  # of the hits that other names would give, beyond those there are


@dataclasses.dataclass(frozen=True)
class Guess:
    """The accuracy of a way to guess: its mean, and where it lies in 95 % of tests like this."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Chance:
    """What a test with these images would show of predictions that know nothing of them.

    Attributes:
        majority: label of the largest class; the first of equal ones.
        majority_share: accuracy of naming it always.
        prior_matched: of naming each class as often as it occurs, at random.
        unrelated: of naming each class as often as these predictions do, at random.
        z: standard deviations of the hits above those of `unrelated` (`z_of`); images
            of one group count less, the more alike they are answered.
        swapped: pairs (class, the class it is taken for), if other names would fit far better.
        verdict: `one_class` if all images are of one class, so that nothing can be told; `swapped`
            if there are such pairs; else `related`, `barely` (z below 3), `unrelated` (below 1.96)
            or `worse` (below -3).
    """

    majority: int
    majority_share: float
    prior_matched: Guess
    unrelated: Guess
    z: float
    swapped: tuple[tuple[int, int], ...]
    verdict: str


def of(matrix: np.ndarray, images: Images | None = None) -> Chance:
    """Returns what chance gives.

    Args:
        matrix: counts [classes, classes] of at least 1 image.
        images: those that were counted, if some of them may belong together.
    """
    count, support = int(matrix.sum()), matrix.sum(1)
    shares, z = support / count, z_of(matrix, images)
    # Guesses by the shares of the classes are independent: an image of class c is hit by shares[c].
    prior_deviation = math.sqrt(float((support * shares * (1 - shares)).sum())) / count
    unrelated = float(confusion.accuracy_of(confusion.if_unrelated(matrix)))
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
    """Returns how many standard deviations the hits lie above those of unrelated predictions.

    0 where nothing could vary, such as one class predicted always.
    """
    deviation = hits_deviation(matrix, images)
    excess = np.trace(matrix) - np.trace(confusion.if_unrelated(matrix))
    return float(excess / deviation) if deviation > 1e-6 else 0.0


def hits_deviation(matrix: np.ndarray, images: Images | None = None) -> float:
    """Returns the standard deviation of the hits of predictions unrelated to the images.

    That of predictions dealt to the images at random (the permutation distribution of a bilinear
    statistic, Hoeffding 1951, doi:10.1214/aoms/1177729545), made wider by `group_effect`.
    """
    count = int(matrix.sum())
    if count < 2:
        return 0.0
    expected = confusion.if_unrelated(matrix)
    variance = (expected * _excess_of_cells(matrix) ** 2).sum() * count / (count - 1)
    return math.sqrt(variance * group_effect(matrix, images))


def group_effect(matrix: np.ndarray, images: Images | None) -> float:
    """Returns how many times the hits vary more than those of independent images; at least 1.

    The variance between groups over that between images (the cluster-robust variance, Liang and
    Zeger 1986, doi:10.1093/biomet/73.1.13).
    """
    if images is None or images.independent or images.num_groups < 2:
        return 1.0
    of_image = _excess_of_cells(matrix)[images.labels, images.predicted]
    of_image = of_image - of_image.mean()
    of_group = np.bincount(np.unique(images.groups, return_inverse=True)[1], of_image)
    alone, together = float((of_image**2).sum()), float((of_group**2).sum())
    num_groups = images.num_groups
    return max(1.0, together / alone * num_groups / (num_groups - 1)) if alone > 1e-9 else 1.0


def _excess_of_cells(matrix: np.ndarray) -> np.ndarray:
    """Returns what an image of each cell adds to the hits beyond what its row and column give."""
    count, support, named = matrix.sum(), matrix.sum(1), matrix.sum(0)
    excess = np.eye(len(matrix)) - (named / count)[:, None] - (support / count)[None, :]
    return excess + (support * named).sum() / count**2


def swapped(matrix: np.ndarray, images: Images | None = None) -> tuple[tuple[int, int], ...]:
    """Returns the pairs (class, the class it is taken for) of names that seem to be mixed up.

    Names are given to the predicted classes so that most images are right (the assignment problem,
    Kuhn 1955, doi:10.1002/nav.3800020109). Classes that change names among themselves are returned
    if each has images and gains hits, and all together 5 standard deviations of what their images
    would give at random.

    Args:
        matrix: counts [classes, classes].
        images: those that were counted, if some of them may belong together.
    """
    true, named = optimize.linear_sum_assignment(matrix, maximize=True)
    other = dict(zip(true.tolist(), named.tolist(), strict=True))
    gained = {t: int(matrix[t, n] - matrix[t, t]) for t, n in other.items()}
    effect, found = group_effect(matrix, images), []
    for cycle in _cycles(other):
        gains = [gained[t] for t in cycle]
        least = _SWAPPED_Z * math.sqrt(matrix[cycle].sum() * effect)
        if min(gains) > 0 and sum(gains) > least:
            found += cycle
    return tuple((t, other[t]) for t in sorted(found))


def _cycles(permutation: dict[int, int]) -> Iterator[list[int]]:
    """Yields the numbers that change places among each other, without those that stay."""
    seen: set[int] = set()
    for first in permutation:
        cycle, at = [], first
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = permutation[at]
        if len(cycle) > 1:
            yield cycle


def _guess(value: float, deviation: float) -> Guess:
    half = _BARELY_Z * deviation
    return Guess(value, max(0.0, value - half), min(1.0, value + half))


def _verdict(z: float) -> str:
    if z <= -_LEAST_Z:
        return WORSE
    if z < _BARELY_Z:
        return UNRELATED
    return BARELY if z < _LEAST_Z else RELATED
