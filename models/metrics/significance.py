"""Whether two models differ by more than chance: on the same images, or over several seeds.

NumPy and `math` only. All p values are two-sided.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

_BLOCK_CELLS = 4_000_000  # numbers of a block of rounds in memory; 32 MB
_TIE = 1e-12  # statistics that differ by less are equal but for rounding


class Predictions(Protocol):
    """What two models are compared by, such as `evaluation.Table`."""

    @property
    def labels(self) -> np.ndarray:
        """The true classes, int [n]."""

    @property
    def predicted(self) -> np.ndarray:
        """The classes that the model names, int [n]."""

    @property
    def confusion(self) -> np.ndarray:
        """Counts [classes, classes]; only their shape is used."""


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Returns the p value of equal accuracy of two models on the same images.

    McNemar's test (1947, doi:10.1007/BF02295996), exact: of the images on which one model alone is
    right, each has it as likely as the other. Not the mid-p variant, which may be a little too low.

    Args:
        right_a: bool [n], whether the first model is right.
        right_b: bool [n], of the second model on the same images.

    Raises:
        ValueError: if the lengths differ.
    """
    right_a, right_b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    _check_same_length(right_a, right_b)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    fewer, more = sorted((only_a, only_b))
    if fewer == more:
        return 1.0
    # The binomial distribution up to `fewer` is an incomplete beta function, DLMF 8.17.5.
    return min(1.0, 2 * _incomplete_beta(more, fewer + 1, 0.5))


def paired_permutation(
    statistic: Callable[[np.ndarray], np.ndarray],
    table_a: Predictions,
    table_b: Predictions,
    *,
    groups: np.ndarray | None = None,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns by how much the first model's statistic is higher, and the p value of equal models.

    If the models were equal, the predictions of each image might as well be exchanged. They are,
    image by image at random, and p is the share of rounds whose difference is at least as large,
    the one at hand among them (Good 2005, doi:10.1007/b138696; Ojala and Garriga 2010, JMLR
    11:1833; Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).

    Args:
        statistic: from confusion counts int [..., classes, classes] to numbers [...], such as
            `metrics.macro_f1_of`.
        table_a: of the first model.
        table_b: of the second, for the same images in the same order.
        groups: int [n]; images of one group, such as pictures of one person, are exchanged
            together. Without, each image is its own.
        rounds: random exchanges, at least 1; the lowest possible p is 1 / (1 + rounds).
        seed: of the exchanges.

    Raises:
        ValueError: if the tables or groups are not of the same images, or there are no rounds.
    """
    return paired_permutation_of_runs(
        statistic, [table_a], [table_b], groups=groups, rounds=rounds, seed=seed
    )


def paired_permutation_of_runs(
    statistic: Callable[[np.ndarray], np.ndarray],
    tables_a: Sequence[Predictions],
    tables_b: Sequence[Predictions],
    *,
    groups: np.ndarray | None = None,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns `paired_permutation` of the mean over several runs, such as those of several seeds.

    All runs' predictions of an image are exchanged together: they err on the same images, so taken
    one by one they would seem to be more evidence than they are. This asks what other images would
    say of these very runs; what other seeds would say, `paired_runs` asks.

    Args:
        statistic: as `paired_permutation`.
        tables_a: of each run of the first setting, at least 1.
        tables_b: of as many of the second, for the same images in the same order.
        groups: as `paired_permutation`.
        rounds: the same.
        seed: the same.

    Raises:
        ValueError: as `paired_permutation`, and if the runs are not as many of both, at least 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    _check_runs(tables_a, tables_b)
    pairs = [_cells(*tables) for tables in zip(tables_a, tables_b, strict=True)]
    num_images = len(pairs[0][0])
    unit = np.arange(num_images) if groups is None else _numbered(groups, num_images)
    num_units = int(unit.max(initial=-1)) + 1
    runs = [_difference_of_run(statistic, *pair, unit) for pair in pairs]

    def differences(exchanged: np.ndarray) -> np.ndarray:
        return np.mean([difference(exchanged) for difference in runs], axis=0)

    observed = float(differences(np.zeros((1, num_units), bool))[0])
    # Not the generator of the seed itself, which predictions may have been simulated with.
    rng, extreme = np.random.default_rng([*b"exchange", seed]), 0
    block = max(1, _BLOCK_CELLS // max(pairs[0][2] ** 2, num_images))
    for start in range(0, rounds, block):
        # By floats, so that the exchanges do not depend on the size of a block.
        exchanged = rng.random((min(block, rounds - start), num_units)) < 0.5
        extreme += int((np.abs(differences(exchanged)) >= abs(observed) - _TIE).sum())
    return observed, (1 + extreme) / (1 + rounds)


def paired_runs(
    values_a: Sequence[float], values_b: Sequence[float], *, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Returns mean difference, its interval (low, high) and the p value of no difference.

    Student's paired t test over runs, such as those of two settings with the same seeds; of a - b.
    Where all differences are equal the interval is that one number, and p is 0, or 1 if it is 0.

    Args:
        values_a: of each run of the first setting, at least 2.
        values_b: of the runs of the second, in the same order.
        level: of the interval, above 0 and below 1.

    Raises:
        ValueError: if the lengths differ, or there are fewer than 2 runs.
    """
    first, second = np.asarray(values_a, float), np.asarray(values_b, float)
    _check_same_length(first, second)
    if len(first) < 2:
        raise ValueError(f"a test over runs needs at least 2 pairs, got {len(first)}")
    mean, low, high, deviation = mean_interval(first - second, level=level)
    if deviation == 0:
        return mean, low, high, float(mean == 0)
    t = mean / (deviation / math.sqrt(len(first)))
    return mean, low, high, _t_tails(abs(t), len(first) - 1)


def mean_interval(
    values: Sequence[float] | np.ndarray, *, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Returns the mean, the interval of the true mean (low, high) and the standard deviation.

    Student's t interval. Of one value nothing but the mean is known: the others are NaN.

    Args:
        values: at least 1.
        level: above 0 and below 1.

    Raises:
        ValueError: if there is no value, or the level is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    array = np.asarray(values, float)
    if not array.size:
        raise ValueError("a mean needs at least 1 value, got 0")
    mean = float(array.mean())
    if len(array) == 1:
        return mean, math.nan, math.nan, math.nan
    # Equal values have no deviation; their rounded mean may differ from them.
    deviation = float(array.std(ddof=1)) if np.ptp(array) else 0.0
    half = _t_quantile(level, len(array) - 1) * deviation / math.sqrt(len(array))
    return mean, mean - half, mean + half, deviation


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p values adjusted for their number, in the same order (Holm 1979, JSTOR 4615733).

    Calling those below 5 % significant is wrong about any of them at most 5 % of the time.

    Raises:
        ValueError: if one does not lie in 0..1.
    """
    values = np.asarray(p_values, float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p values must lie in 0..1, got {list(p_values)}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(adjusted, 1.0).tolist()


def _check_same_length(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"both must have the same length, got {first.shape} and {second.shape}")


def _check_runs(tables_a: Sequence[Predictions], tables_b: Sequence[Predictions]) -> None:
    if len(tables_a) != len(tables_b) or not tables_a:
        raise ValueError(
            f"there must be as many runs of both, at least 1, got {len(tables_a)} and"
            f" {len(tables_b)}"
        )
    for number, table in enumerate(tables_a):
        if not np.array_equal(table.labels, tables_a[0].labels):
            raise ValueError(f"all runs must be of the same images, run {number} is of others")


def _cells(table_a: Predictions, table_b: Predictions) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the cell of the confusion matrix that each image is in, for both, and its width."""
    labels, num_classes = np.asarray(table_a.labels, np.int64), len(table_a.confusion)
    if not np.array_equal(labels, table_b.labels) or len(table_b.confusion) != num_classes:
        raise ValueError(
            f"both tables must be of the same images, got {len(labels):,} of {num_classes} classes"
            f" and {len(table_b.labels):,} of {len(table_b.confusion)}, or other labels"
        )
    first, second = (labels * num_classes + table.predicted for table in (table_a, table_b))
    return first, second, num_classes


def _numbered(groups: np.ndarray, num_images: int) -> np.ndarray:
    """Returns the number of each image's group, int [n], from 0 without gaps."""
    if np.shape(groups) != (num_images,):
        raise ValueError(f"groups must be one for each of {num_images:,}, got {np.shape(groups)}")
    return np.unique(groups, return_inverse=True)[1]


def _difference_of_run(
    statistic: Callable[[np.ndarray], np.ndarray],
    cells_a: np.ndarray,
    cells_b: np.ndarray,
    num_classes: int,
    unit: np.ndarray,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from exchanges, bool [rounds, units], to differences [rounds]."""
    # Most images are in the same cell for both, so nothing of them is ever exchanged.
    differs = np.flatnonzero(cells_a != cells_b)
    same = _counts(np.delete(cells_a, differs)[None], num_classes)
    first, second, of_unit = cells_a[differs], cells_b[differs], unit[differs]

    def difference(exchanged: np.ndarray) -> np.ndarray:
        of_image = exchanged[:, of_unit]
        left = same + _counts(np.where(of_image, second, first), num_classes)
        right = same + _counts(np.where(of_image, first, second), num_classes)
        return statistic(left) - statistic(right)

    return difference


def _counts(cells: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns confusion counts of each round, [rounds, classes, classes], of cells [rounds, n]."""
    rounds, size = len(cells), num_classes**2
    places = cells + np.arange(rounds)[:, None] * size
    counts = np.bincount(places.reshape(-1), minlength=rounds * size)
    return counts.reshape(rounds, num_classes, num_classes)


def _t_tails(t: float, freedom: int) -> float:
    """Returns how likely Student's t is at least `t` away from 0."""
    square = t * t
    # Near 0 by the other tail, DLMF 8.17.4: there the argument below is 1 but for its rounding.
    # Further out a difference to 1 would lose the digits of a small tail.
    if square < 3:
        return 1 - _incomplete_beta(0.5, freedom / 2, square / (freedom + square))
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + square))


def _t_quantile(level: float, freedom: int) -> float:
    """Returns how far from 0 Student's t lies at most with a probability of `level`."""
    low, high = 0.0, 1.0
    while _t_tails(high, freedom) > 1 - level:
        low, high = high, high * 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _t_tails(middle, freedom) > 1 - level else (low, middle)
    return middle


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Returns the regularized incomplete beta function, x in 0..1, by DLMF 8.17.22."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # The number of terms that are needed grows with the root of the larger parameter.
    fraction = 1.0
    for m in range(50 + 5 * math.isqrt(int(max(a, b))), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return math.exp(log_front) / fraction
