"""What knowing nothing of the images gives, and whether predictions have to do with them at all."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from scipy import optimize  # type: ignore[import-untyped]

from models import metrics
from models.metrics import Images

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
        z: standard deviations of the hits above those of `unrelated` (`metrics.chance_z`); images
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
    shares, z = support / count, metrics.chance_z(matrix, images)
    # Guesses by the shares of the classes are independent: an image of class c is hit by shares[c].
    prior_deviation = math.sqrt(float((support * shares * (1 - shares)).sum())) / count
    unrelated = float(metrics.accuracy_of(metrics.if_unrelated(matrix)))
    pairs = swapped(matrix, images)
    return Chance(
        majority=int(support.argmax()),
        majority_share=float(shares.max()),
        prior_matched=_guess(float((shares**2).sum()), prior_deviation),
        unrelated=_guess(unrelated, metrics.hits_deviation(matrix, images) / count),
        z=z,
        swapped=pairs,
        verdict=ONE_CLASS if shares.max() == 1 else SWAPPED if pairs else _verdict(z),
    )


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
    effect, found = metrics.group_effect(matrix, images), []
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
