"""What lies far off: images off their class, classes off the others, one measured value at a time.

Medians and median absolute deviations (MAD) are used throughout, because what is looked for would
shift means and widen standard deviations.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

LEAST_IMAGES = 10  # of a class that is judged, or whose images are: fewer have no sure spread
MIXED = 0.1  # share of a class: so many images far off are no outliers, the class has two kinds

_TO_SIGMA = 1.4826  # MAD to the standard deviation of a normal distribution
_FAR, _FAR_BY_DECADE, _FAR_OF_FEW = 4.2, 0.4, 100.0
_LEAST_SPREAD = 2.0  # grey levels: where all are nearly equal, smaller differences are not seen
_MOST_ALIKE = 0.85  # share of pairs
_SURE = 4.5  # standard deviations of that share if the classes were alike
_FAR_CLASS = 3.0  # robust z among the medians of the other classes
_MANY_CLASSES = 4  # from so many on the others have a spread of their own


def scores(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns the robust z of each value within its class: its distance from the median in MADs.

    The modified z-score of Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers".

    Args:
        values: float64 [n].
        label: int [n].

    Returns:
        float64 [n], in units of the standard deviation if the class were normally distributed.
    """
    result = np.zeros(len(values))
    for rows in _by_class(label):
        of_class = values[rows]
        result[rows] = (of_class - np.median(of_class)) / _spread(of_class)
    return result


def are_far(z: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns which values lie far off their class, bool [n].

    The limit is 5.5 for classes of 300 to 1,000 images, higher for smaller ones, whose MAD is not
    sure (6 for 100, 9.7 for 20, 14.6 for 10), and for larger ones, of whose many values one soon
    lies far (5.8 for 10,000). So of classes of normally distributed values 1 in 10,000 or fewer has
    such a value (4 where they have 10 images; simulated).
    Images of classes below 10 are not judged.

    Args:
        z: float64 [n], see `scores`.
        label: int [n].
    """
    size = np.bincount(label)[label] if len(label) else np.zeros(0, int)
    size = np.maximum(size, 1)
    limit = _FAR + _FAR_BY_DECADE * np.log10(size) + _FAR_OF_FEW / size
    return (size >= LEAST_IMAGES) & (np.abs(z) > limit)


@dataclasses.dataclass(frozen=True)
class OddClass:
    """A class whose values lie far off those of the others.

    Attributes:
        label: of the class.
        median: of its values.
        others: median of the medians of the other classes.
        share: of pairs of one of its images and one of another class (each class as likely), those
            in which its own has the higher value; half of equal values count.
    """

    label: int
    median: float
    others: float
    share: float


def odd_classes(values: np.ndarray, label: np.ndarray) -> list[OddClass]:
    """Returns the classes that a single value all but tells from the others, in label order.

    The share of pairs is that of Mann and Whitney 1947 (the area under the ROC curve), here at
    least 0.85 one way or the other, and so far from a half that equal classes would not come there
    by chance. Of four classes and more the median must also lie off the other medians: where all
    classes differ evenly, the first and the last of them are not odd.

    Args:
        values: float64 [n].
        label: int [n]; classes of fewer than 10 images are left out.
    """
    classes = [rows for rows in _by_class(label) if len(rows) >= LEAST_IMAGES]
    if len(classes) < 2:
        return []
    shares = _shares_above([values[rows] for rows in classes])
    medians = np.array([np.median(values[rows]) for rows in classes])
    result = []
    for at, (rows, share) in enumerate(zip(classes, shares.tolist(), strict=True)):
        others = np.delete(medians, at)
        off = medians[at] - np.median(others)
        if _is_odd(share, len(rows)) and _is_off(values[rows], off, others):
            middle = float(np.median(others))
            result.append(OddClass(int(label[rows[0]]), float(medians[at]), middle, share))
    return result


def _by_class(label: np.ndarray) -> list[np.ndarray]:
    """Returns the rows of each class that has any, in label order."""
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order])) + 1
    return [rows for rows in np.split(order, starts) if len(rows)]


def _spread(values: np.ndarray) -> float:
    return max(_sigma(values), _LEAST_SPREAD)


def _sigma(values: np.ndarray) -> float:
    return _TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def _shares_above(classes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns for each class in which share of pairs its value is above that of another class."""
    sizes = [len(values) for values in classes]
    _, place = np.unique(np.concatenate(classes), return_inverse=True)
    weights = np.bincount(place, np.repeat([1 / size for size in sizes], sizes))
    # At a value: the sum over all classes of the share of their values below it.
    below = (np.cumsum(weights) - weights / 2)[place]
    own = np.add.reduceat(below, np.cumsum([0, *sizes[:-1]])) / sizes
    return (own - 0.5) / (len(classes) - 1)  # half of the pairs within a class


def _is_odd(share: float, num_images: int) -> bool:
    by_chance = np.sqrt(1 / (12 * num_images))  # where the others are many
    off = abs(share - 0.5)
    return bool(off >= _MOST_ALIKE - 0.5 and off >= _SURE * by_chance)


def _is_off(values: np.ndarray, off: float, between: np.ndarray) -> bool:
    if len(between) + 1 < _MANY_CLASSES:
        return abs(off) >= _LEAST_SPREAD
    of_median = 1.2533 * _spread(values) / np.sqrt(len(values))  # its standard error
    return bool(abs(off) >= _FAR_CLASS * np.hypot(_sigma(between), of_median))
