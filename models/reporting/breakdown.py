"""Scores of parts of a table of predictions: by domain, attribute, or group size."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.metrics import confusion
from models.metrics.confusion import Images, Score
from models.metrics.table import Table

_GROUP_SIZES = ((1, 1), (2, 3), (4, 7), (8, 15), (16, math.inf))
_MAIN = ("accuracy", "macro_f1", "balanced_accuracy")


def by_domain(table: Table) -> dict[str, dict[str, Score]]:
    """Returns the scores of each domain, by name; empty if there is only one."""
    domains = np.array(table.domains, object)
    if len(set(table.domains)) < 2:
        return {}
    return {
        name: _scores(table, np.flatnonzero(domains == name)) for name in sorted(set(table.domains))
    }


def by_group_size(table: Table) -> dict[str, dict[str, Score]]:
    """Returns the scores by range of group sizes, such as `2 to 3`; empty if there is only one."""
    _, number, counts = np.unique(table.groups, return_inverse=True, return_counts=True)
    size = counts[number]
    rows = {
        _range(low, high): np.flatnonzero((size >= low) & (size <= high))
        for low, high in _GROUP_SIZES
    }
    present = {name: numbers for name, numbers in rows.items() if len(numbers)}
    return {name: _scores(table, rows[name]) for name in present if len(present) > 1}


def by_attribute(
    table: Table, attributes: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Returns the scores of each attribute alone, if classes are combinations of attributes.

    Args:
        table: its classes are all combinations, the last attribute changing fastest.
        attributes: the values of each attribute, by its name.

    Returns:
        `values`, `confusion` [values, values] and the scores of each attribute.

    Raises:
        ValueError: if the number of classes is not that of the combinations.
    """
    sizes = [len(values) for values in attributes.values()]
    num_classes = table.probabilities.shape[1]
    if attributes and math.prod(sizes) != num_classes:
        raise ValueError(
            f"classes must be the {math.prod(sizes)} combinations of attributes, got {num_classes}"
        )
    found = {}
    for axis, (name, values) in enumerate(attributes.items()):
        labels, predicted = (
            np.unravel_index(column, sizes)[axis] for column in (table.labels, table.predicted)
        )
        matrix = confusion.confusion(labels, predicted, len(values))
        found[name] = {
            "values": list(values),
            "confusion": matrix.tolist(),
            **_main_scores(matrix, Images(labels, predicted, table.groups)),
        }
    return found


def _scores(table: Table, rows: np.ndarray) -> dict[str, Score]:
    labels, predicted = table.labels[rows], table.predicted[rows]
    matrix = confusion.confusion(labels, predicted, table.probabilities.shape[1])
    return _main_scores(matrix, Images(labels, predicted, table.groups[rows]))


def _main_scores(matrix: np.ndarray, images: Images) -> dict[str, Score]:
    scores = confusion.scores(matrix, images)
    return {name: scores[name] for name in _MAIN}


def _range(low: float, high: float) -> str:
    if high == math.inf:
        return f"{low:.0f} or more"
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
