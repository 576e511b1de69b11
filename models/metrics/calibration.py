"""What probabilities are worth beside the class they name: loss, calibration, ranking.

Every score has an interval, by the Bayesian bootstrap over groups (Rubin 1981,
doi:10.1214/aos/1176345338) with a prior of one more group that shows what chance gives, so that no
test is certain; and the value that probabilities without any knowledge would give.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from models.metrics import confusion
from models.metrics.confusion import Score

_NUM_BINS = 15
_MOST_DRAWS, _FEWEST_DRAWS = 200, 20
_NUMBERS = 100_000_000  # in all draws of all rankings together, but for the fewest draws
_Z95 = 1.959963984540054
_NAMES = ("log_loss", "brier", "calibration_error", "roc_auc", "pr_auc")


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
    """Returns 15 bins of equal width, from confidence 0 to 1, of the images that have any.

    Args:
        labels: int [n].
        probabilities: float [n, classes].
    """
    finite = np.isfinite(probabilities).all(1)
    labels, probabilities = labels[finite], probabilities[finite]
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

    All are NaN if a probability is not finite, and the areas where no class ranks.

    Args:
        labels: int [n], at least 1.
        probabilities: float [n, classes].
        groups: int [n], equal for images that are not independent; without, all are.
        seed: of the draws.
    """
    count, num_classes = probabilities.shape
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(_NAMES, Score(np.nan, np.nan, np.nan, count, np.nan))
    shares = np.bincount(labels, minlength=num_classes) / count
    confidence, right = _named(labels, probabilities)
    of_true, place = probabilities[np.arange(count), labels], _bin_of(confidence)
    group = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    draws = min(_MOST_DRAWS, max(_FEWEST_DRAWS, _NUMBERS // (count * num_classes)))
    rng = np.random.default_rng([*b"weights", seed])
    weights = _weights(group, draws, rng)
    roc, precision, share = _rankings(labels, probabilities, group, weights, rng)
    square = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    entropy, miss = _entropy(shares), float((1 - shares[labels]).mean())
    found = {
        "log_loss": (_mean(-np.log(np.maximum(of_true, 1e-12)), weights), entropy, np.inf),
        "brier": (_mean(np.maximum(square - 2.0 * of_true + 1, 0), weights), miss, 2.0),
        "calibration_error": (
            _calibration_error(confidence, right, place, weights),
            _error_if_right(confidence, place, seed),
            1.0,
        ),
    }
    for values, chance, _ in found.values():
        _add_prior(values, chance, int(group.max()) + 1, rng)
    found |= {"roc_auc": (roc, 0.5, 1.0), "pr_auc": (precision, share, 1.0)}
    return {name: _score(*found[name], count) for name in _NAMES}


def _score(values: np.ndarray, chance: float, highest: float, count: int) -> Score:
    """Returns the score of a value and its draws, which stand after it: [1 + draws]."""
    value, half = float(values[0]), _Z95 * float(values[1:].std())
    return Score(value, max(0.0, value - half), min(highest, value + half), count, chance)


def _add_prior(
    values: np.ndarray, chance: float, num_groups: int, rng: np.random.Generator
) -> None:
    """Moves the draws of a value, which stand after it, as far to chance as one more group might.

    Its share of a draw is that of one exponential weight among all of them.
    """
    values[1:] += (chance - values[1:]) * rng.beta(1, num_groups, len(values) - 1)


def _weights(group: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Returns weights of the images, [1 + draws, n]: first all 1, then those of each draw."""
    drawn = rng.standard_exponential((draws, int(group.max()) + 1))[:, group]
    return np.concatenate([np.ones((1, len(group))), drawn])


def _named(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probability of the class that is named, and whether it is right."""
    return probabilities.max(1), probabilities.argmax(1) == labels


def _bin_of(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * _NUM_BINS).astype(int) - 1, 0, _NUM_BINS - 1)


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


def _rankings(
    labels: np.ndarray,
    probabilities: np.ndarray,
    group: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns both areas, [1 + draws] and means over the classes that rank, and their share.

    The areas of a class are as sure as the fewer groups of its images and of the others are many.
    """
    found, shares = [], []
    for c in range(probabilities.shape[1]):
        positive = labels == c
        share = float(positive.mean())
        if 0 < share < 1:
            areas = _ranking(probabilities[:, c], positive, weights)
            fewest = min(len(np.unique(group[part])) for part in (positive, ~positive))
            for values, chance in zip(areas, (0.5, share), strict=True):
                _add_prior(values, chance, fewest, rng)
            found.append(areas)
            shares.append(share)
    if not found:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan), 0.0
    roc, precision = np.mean(found, axis=0)
    return roc, precision, float(np.mean(shares))


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
