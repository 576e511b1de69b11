"""Predictions on a split, one row for each image."""

import dataclasses

import numpy as np

from models.metrics import confusion
from models.metrics.confusion import Images


@dataclasses.dataclass(frozen=True)
class Table:
    """The predictions for n images."""

    keys: tuple[str, ...]  # source paths
    domains: tuple[str, ...]  # names, empty if there is only one domain
    groups: np.ndarray  # int64 [n], equal for images that belong together
    labels: np.ndarray  # int [n]
    probabilities: np.ndarray  # float32 [n, classes]

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64 [n]."""
        return self.probabilities.argmax(1)

    @property
    def images(self) -> Images:
        """The grouped outcomes that intervals are computed from."""
        return Images(self.labels, self.predicted, self.groups)

    @property
    def confusion(self) -> np.ndarray:
        """Integer counts, [true, predicted]."""
        return confusion.confusion(self.labels, self.predicted, self.probabilities.shape[1])
