"""How often each class shall be drawn: class counts and a target to draws per epoch.

A *target* turns the class counts n_c of a split into whole draws per epoch q_c. It is arithmetic on
the counts alone, so what a target would do is known before anything is packed.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from records.common import apportionment


@dataclasses.dataclass(frozen=True)
class Target:
    """The class distribution that training shall see.

    Attributes:
        name: `natural` (as the rows are), `undersample` (every class as the smallest),
            `oversample` (every class as the largest), `band` (each count clipped to low..high),
            `balanced` (equal shares of the epoch), `sqrt` (shares as the square roots of the
            counts), `effective` (by the effective number of samples), `shares` (as given).
        low: lower end of the band, in draws per epoch.
        high: upper end of the band.
        beta: of `effective`, in [0, 1): 0 leaves the shares natural, near 1 makes them equal.
        shares: weight of each class name for `shares`; they need not sum to 1, others get 0.
        epoch_draws: draws in an epoch for `balanced`, `sqrt`, `effective` and `shares`; 0 means as
            many as there are rows.

    Classes without rows are left out: no target draws them, the smallest class is the smallest that
    has rows, and equal shares are those of the others. Shares that name one are refused.
    """

    name: str = "natural"
    low: int = 250
    high: int = 1000
    beta: float = 0.999
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epoch_draws: int = 0

    NAMES = (
        *("natural", "undersample", "oversample", "band"),
        *("balanced", "sqrt", "effective", "shares"),
    )

    def __post_init__(self) -> None:
        if self.name not in self.NAMES:
            raise ValueError(f"target must be one of {', '.join(self.NAMES)}, got {self.name!r}")
        if not 1 <= self.low <= self.high:
            raise ValueError(f"band must be 1 <= low <= high, got {self.low}..{self.high}")
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta must lie in [0, 1), got {self.beta}")
        if self.epoch_draws < 0:
            raise ValueError(f"epoch_draws must be 0 or more, got {self.epoch_draws}")
        if self.name == "shares" and not self.shares:
            raise ValueError("target 'shares' needs a share for at least one class")
        total = sum(self.shares.values())
        if self.shares and not (min(self.shares.values()) >= 0 and 0 < total < float("inf")):
            raise ValueError(f"shares must not be negative nor all 0, got {dict(self.shares)}")


def draws_per_epoch(
    counts: Sequence[int], target: Target, class_names: Sequence[str]
) -> np.ndarray:
    """Returns how often each class is drawn in an epoch; int64 [classes].

    A class without rows is drawn 0 times, whatever the target, and the others are treated as if it
    were not there: products of attributes have such classes.

    Args:
        counts: rows of each class.
        target: the wanted distribution.
        class_names: for messages and for explicit shares.

    Raises:
        ValueError: if no class has rows, or explicit shares name an unknown class or one without
            rows.
    """
    n = np.asarray(counts, np.int64)
    if not n.any():
        raise ValueError(
            f"target {target.name!r} needs rows to draw, got class counts {n.tolist()}"
        )
    fixed = {
        "natural": lambda: n,
        "undersample": lambda: np.full_like(n, n[n > 0].min()),
        "oversample": lambda: np.full_like(n, n.max()),
        "band": lambda: np.clip(n, target.low, target.high),
    }
    if target.name in fixed:
        return np.where(n > 0, fixed[target.name](), 0)
    weights = {
        "balanced": lambda: np.sign(n),
        "sqrt": lambda: np.sqrt(n),
        # The inverse of the effective number of samples, Cui et al. 2019, arXiv:1901.05555, eq. 2,
        # times the count: the share of a class when its rows are weighted so.
        "effective": lambda: n * (1 - target.beta) / (1 - target.beta ** np.maximum(n, 1)),
        "shares": lambda: named_shares(target.shares, n, class_names),
    }
    total = target.epoch_draws or int(n.sum())
    return apportionment.largest_remainder(weights[target.name](), total)


def named_shares(
    shares: Mapping[str, float], counts: np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """Returns the weight of each class, 0 of one that is not named; float64 [classes].

    Raises:
        ValueError: if a name is unknown, or its class has a weight and no rows.
    """
    unknown = sorted(set(shares) - set(class_names))
    if unknown:
        raise ValueError(f"shares name {unknown[0]!r}; the classes are {', '.join(class_names)}")
    weights = np.array([shares.get(name, 0.0) for name in class_names])
    for label in np.flatnonzero((weights > 0) & (counts == 0)).tolist():
        name = class_names[label]
        raise ValueError(
            f"shares must be of classes with rows, got {name!r}: {shares[name]}, which has none in"
            " this split"
        )
    return weights
