"""Model and dataset to a table of predictions, joined by row, so that order cannot matter."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.metrics.table import Table
from models.training import distribution, losses
from records.common.backend import keras, tf
from records.format.record_set import RecordSet


@dataclasses.dataclass(frozen=True)
class Predictor:
    """From batches to probabilities, on all replicas of this process.

    Attributes:
        model: made under the strategy's scope.
        loss: it is trained with, which says what its outputs mean.
        strategy: who computes.
        replicas: of this process, each of which takes one piece of a batch.
    """

    model: keras.Model
    loss: str = "cross_entropy"
    strategy: tf.distribute.Strategy = dataclasses.field(default_factory=tf.distribute.get_strategy)
    replicas: int = 1

    def predict(self, dataset: tf.data.Dataset, num_rows: int) -> np.ndarray:
        """Returns the class probabilities of every row, float32 [num_rows, classes].

        Args:
            dataset: every row once, in as many pieces as there are replicas; padding has weight 0.
            num_rows: how many rows there are.

        Raises:
            RuntimeError: if a row of the dataset came twice or never.
        """
        result, seen = np.empty(0), np.zeros(num_rows, np.int64)
        batches = iter(dataset)
        while pieces := tuple(itertools.islice(batches, self.replicas)):
            for batch, values in zip(pieces, self._predict(pieces), strict=True):
                real = batch["weight"].numpy() > 0
                rows = batch["row"].numpy()[real]
                if not result.size:
                    result = np.empty((num_rows, values.shape[1]), np.float32)
                result[rows] = values.numpy()[real]
                np.add.at(seen, rows, 1)
        if not (seen == 1).all():
            wrong = int((seen != 1).sum())
            raise RuntimeError(f"{wrong} of {num_rows} rows were not evaluated exactly once")
        return result

    @functools.cached_property
    def _predict(self) -> Callable[[Sequence[Any]], Sequence[tf.Tensor]]:
        def one(images: Sequence[tf.Tensor]) -> tf.Tensor:
            mine = images[distribution.replica_number() % len(images)]
            return losses.probabilities(self.loss, self.model(mine, training=False))

        def every(images: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
            found = self.strategy.run(one, args=(images,))
            return self.strategy.experimental_local_results(found)

        compiled = tf.function(every, autograph=False)
        return lambda pieces: compiled(tuple(piece["image"] for piece in pieces))


def table(record_set: RecordSet, split: str, probabilities: np.ndarray) -> Table:
    """Returns the probabilities joined with what the index knows about each row."""
    index = record_set.index(split)
    domains = record_set.manifest.domains
    return Table(
        keys=tuple(os.fsdecode(key) for key in index.keys),
        domains=tuple(domains[number] for number in index.domain),
        groups=index.group,
        labels=index.label,
        probabilities=probabilities,
    )
