"""Predictions of a model for a dataset, matched by row number, so that order does not matter."""

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
    """Predicts class probabilities on all replicas of this process."""

    model: keras.Model  # created under the strategy's scope
    loss: str = "cross_entropy"  # the training loss, which determines what the outputs mean
    strategy: tf.distribute.Strategy = dataclasses.field(default_factory=tf.distribute.get_strategy)
    replicas: int = 1  # local replicas, each of which takes one part of a batch

    def predict(self, dataset: tf.data.Dataset, num_rows: int) -> np.ndarray:
        """Returns the class probabilities of every row, float32 [num_rows, classes].

        Args:
            dataset: every row once, each batch in one part for each replica; padding has weight 0.
            num_rows: rows of the dataset, numbered from 0.

        Raises:
            RuntimeError: if a row was repeated or missing.
        """
        result: np.ndarray = np.empty(0)
        seen = np.zeros(num_rows, np.int64)
        batches = iter(dataset)
        while parts := tuple(itertools.islice(batches, self.replicas)):
            for batch, values in zip(parts, self._predict(parts), strict=True):
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
        def on_replica(images: Sequence[tf.Tensor]) -> tf.Tensor:
            own = images[distribution.replica_number() % len(images)]
            return losses.probabilities(self.loss, self.model(own, training=False))

        def on_all(images: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
            results = self.strategy.run(on_replica, args=(images,))
            return self.strategy.experimental_local_results(results)

        compiled = tf.function(on_all, autograph=False)
        return lambda parts: compiled(tuple(part["image"] for part in parts))


def table(record_set: RecordSet, split: str, probabilities: np.ndarray) -> Table:
    """Returns a table of the probabilities, [rows, classes], and the facts in the split's index."""
    index = record_set.index(split)
    domains = record_set.manifest.domains
    return Table(
        keys=tuple(os.fsdecode(key) for key in index.keys),
        domains=tuple(domains[number] for number in index.domain),
        groups=index.group,
        labels=index.label,
        probabilities=probabilities,
    )
