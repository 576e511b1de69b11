"""What probabilities are worth beside the class they name: loss, calibration, ranking.

Every score has an interval, by the Bayesian bootstrap over groups (Rubin 1981,
doi:10.1214/aos/1176345338), and the value that probabilities without any knowledge would give.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from models import metrics
from models.metrics import Score

_NUM_BINS = 15
_MOST_DRAWS, _FEWEST_DRAWS = 200, 20
_NUMBERS = 100_000_000  # in all draws of a ranking together; they take some seconds
_Z95 = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class Bin:
    """Images whose confidence, the probability of the class that is named, lies in a range.

    Attributes:
        low: the lowest confidence, exclusive but for 0.
        high: the highest, inclusive.
        count: images.
        confidence: their mean, 0 where there is no image.
        accuracy: the share of them that is right, 0 where there is no image.
        interval: of that share, 95 %.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[Bin]:
    """Returns 15 bins of equal width, from confidence 0 to 1.

    Args:
        labels: int [n].
        probabilities: float [n, classes].
    """
    confidence, right = _named(labels, probabilities)
    place = _bin_of(confidence)
    counts = np.bincount(place, minlength=_NUM_BINS)
    hits = np.bincount(place, right, _NUM_BINS).astype(np.int64)
    sums = np.bincount(place, confidence, _NUM_BINS)
    return [
        Bin(
            low=number / _NUM_BINS,
            high=(number + 1) / _NUM_BINS,
            count=count,
            confidence=sums[number] / max(count, 1),
            accuracy=hits[number] / max(count, 1),
            interval=metrics.wilson(int(hits[number]), count),
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
    """Returns scores of the probabilities themselves.

    - `log_loss`, in nats. Chance: always giving the shares of the classes.
    - `brier`: the summed square distance to the truth, 0 to 2 (Brier 1950). Chance: the same.
    - `calibration_error`: how far confidence and accuracy lie apart in the bins of `reliability`,
      weighted by their images (Guo et al. 2017, arXiv:1706.04599). It is never 0 in a finite test:
      `chance` is what these very probabilities would show if they were right (Bröcker and Smith
      2007, doi:10.1175/WAF993.1).
    - `roc_auc`, `pr_auc`: how well the probability of a class ranks its images before others, as
      areas under the curves of rates and of precision and recall (average precision); plain means
      over the classes that have images and do not have all. Chance: 0.5, and the classes' share.

    Args:
        labels: int [n], at least 1.
        probabilities: float [n, classes].
        groups: int [n], equal for images that are not independent; without, all are.
        seed: of the draws.
    """
    count, num_classes = probabilities.shape
    shares = np.bincount(labels, minlength=num_classes) / count
    truth = np.eye(num_classes)[labels]
    confidence, right = _named(labels, probabilities)
    place = _bin_of(confidence)
    draws = min(_MOST_DRAWS, max(_FEWEST_DRAWS, _NUMBERS // (count * num_classes)))
    weights = _weights(count, groups, draws, seed)
    ranked = [c for c in range(num_classes) if 0 < shares[c] < 1]
    rankings = [_ranking(probabilities[:, c], labels == c, weights) for c in ranked]
    nothing = np.full(draws + 1, np.nan)
    mean = np.mean(rankings, axis=0) if rankings else (nothing, nothing)
    found = {
        "log_loss": (_mean(-np.log(_of_true(labels, probabilities)), weights), _entropy(shares)),
        "brier": (
            _mean(((probabilities - truth) ** 2).sum(1), weights),
            float((1 - shares[labels]).mean()),
        ),
        "calibration_error": (
            _calibration_error(confidence, right, place, weights),
            _error_if_right(confidence, place, seed),
        ),
        "roc_auc": (mean[0], 0.5),
        "pr_auc": (mean[1], float(shares[ranked].mean()) if ranked else 0.0),
    }
    highest = {"log_loss": np.inf, "brier": 2.0}
    return {
        name: _score(values, highest.get(name, 1.0), count, chance)
        for name, (values, chance) in found.items()
    }


def _score(values: np.ndarray, highest: float, count: int, chance: float) -> Score:
    """Returns the score of a value and its draws, which stand after it: [1 + draws]."""
    value, half = float(values[0]), _Z95 * float(values[1:].std())
    return Score(value, max(0.0, value - half), min(highest, value + half), count, chance)


def _weights(count: int, groups: np.ndarray | None, draws: int, seed: int) -> np.ndarray:
    """Returns weights of the images, [1 + draws, n]: first all 1, then those of each draw."""
    numbers = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    rng = np.random.default_rng([*b"weights", seed])
    drawn = rng.standard_exponential((draws, int(numbers.max()) + 1))[:, numbers]
    return np.concatenate([np.ones((1, count)), drawn])


def _named(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probability of the class that is named, and whether it is right."""
    return probabilities.max(1), probabilities.argmax(1) == labels


def _bin_of(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * _NUM_BINS).astype(int) - 1, 0, _NUM_BINS - 1)


def _of_true(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1)


def _entropy(shares: np.ndarray) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _calibration_error(
    confidence: np.ndarray, right: np.ndarray, place: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    gap = np.asarray(confidence, float) - right
    of_bin = np.stack([weights[:, place == b] @ gap[place == b] for b in range(_NUM_BINS)])
    return np.abs(of_bin).sum(0) / weights.sum(1)


def _error_if_right(confidence: np.ndarray, place: np.ndarray, seed: int) -> float:
    """Returns the mean error over tests in which images are right as often as is said."""
    rng, ones = np.random.default_rng([*b"calibrated", seed]), np.ones((1, len(confidence)))
    return float(
        np.mean(
            [
                _calibration_error(confidence, rng.random(len(place)) < confidence, place, ones)
                for _ in range(_MOST_DRAWS)
            ]
        )
    )


def _ranking(
    values: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ROC-AUC and average precision for each line of weights; equal values count as one."""
    order = np.argsort(-values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.inf))
    pieces: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda w: np.add.reduceat(w * positive[order], starts, axis=1),
        lambda w: np.add.reduceat(w * ~positive[order], starts, axis=1),
    ]
    ordered = weights[:, order]
    hits, misses = (piece(ordered) for piece in pieces)
    above, below = hits.cumsum(1), misses.cumsum(1)
    all_hits, all_misses = above[:, -1], below[:, -1]
    area = (misses * (above - hits / 2)).sum(1) / (all_hits * all_misses)
    precision = (hits * above / (above + below)).sum(1) / all_hits
    return area, precision
