"""Scores from integer confusion counts, each with its interval and what chance would give. NumPy.

A confusion matrix is int64 [classes, classes], true classes down, predicted ones across. Matrices
of parts of the data are merged by adding them; only then is anything divided.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

_POSTERIOR_DRAWS = 4000  # fewer for many classes: 400 at 1,000 classes
_POSTERIOR_CELLS = 40_000_000  # random numbers in all; they take 2 seconds
_POSTERIOR_PIECES = 20
_Z95 = 1.959963984540054  # the standard normal quantile of 0.975


@dataclasses.dataclass(frozen=True)
class Score:
    """A value with its 95 % interval, the images behind it, and the value that chance would give.

    `chance` is the score to be expected of predictions that are unrelated to the images but name
    each class as often as these do.
    """

    value: float
    low: float
    high: float
    count: int
    chance: float

    def __str__(self) -> str:
        return (
            f"{self.value:.4f} (95 % interval {self.low:.4f} to {self.high:.4f},"
            f" {self.count:,} images, chance {self.chance:.4f})"
        )


def confusion(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns how often each class was taken for each other."""
    pairs = labels.astype(np.int64) * num_classes + predicted
    counts = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Returns precision, recall, f1 and support of each class; [..., classes] each.

    A ratio with nothing to divide by is 0, as in scikit-learn. Leading axes are kept.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    support, named = matrix.sum(-1), matrix.sum(-2)
    return {
        "precision": _ratio(hits, named),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + named),
        "support": support,
    }


def accuracy_of(matrix: np.ndarray) -> np.ndarray:
    """Returns the share of hits; leading axes are kept."""
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)))


def macro_f1_of(matrix: np.ndarray) -> np.ndarray:
    """Returns the plain mean of F1 over the classes that occur, as truth or as prediction."""
    occurs = (matrix.sum(-1) + matrix.sum(-2)) > 0
    return _ratio((per_class(matrix)["f1"] * occurs).sum(-1), occurs.sum(-1))


def balanced_accuracy_of(matrix: np.ndarray) -> np.ndarray:
    """Returns the plain mean of recall over the classes that have images."""
    occurs = matrix.sum(-1) > 0
    return _ratio((per_class(matrix)["recall"] * occurs).sum(-1), occurs.sum(-1))


def if_unrelated(matrix: np.ndarray) -> np.ndarray:
    """Returns the counts to be expected if predictions had nothing to do with the images."""
    return np.outer(matrix.sum(1), matrix.sum(0)) / max(matrix.sum(), 1)


def scores(matrix: np.ndarray, *, seed: int = 0) -> dict[str, Score]:
    """Returns accuracy, macro F1 and balanced accuracy.

    Accuracy has a Wilson interval. The others have that of the posterior of the counts, each row
    of the matrix a Dirichlet with a prior of one image spread evenly over the whole matrix (Goutte
    and Gaussier 2005, doi:10.1007/978-3-540-31865-1_25). Resampling the images would call a test
    without mistakes certain; this does not.
    """
    count, hits = int(matrix.sum()), int(np.trace(matrix))
    expected = if_unrelated(matrix)
    low, high = wilson(hits, count)
    result = {
        "accuracy": Score(hits / max(count, 1), low, high, count, float(accuracy_of(expected)))
    }
    functions = {"macro_f1": macro_f1_of, "balanced_accuracy": balanced_accuracy_of}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in functions}
    for matrices in _posterior(matrix, seed):
        for name, function in functions.items():
            drawn[name].append(function(matrices))
    for name, function in functions.items():
        value, chance = float(function(matrix)), float(function(expected))
        low, high = np.quantile(np.concatenate(drawn[name]), [0.025, 0.975])
        result[name] = Score(value, min(float(low), value), max(float(high), value), count, chance)
    return result


def _posterior(matrix: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yields draws of the matrix, float64 [draws, classes, classes], in pieces of bounded size."""
    cells, rng = matrix.size, np.random.default_rng(seed)
    for _ in range(_POSTERIOR_PIECES):
        draws = max(10, min(_POSTERIOR_DRAWS, _POSTERIOR_CELLS // cells) // _POSTERIOR_PIECES)
        drawn = rng.standard_gamma(matrix + 1 / cells, (draws, *matrix.shape))
        drawn_rows = drawn.sum(2, keepdims=True)  # 0 where a class has no image: it stays 0
        yield drawn * np.divide(
            matrix.sum(1)[:, None], drawn_rows, out=np.zeros_like(drawn_rows), where=drawn_rows > 0
        )


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a proportion (Wilson 1927, doi:10.2307/2276774)."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = hits / count, _Z95**2
    middle = share + z2 / (2 * count)
    half = _Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return (
        max(0.0, (middle - half) / (1 + z2 / count)),
        min(1.0, (middle + half) / (1 + z2 / count)),
    )


def chance_z(matrix: np.ndarray) -> float:
    """Returns how many standard deviations the hits lie above those of unrelated predictions.

    Mean and variance are those of the number of hits when the predictions are dealt to the images
    at random (the permutation distribution of a bilinear statistic, Hoeffding 1951,
    doi:10.1214/aoms/1177729545). 0 where nothing could vary, such as one class predicted always.
    """
    count = int(matrix.sum())
    if count < 2:
        return 0.0
    support, named = matrix.sum(1), matrix.sum(0)
    hit = np.eye(len(matrix))
    centred = hit - (named / count)[:, None] - (support / count)[None, :]
    centred += (support * named).sum() / count**2
    variance = (support[:, None] * named[None, :] * centred**2).sum() / (count - 1)
    excess = np.trace(matrix) - (support * named).sum() / count
    return float(excess / math.sqrt(variance)) if variance > 1e-12 else 0.0


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the mean negative log probability of the true class, in nats."""
    of_true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_true, 1e-12)).mean())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
