"""Significance of differences: of two models on the same images, or of two settings over seeds.

All p values are two-sided.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special  # type: ignore[import-untyped]

from models.metrics.table import Table
from records.common import checks

_BLOCK_CELLS = 4_000_000  # numbers in memory for a block of rounds; 32 MB
_TIE = 1e-12  # smaller differences are rounding errors


def paired_permutation(
    statistic: Callable[[np.ndarray], np.ndarray],
    tables_a: Sequence[Table],
    tables_b: Sequence[Table],
    *,
    groups: np.ndarray | None = None,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the difference in a statistic between two settings, and the p value of no difference.

    Under the null hypothesis the two predictions of an image are exchangeable. They are exchanged
    at random, image by image, and p is the share of rounds whose difference is at least as large as
    the observed one, which counts as a round itself (Good 2005, doi:10.1007/b138696; Ojala and
    Garriga 2010, JMLR 11:1833; Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).

    A setting may have several runs, such as one for each seed; the statistic is then their mean.
    The predictions of all runs of an image are exchanged together: the runs err on the same images,
    so exchanging them separately would overstate the evidence. The p value covers other images for
    these same models; `paired_runs` covers other seeds.

    Args:
        statistic: from confusion counts int [..., classes, classes] to numbers [...], such as
            `confusion.macro_f1_of`.
        tables_a: one for each run of the first setting, at least 1.
        tables_b: one for each run of the second setting, with the same images in the same order.
        groups: int [n]; images of one group, such as photos of one person, are exchanged together.
            By default each image is its own group.
        rounds: random exchanges, at least 1; the lowest possible p is 1 / (1 + rounds).

    Raises:
        ValueError: if the numbers of runs differ or are 0, the tables or groups have different
            images, or `rounds` is below 1.
    """
    checks.at_least("rounds", rounds, 1)
    _check_runs(tables_a, tables_b)
    pairs = [_cells(*tables) for tables in zip(tables_a, tables_b, strict=True)]
    num_images = len(pairs[0][0])
    group = np.arange(num_images) if groups is None else _group_numbers(groups, num_images)
    num_groups = int(group.max(initial=-1)) + 1
    runs = [_difference_of_run(statistic, *pair, group) for pair in pairs]

    def differences(exchanged: np.ndarray) -> np.ndarray:
        return np.mean([difference(exchanged) for difference in runs], axis=0)

    observed = float(differences(np.zeros((1, num_groups), bool))[0])
    # Not `seed` alone, which may also have generated simulated predictions.
    rng, extreme = np.random.default_rng([*b"exchange", seed]), 0
    block = max(1, _BLOCK_CELLS // max(pairs[0][2] ** 2, num_images))
    for start in range(0, rounds, block):
        # Drawn as floats: random bits would depend on the size of a block.
        exchanged = rng.random((min(block, rounds - start), num_groups)) < 0.5
        extreme += int((np.abs(differences(exchanged)) >= abs(observed) - _TIE).sum())
    return observed, (1 + extreme) / (1 + rounds)


def paired_runs(
    values_a: Sequence[float], values_b: Sequence[float], *, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Returns the mean of a - b, its interval (low, high) and the p value of no difference.

    Student's paired t test over runs: the scores of two settings with the same seeds, at least 2.
    If all differences are equal, the interval is that one number and p is 0, or 1 if they are 0.

    Raises:
        ValueError: if the lengths differ, or there are fewer than 2 runs.
    """
    first, second = np.asarray(values_a, float), np.asarray(values_b, float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"both must have the same length, got {first.shape} and {second.shape}")
    if len(first) < 2:
        raise ValueError(f"a test over runs needs at least 2 pairs, got {len(first)}")
    mean, low, high, deviation = mean_interval(first - second, level=level)
    if deviation == 0:
        return mean, low, high, float(mean == 0)
    t = mean / (deviation / math.sqrt(len(first)))
    return mean, low, high, 2 * float(special.stdtr(len(first) - 1, -abs(t)))


def mean_interval(
    values: Sequence[float] | np.ndarray, *, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Returns the mean, Student's t interval (low, high) and the sample standard deviation.

    With a single value only the mean is known: the others are NaN.

    Raises:
        ValueError: if there is no value, or the level is out of range.
    """
    checks.between("level", level, 0, 1, "()")
    array = np.asarray(values, float)
    if not array.size:
        raise ValueError("a mean needs at least 1 value, got 0")
    mean = float(array.mean())
    if len(array) == 1:
        return mean, math.nan, math.nan, math.nan
    # Exactly 0 rather than 1e-17: the rounded mean of equal values may differ from them.
    deviation = float(array.std(ddof=1)) if np.ptp(array) else 0.0
    half = special.stdtrit(len(array) - 1, (1 + level) / 2) * deviation / math.sqrt(len(array))
    return mean, float(mean - half), float(mean + half), deviation


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p values adjusted for multiple comparisons, in the same order.

    Holm's method (1979, JSTOR 4615733): if those below 5 % are called significant, the probability
    of any false positive is at most 5 %.

    Raises:
        ValueError: if one is not in 0..1.
    """
    values = np.asarray(p_values, float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p values must lie in 0..1, got {list(p_values)}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(adjusted, 1.0).tolist()


def _check_runs(tables_a: Sequence[Table], tables_b: Sequence[Table]) -> None:
    if len(tables_a) != len(tables_b) or not tables_a:
        raise ValueError(
            f"both settings must have the same number of runs, at least 1, got {len(tables_a)} and"
            f" {len(tables_b)}"
        )
    for number, table in enumerate(tables_a):
        if not np.array_equal(table.labels, tables_a[0].labels):
            raise ValueError(f"all runs must have the same images, run {number} has different ones")


def _cells(table_a: Table, table_b: Table) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the confusion cell of each image, int [n], in both tables, and the class count."""
    labels, num_classes = np.asarray(table_a.labels, np.int64), table_a.probabilities.shape[1]
    num_others = table_b.probabilities.shape[1]
    if not np.array_equal(labels, table_b.labels) or num_others != num_classes:
        raise ValueError(
            "both tables must have the same images, labels and classes, got"
            f" {len(labels):,} images of {num_classes} classes and {len(table_b.labels):,} of"
            f" {num_others}"
        )
    first, second = (labels * num_classes + table.predicted for table in (table_a, table_b))
    return first, second, num_classes


def _group_numbers(groups: np.ndarray, num_images: int) -> np.ndarray:
    """Returns the number of each image's group, int [n], from 0 without gaps."""
    if np.shape(groups) != (num_images,):
        raise ValueError(f"groups must have shape ({num_images},), got {np.shape(groups)}")
    return np.unique(groups, return_inverse=True)[1]


def _difference_of_run(
    statistic: Callable[[np.ndarray], np.ndarray],
    cells_a: np.ndarray,
    cells_b: np.ndarray,
    num_classes: int,
    group: np.ndarray,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from exchanges, bool [rounds, groups], to differences [rounds]."""
    # Most images are in the same cell of both tables, so exchanging them changes nothing: only the
    # others are exchanged and counted in each round.
    differs = np.flatnonzero(cells_a != cells_b)
    shared = _counts(np.delete(cells_a, differs)[None], num_classes)
    first, second, group = cells_a[differs], cells_b[differs], group[differs]

    def difference(exchanged: np.ndarray) -> np.ndarray:
        by_image = exchanged[:, group]
        left = shared + _counts(np.where(by_image, second, first), num_classes)
        right = shared + _counts(np.where(by_image, first, second), num_classes)
        return statistic(left) - statistic(right)

    return difference


def _counts(cells: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns confusion counts [rounds, classes, classes] of cells [rounds, n]."""
    rounds, size = len(cells), num_classes**2
    offset = np.arange(rounds)[:, None] * size
    counts = np.bincount((cells + offset).reshape(-1), minlength=rounds * size)
    return counts.reshape(rounds, num_classes, num_classes)
