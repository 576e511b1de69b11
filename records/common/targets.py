"""From the class counts of a split and a target to draws per epoch.

A target is arithmetic on the counts alone, so its effect is known before anything is packed.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from records.common import apportionment, checks


@dataclasses.dataclass(frozen=True)
class Target:
    """The class distribution to train on.

    Attributes:
        name: `natural` (each row once), `undersample` (every class as often as the smallest),
            `oversample` (every class as often as the largest), `band` (counts clipped to
            low..high), `balanced` (equal shares of the epoch), `sqrt` (shares proportional to the
            square roots of the counts), `effective` (by the effective number of samples), `shares`
            (explicit shares).
        low, high: ends of the band, in draws per epoch.
        beta: for `effective`, in [0, 1): 0 keeps natural shares, near 1 makes them equal.
        shares: for `shares`, weights by class name, 0 for classes not named; any sum.
        epoch_draws: draws in an epoch for `balanced`, `sqrt`, `effective` and `shares`; 0 for the
            number of rows.

    Classes without rows are ignored: they are never drawn and never the smallest class.
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
        checks.one_of("target", self.name, self.NAMES)
        if not 1 <= self.low <= self.high:
            raise ValueError(f"band must be 1 <= low <= high, got {self.low}..{self.high}")
        checks.between("beta", self.beta, 0, 1, "[)")
        checks.at_least("epoch_draws", self.epoch_draws, 0)
        if self.name == "shares" and not self.shares:
            raise ValueError("target 'shares' needs a share for at least one class")
        total = sum(self.shares.values())
        if self.shares and not (min(self.shares.values()) >= 0 and 0 < total < float("inf")):
            raise ValueError(f"shares must not be negative nor all 0, got {dict(self.shares)}")


def draws_per_epoch(
    counts: Sequence[int], target: Target, class_names: Sequence[str]
) -> np.ndarray:
    """Returns how often each class is drawn in an epoch; int64 [classes].

    A class without rows is drawn 0 times; combinations of attributes have such classes.
    """
    n = np.asarray(counts, np.int64)
    if not n.any():
        raise ValueError(f"target {target.name!r} needs rows to draw, got counts {n.tolist()}")
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
    """Returns the weight of each class, 0 for one that is not named; float64 [classes]."""
    unknown = sorted(set(shares) - set(class_names))
    if unknown:
        raise ValueError(f"shares name {unknown[0]!r}; the classes are {', '.join(class_names)}")
    weights = np.array([shares.get(name, 0.0) for name in class_names])
    for label in np.flatnonzero((weights > 0) & (counts == 0)).tolist():
        name = class_names[label]
        raise ValueError(
            f"shares must be 0 for classes without rows in this split, got {name!r}: {shares[name]}"
        )
    return weights
