"""Robust outliers in one statistic at a time: images in their class, classes among others.

By medians and median absolute deviations (MAD), because outliers shift means and inflate standard
deviations.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

MIN_IMAGES = 10  # of a class; with fewer the spread is too uncertain
MIXED = 0.1  # share of a class; if more images are outliers, the class has two kinds

_TO_SIGMA = 1.4826  # MAD to the standard deviation of a normal distribution
_FAR, _FAR_BY_DECADE, _FAR_OF_FEW = 4.2, 0.4, 100.0
_MIN_SPREAD = 2.0  # grey levels; smaller differences are invisible
_MIN_SHARE = 0.85  # of pairs
_MIN_DEVIATIONS = 4.5  # standard deviations of that share under the null hypothesis
_FAR_CLASS = 3.0  # robust z among the medians of the other classes
_MANY_CLASSES = 4  # from which the spread of the other classes' medians is estimated


def scores(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns the robust z of each value within its class: its distance from the median in MADs.

    The modified z-score of Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers": float64
    [n], in standard deviations if the class is normally distributed.
    """
    result = np.zeros(len(values))
    for rows in _by_class(label):
        of_class = values[rows]
        result[rows] = (of_class - np.median(of_class)) / _spread(of_class)
    return result


def are_far(z: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns which values are outliers in their class, bool [n], from their `scores`, float64 [n].

    The limit is 5.5 for classes of 300 to 1,000 images, higher for smaller ones, whose MAD is
    uncertain (6 for 100, 9.7 for 20, 14.6 for 10), and for larger ones, which have more extreme
    values by chance (5.8 for 10,000). So at most 1 in 10,000 classes of normally distributed values
    has an outlier (4 with 10 images; simulated). Classes below 10 images have no outliers.
    """
    size = np.bincount(label)[label] if len(label) else np.zeros(0, int)
    size = np.maximum(size, 1)
    limit = _FAR + _FAR_BY_DECADE * np.log10(size) + _FAR_OF_FEW / size
    return (size >= MIN_IMAGES) & (np.abs(z) > limit)


@dataclasses.dataclass(frozen=True)
class OddClass:
    """A class whose values are far from those of the others.

    Attributes:
        others: median of the medians of the other classes.
        share: of the pairs of one of its images and one of another class (each class equally
            likely), the share in which its own has the higher value; ties count half.
    """

    label: int
    median: float
    others: float
    share: float


def odd_classes(values: np.ndarray, label: np.ndarray) -> list[OddClass]:
    """Returns the classes that one value nearly separates from the others, in label order.

    The share of pairs is the statistic of Mann and Whitney 1947 (the area under the ROC curve); it
    must be at least 0.85 in either direction and differ from a half by more than chance. With four
    or more classes the median must also be an outlier among the other medians: of evenly spaced
    classes the first and the last are not odd.

    Args:
        values: float64 [n].
        label: int [n]; classes of fewer than 10 images are ignored.
    """
    classes = [rows for rows in _by_class(label) if len(rows) >= MIN_IMAGES]
    if len(classes) < 2:
        return []
    shares = _shares_above([values[rows] for rows in classes])
    medians = np.array([np.median(values[rows]) for rows in classes])
    result = []
    for i, (rows, share) in enumerate(zip(classes, shares.tolist(), strict=True)):
        others = np.delete(medians, i)
        middle = float(np.median(others))
        if _is_odd(share, len(rows)) and _is_off(values[rows], medians[i] - middle, others):
            result.append(OddClass(int(label[rows[0]]), float(medians[i]), middle, share))
    return result


def _by_class(label: np.ndarray) -> list[np.ndarray]:
    """Returns the rows of each class that has any, in label order."""
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order])) + 1
    return [rows for rows in np.split(order, starts) if len(rows)]


def _spread(values: np.ndarray) -> float:
    return max(_sigma(values), _MIN_SPREAD)


def _sigma(values: np.ndarray) -> float:
    return _TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def _shares_above(classes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns for each class the share of pairs in which its value is the higher one."""
    sizes = [len(values) for values in classes]
    _, place = np.unique(np.concatenate(classes), return_inverse=True)
    weights = np.bincount(place, np.repeat([1 / size for size in sizes], sizes))
    # At a value: the share of values below it, summed over all classes.
    below = (np.cumsum(weights) - weights / 2)[place]
    own = np.add.reduceat(below, np.cumsum([0, *sizes[:-1]])) / sizes
    return (own - 0.5) / (len(classes) - 1)  # half of the pairs within a class


def _is_odd(share: float, num_images: int) -> bool:
    by_chance = np.sqrt(1 / (12 * num_images))  # for many other images
    off = abs(share - 0.5)
    return bool(off >= _MIN_SHARE - 0.5 and off >= _MIN_DEVIATIONS * by_chance)


def _is_off(values: np.ndarray, off: float, between: np.ndarray) -> bool:
    if len(between) + 1 < _MANY_CLASSES:
        return abs(off) >= _MIN_SPREAD
    of_median = 1.2533 * _spread(values) / np.sqrt(len(values))  # its standard error
    return bool(abs(off) >= _FAR_CLASS * np.hypot(_sigma(between), of_median))
