"""What a sampling plan does with each class, as data and as tables to read before training."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from datapipe.plan.sampling import SamplingPlan
from records.common import cli

_LISTED = 20  # names in a line before the rest is only counted


@dataclasses.dataclass(frozen=True)
class ClassUse:
    """How the plan draws the rows of one class.

    The fewest and most times are those of any epoch, not of the first alone: an epoch begins within
    the pass that the one before broke off, so 12 draws from 10 rows may draw a row 0, 1 or 2 times.

    Attributes:
        name: of the class.
        rows: of the class.
        draws: in an epoch.
        row_draws: the fewest and most times that an epoch can draw one row.
        epochs: within so many every row is drawn; with strata by chance sooner. None for never.
        strata: that hold rows of the class; 1 without strata.
        stratum_rows: rows of the smallest and of the largest stratum.
        stratum_draws: the fewest and most times that an epoch can draw from one stratum.
        stratum_epochs: within so many every stratum is drawn from. None for never.
    """

    name: str
    rows: int
    draws: int
    row_draws: tuple[int, int]
    epochs: int | None
    strata: int
    stratum_rows: tuple[int, int]
    stratum_draws: tuple[int, int]
    stratum_epochs: int | None


def class_uses(plan: SamplingPlan) -> list[ClassUse]:
    """Returns how each class is drawn, in label order."""
    stratum_rows = np.split(plan.stratum_counts, plan.strata.cumsum()[:-1])
    columns = zip(plan.class_names, plan.draws.tolist(), stratum_rows, strict=True)
    return [_class_use(name, draws, rows[rows > 0]) for name, draws, rows in columns]


def _class_use(name: str, draws: int, stratum_rows: np.ndarray) -> ClassUse:
    # A stratum is drawn from once in as many draws of the class as there are strata, so a pass over
    # its rows takes strata times rows draws of the class.
    strata, most = len(stratum_rows), int(stratum_rows.max(initial=0))
    return ClassUse(
        name=name,
        rows=int(stratum_rows.sum()),
        draws=draws,
        row_draws=_times(draws, strata * stratum_rows),
        epochs=_epochs(draws, strata * most),
        strata=strata,
        stratum_rows=(int(stratum_rows.min(initial=most)), most),
        stratum_draws=_times(draws, np.array([strata])),
        stratum_epochs=_epochs(draws, strata),
    )


def _times(draws: int, lengths: np.ndarray) -> tuple[int, int]:
    """Returns the fewest and most times an epoch can draw what is drawn once in each pass.

    An epoch of q = full * n + rest draws begins at some multiple of s = gcd(q, n) in a pass of n.
    It holds `full` whole passes unless more than `rest` is left of the one it begins in: then it
    holds one less, and what stands in neither of the two broken passes is drawn that often. What
    stands in both is drawn twice more; two broken passes beside `full` whole ones need rest > s.

    Args:
        draws: q, of the class in an epoch.
        lengths: int64 [k], the n of several kinds of passes over the class.
    """
    if draws == 0:
        return 0, 0
    full, rest = np.divmod(draws, lengths)
    step = np.gcd(draws, lengths)
    one_less = (rest > 0) & (lengths - step > rest)
    fewest = np.maximum(full - one_less, 0)
    most = full + (rest > 0) + (rest > step)
    return int(fewest.min()), int(most.max())


def _epochs(draws: int, length: int) -> int | None:
    return -(-length // draws) if draws else None


def explain(plan: SamplingPlan) -> str:
    """Returns a table of the classes, one of their strata if there are any, and remarks."""
    uses = class_uses(plan)
    parts = [_class_table(uses)]
    if plan.has_strata:
        parts.append(_strata_table(uses))
    return "\n\n".join([*parts, "\n".join(_remarks(plan, uses))])


def _class_table(uses: Sequence[ClassUse]) -> str:
    rows, draws = sum(use.rows for use in uses), sum(use.draws for use in uses)
    lines: list[Sequence[object]] = [
        (
            *("class", "rows", "of rows", "draws", "of draws"),
            *("draws a row", "in an epoch", "all drawn within"),
        )
    ]
    for use in uses:
        of_rows, of_draws = f"{use.rows / rows:.1%}", f"{use.draws / draws:.1%}"
        drawn = ("-", "-", "-")
        if use.rows:
            drawn = f"{use.draws / use.rows:.2f}", _span(use.row_draws), _in_epochs(use.epochs)
        lines.append((use.name, use.rows, of_rows, use.draws, of_draws, *drawn))
    mean = f"{draws / rows:.2f}"
    return cli.table([*lines, ("total", rows, "100.0%", draws, "100.0%", mean, "", "")])


def _strata_table(uses: Sequence[ClassUse]) -> str:
    lines: list[Sequence[object]] = [
        ("class", "strata", "rows of one", "draws of one in an epoch", "all drawn within")
    ]
    for use in uses:
        drawn = (
            (_span(use.stratum_draws), _in_epochs(use.stratum_epochs)) if use.rows else ("-", "-")
        )
        lines.append((use.name, use.strata, _span(use.stratum_rows), *drawn))
    return cli.table(lines)


def _remarks(plan: SamplingPlan, uses: Sequence[ClassUse]) -> list[str]:
    drawn = [use for use in uses if use.draws]
    undrawn = [use for use in uses if use.rows and not use.draws]
    epochs, most = max(use.epochs or 0 for use in drawn), max(use.row_draws[1] for use in drawn)
    often = [use for use in drawn if use.row_draws[1] == most]
    lines = [
        f"target {plan.target.name}: {plan.epoch_length:,} draws an epoch,"
        f" {plan.steps_per_epoch:,} steps of {plan.batch_size:,}",
        f"every row that is drawn at all is drawn within {_in_epochs(epochs)}",
        f"most often drawn: rows of {_listed(often)}, up to {most:,} in an epoch",
    ]
    if plan.stratified_batches:
        lines.append("each batch holds every class's share of the draws to within one row")
    if undrawn:
        rows = sum(use.rows for use in undrawn)
        lines.append(f"never drawn: {rows:,} rows of {_listed(undrawn)}")
    if plan.empty:
        lines.append(f"without rows: {_listed([uses[label] for label in plan.empty])}")
    return lines + _band_remarks(plan, uses)


def _band_remarks(plan: SamplingPlan, uses: Sequence[ClassUse]) -> list[str]:
    low, high = plan.target.low, plan.target.high
    if plan.target.name != "band":
        return []
    above = [use for use in uses if use.rows > high]
    below = [use for use in uses if 0 < use.rows < low]
    return [
        f"above the band of {low:,} to {high:,} rows: {_listed(above)}",
        f"below it: {_listed(below)}",
    ]


def _listed(uses: Sequence[ClassUse]) -> str:
    names = [cli.printable(use.name) for use in uses[:_LISTED]]
    more = [f"{len(uses) - _LISTED:,} more"] if len(uses) > _LISTED else []
    return ", ".join(names + more) or "none"


def _span(ends: tuple[int, int]) -> str:
    low, high = ends
    return f"{low:,} to {high:,}" if low != high else f"{low:,}"


def _in_epochs(epochs: int | None) -> str:
    if epochs is None:
        return "never"
    return f"{epochs:,} epoch" + "s" * (epochs != 1)
