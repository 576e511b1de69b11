"""How much the rows of each class count in the loss, given how often the plan draws them.

All weights are float32 [classes], made from the draws of an epoch after resampling, 0 for a class
that is never drawn, and scaled so that their mean over the draws is 1: they move the loss between
the classes and leave the learning rate alone.
"""

from collections.abc import Mapping

import numpy as np

from datapipe.plan.sampling import SamplingPlan
from records.common import checks

# A weight that somebody wrote with two digits may be off by so much and mean balance.
_MARGIN = 1.05


def balanced(plan: SamplingPlan) -> np.ndarray:
    """Returns weights under which every drawn class has the same part in the loss.

    Of E draws in an epoch, q_c of one of C drawn classes, each draw weighs E / (C * q_c). A plan
    that is balanced already gives 1 for each.
    """
    return _scaled(plan, 1 / np.maximum(plan.draws, 1))


def effective(plan: SamplingPlan, beta: float) -> np.ndarray:
    """Returns weights by the inverse of the effective number of samples of the draws.

    They are (1 - beta) / (1 - beta^q_c): Cui et al. 2019, arXiv:1901.05555, eq. 2. With beta 0 all
    are equal, near 1 they are those of `balanced`.

    Raises:
        ValueError: if beta does not lie in [0, 1).
    """
    checks.between("beta", beta, 0, 1, "[)")
    return _scaled(plan, (1 - beta) / (1 - beta ** np.maximum(plan.draws, 1)))


def explicit(plan: SamplingPlan, weights: Mapping[str, float]) -> np.ndarray:
    """Returns weights in the proportion given by class name; classes that are not named have 1.

    Raises:
        ValueError: if a name is unknown, a weight is negative or not finite, or every class that is
            drawn has weight 0.
    """
    for name, weight in weights.items():
        if name not in plan.class_names:
            raise ValueError(
                f"weights name {name!r}; the classes are {', '.join(plan.class_names)}"
            )
        checks.between(f"weight of {name!r}", weight, 0, float("inf"), "[)")
        if weight and not plan.draws[plan.class_names.index(name)]:
            raise ValueError(f"weights name {name!r}: {weight}, a class that is never drawn")
    values = np.array([weights.get(name, 1.0) for name in plan.class_names])
    if not (values * plan.draws).any():
        raise ValueError(f"a class that is drawn must have a weight above 0, got {dict(weights)}")
    return _scaled(plan, values)


def _scaled(plan: SamplingPlan, values: np.ndarray) -> np.ndarray:
    """Returns the values with a mean of 1 over the draws.

    Raises:
        ValueError: if they lie so far apart that float32 does not hold them all.
    """
    values = np.where(plan.draws > 0, values, 0) / values.max()
    scaled = (values * (plan.epoch_length / (plan.draws * values).sum())).astype(np.float32)
    if ((values > 0) & (scaled < np.finfo(np.float32).tiny)).any() or not np.isfinite(scaled).all():
        raise ValueError(f"class weights must not lie so far apart, got {values.tolist()} of 1")
    return scaled


def double_correction(plan: SamplingPlan, weights: np.ndarray) -> str:
    """Returns what is wrong where draws and weights both correct an imbalance, or an empty text.

    A class is corrected twice if, on the same side for both,

    - the draws moved its share away from its share of the rows, by more than one draw of an epoch,
      which whole numbers and whole batches explain;
    - the weights move its share of the loss further, by more than 5 %, and past balance, which is
      the same share for every class that is drawn, by more than 5 %.

    So a weight that only finishes what the draws began is no fault, nor is one that turns back, nor
    any weight where the draws follow the rows. The message names the class farthest past balance
    and the rarest class.

    Args:
        weights: [classes], of any scale.
    """
    rows = plan.counts / plan.counts.sum()
    drawn = plan.draws / plan.epoch_length
    loss = drawn * weights / (drawn * weights).sum()
    balance = 1 / np.count_nonzero(plan.draws)
    moved = (drawn - rows) * plan.epoch_length
    raised = (moved > 1) & (loss > _MARGIN * np.maximum(drawn, balance))
    lowered = (moved < -1) & (loss * _MARGIN < np.minimum(drawn, balance))
    if not (raised | lowered).any():
        return ""
    past = np.maximum(loss / balance, balance / np.maximum(loss, 1e-12))
    worst = int(np.argmax(np.where(raised | lowered, past, 0)))
    rarest = int(np.argmin(np.where(plan.draws > 0, plan.counts, plan.counts.sum() + 1)))
    said = " and ".join(
        f"class {plan.class_names[label]!r} has {rows[label]:.1%} of the rows,"
        f" {drawn[label]:.1%} of the draws and {loss[label]:.1%} of the loss"
        for label in dict.fromkeys((worst, rarest))
    )
    return (
        f"target {plan.target.name!r} and the class weights both correct the imbalance: {said},"
        f" where balance is {balance:.1%}; use one of the two, or weights made from the draws"
    )
