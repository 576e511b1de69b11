"""Predictions of a split, a line for each image."""

import dataclasses

import numpy as np

from models.metrics import confusion as metrics


@dataclasses.dataclass(frozen=True)
class Table:
    """One line for each evaluated image.

    Attributes:
        keys: source paths.
        domains: names, empty where there is only one.
        groups: int64 [n], equal for images that belong together; only equality means something.
        labels: int [n].
        probabilities: float32 [n, classes].
    """

    keys: tuple[str, ...]
    domains: tuple[str, ...]
    groups: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64 [n]."""
        return self.probabilities.argmax(1)

    @property
    def images(self) -> metrics.Images:
        """What intervals must know of the images behind the counts."""
        return metrics.Images(self.labels, self.predicted, self.groups)

    @property
    def confusion(self) -> np.ndarray:
        """Integer counts, [true, predicted]."""
        return metrics.confusion(self.labels, self.predicted, self.probabilities.shape[1])
