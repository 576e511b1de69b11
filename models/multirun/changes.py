"""Which images two runs answer otherwise."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from models.metrics.table import Table

LOST, GAINED, OTHER = KINDS = "lost", "gained", "other"


@dataclasses.dataclass(frozen=True)
class Change:
    """An image that two runs name otherwise.

    Attributes:
        key: of the image.
        kind: `gained` (the other alone is right), `lost` (the base alone), `other` (neither).
        label: name of its class.
        base: name of the class that the base gives it.
        own: name of the class that the other gives it.
        lead: probability that the other gives its class, less what it gives the base's.
    """

    key: str
    kind: str
    label: str
    base: str
    own: str
    lead: float


def between(base: Table, own: Table, class_names: Sequence[str]) -> list[Change]:
    """Returns the images that two tables of the same images name otherwise.

    Those lost come first, then those gained, then the others; the surest first.

    Args:
        base: of the one run.
        own: of the other, the same keys in the same order.
        class_names: in label order.
    """
    was, is_now = base.predicted, own.predicted
    found = []
    for row in np.flatnonzero(was != is_now).tolist():
        label, before, after = int(base.labels[row]), int(was[row]), int(is_now[row])
        lead = float(own.probabilities[row, after] - own.probabilities[row, before])
        kind = GAINED if after == label else LOST if before == label else OTHER
        names = class_names[label], class_names[before], class_names[after]
        found.append(Change(base.keys[row], kind, *names, lead))
    return sorted(found, key=lambda change: (KINDS.index(change.kind), -change.lead, change.key))
