"""Scores of predicted probabilities: loss, calibration, ranking.

Every score has its chance level and a 95 % interval, by the Bayesian bootstrap over groups (Rubin
1981, doi:10.1214/aos/1176345338). Its prior is one more group that scores the chance level, so that
no interval has width 0.
"""

import dataclasses

import numpy as np

from models.metrics import confusion
from models.metrics.confusion import Score

_NUM_BINS = 15
_MAX_DRAWS, _MIN_DRAWS = 200, 20
_MAX_WEIGHTS = 100_000_000  # in all rankings, unless draws are at their minimum
_NAMES = ("log_loss", "brier", "calibration_error", "roc_auc", "pr_auc")


@dataclasses.dataclass(frozen=True)
class Bin:
    """Images whose confidence, the probability of the predicted class, is in a range."""

    low: float  # lowest confidence, exclusive except for 0
    high: float  # highest confidence, inclusive
    count: int  # images
    confidence: float  # mean, 0 without images
    accuracy: float  # 0 without images
    interval: tuple[float, float]  # 95 %, of the accuracy


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[Bin]:
    """Returns 15 bins of equal width, from confidence 0 to 1; non-finite rows are excluded.

    Args:
        labels: int [n].
        probabilities: float [n, classes].
    """
    finite = np.isfinite(probabilities).all(1)
    labels, probabilities = labels[finite], probabilities[finite]
    confidence, correct = _top_class(labels, probabilities)
    bins = _bin_of(confidence)
    counts = np.bincount(bins, minlength=_NUM_BINS)
    hits = np.bincount(bins, correct, _NUM_BINS).astype(np.int64)
    sums = np.bincount(bins, confidence, _NUM_BINS)
    return [
        Bin(
            low=number / _NUM_BINS,
            high=(number + 1) / _NUM_BINS,
            count=count,
            confidence=sums[number] / max(count, 1),
            accuracy=hits[number] / max(count, 1),
            interval=confusion.wilson(int(hits[number]), count),
        )
        for number, count in enumerate(counts.tolist())
    ]


def scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> dict[str, Score]:
    """Returns the scores of the probabilities, by name.

    - `log_loss`, in nats. Chance level: always predicting the class shares.
    - `brier`: squared distance to the one-hot truth, summed over the classes, 0 to 2 (Brier 1950).
      Chance level: the same prediction.
    - `calibration_error`: mean gap between confidence and accuracy over the bins of `reliability`,
      weighted by their images (expected calibration error; Guo et al. 2017, arXiv:1706.04599). It
      is never 0 in a finite test. Chance level: the mean error if these same probabilities were
      perfectly calibrated (Bröcker and Smith 2007, doi:10.1175/WAF993.1).
    - `roc_auc`, `pr_auc`: one-vs-rest areas under the ROC and the precision-recall curve (average
      precision), plain means over the classes with both positives and negatives. Chance levels:
      0.5, and the mean share of these classes.

    All are NaN if a probability is not finite; the areas also if no class has both.

    Args:
        labels: int [n], n at least 1.
        probabilities: float [n, classes].
        groups: int [n], equal for images that are not independent; by default all are independent.
        seed: seeds the bootstrap.
    """
    count, num_classes = probabilities.shape
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(_NAMES, Score(np.nan, np.nan, np.nan, count, np.nan))
    shares = np.bincount(labels, minlength=num_classes) / count
    confidence, correct = _top_class(labels, probabilities)
    of_true, bins = probabilities[np.arange(count), labels], _bin_of(confidence)
    group = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    draws = min(_MAX_DRAWS, max(_MIN_DRAWS, _MAX_WEIGHTS // (count * num_classes)))
    rng = np.random.default_rng([*b"weights", seed])
    weights = _weights(group, draws, rng)
    roc, precision, share = _rankings(labels, probabilities, group, weights, rng)
    square = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    entropy, miss = _entropy(shares), float((1 - shares[labels]).mean())
    measured = {
        "log_loss": (_mean(-np.log(np.maximum(of_true, 1e-12)), weights), entropy, np.inf),
        "brier": (_mean(np.maximum(square - 2.0 * of_true + 1, 0), weights), miss, 2.0),
        "calibration_error": (
            _calibration_error(confidence, correct, bins, weights),
            _error_if_calibrated(confidence, bins, seed),
            1.0,
        ),
    }
    for values, chance, _ in measured.values():
        _add_prior(values, chance, int(group.max()) + 1, rng)
    measured |= {"roc_auc": (roc, 0.5, 1.0), "pr_auc": (precision, share, 1.0)}
    return {name: _score(*measured[name], count) for name in _NAMES}


def _score(values: np.ndarray, chance: float, highest: float, count: int) -> Score:
    """Returns the score of values [1 + draws]: the measured one, then its bootstrap draws."""
    value, half = float(values[0]), confusion.Z95 * float(values[1:].std())
    return Score(value, max(0.0, value - half), min(highest, value + half), count, chance)


def _add_prior(
    values: np.ndarray, chance: float, num_groups: int, rng: np.random.Generator
) -> None:
    """Moves the draws, values[1:], towards chance by the random weight of one more group."""
    # The share of one exponential weight among num_groups + 1 is beta(1, num_groups) distributed.
    values[1:] += (chance - values[1:]) * rng.beta(1, num_groups, len(values) - 1)


def _weights(group: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Returns image weights [1 + draws, n]: first all ones, then one row for each draw."""
    drawn = rng.standard_exponential((draws, int(group.max()) + 1))[:, group]
    return np.concatenate([np.ones((1, len(group))), drawn])


def _top_class(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probability of each predicted class, and whether it is correct."""
    return probabilities.max(1), probabilities.argmax(1) == labels


def _bin_of(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * _NUM_BINS).astype(int) - 1, 0, _NUM_BINS - 1)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1)


def _entropy(shares: np.ndarray) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    gap = np.asarray(confidence, float) - correct
    gaps = np.stack([weights[:, bins == b] @ gap[bins == b] for b in range(_NUM_BINS)])
    return np.abs(gaps).sum(0) / weights.sum(1)


def _error_if_calibrated(confidence: np.ndarray, bins: np.ndarray, seed: int) -> float:
    """Returns the mean calibration error when each image is correct with its own confidence."""
    rng, ones = np.random.default_rng([*b"calibrated", seed]), np.ones((1, len(confidence)))
    errors = [
        _calibration_error(confidence, rng.random(len(bins)) < confidence, bins, ones)
        for _ in range(_MAX_DRAWS)
    ]
    return float(np.mean(errors))


def _rankings(
    labels: np.ndarray,
    probabilities: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns the mean ROC and PR areas, [1 + draws] each, and the mean share of their classes."""
    areas, shares = [], []
    for c in range(probabilities.shape[1]):
        positive = labels == c
        share = float(positive.mean())
        if 0 < share < 1:
            both = _ranking(probabilities[:, c], positive, weights)
            # The smaller side, positives or negatives, limits the certainty of an area.
            num_groups = min(len(np.unique(group[side])) for side in (positive, ~positive))
            for values, chance in zip(both, (0.5, share), strict=True):
                _add_prior(values, chance, num_groups, rng)
            areas.append(both)
            shares.append(share)
    if not areas:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan), 0.0
    roc, precision = np.mean(areas, axis=0)
    return roc, precision, float(np.mean(shares))


def _ranking(
    values: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ROC-AUC and average precision for each row of weights; ties share one threshold."""
    order = np.argsort(-values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.inf))
    ordered = weights[:, order]
    hits, misses = (
        np.add.reduceat(ordered * side[order], starts, axis=1) for side in (positive, ~positive)
    )
    above, below = hits.cumsum(1), misses.cumsum(1)
    all_hits, all_misses = above[:, -1], below[:, -1]
    area = (misses * (above - hits / 2)).sum(1) / (all_hits * all_misses)
    precision = (hits * above / (above + below)).sum(1) / all_hits
    return area, precision
