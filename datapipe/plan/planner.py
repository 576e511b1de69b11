"""The sampling plan and the class weights that options ask for, over a split of a record set."""

import numpy as np

from datapipe.plan import class_weights as weights
from datapipe.plan import sampling
from datapipe.plan.options import SamplingOptions
from records.common import cli
from records.format.record_set import RecordSet


def plan(
    opened: RecordSet, split: str, options: SamplingOptions, *, seed: int, batch_size: int
) -> sampling.SamplingPlan:
    """Returns the sampling plan over a split.

    Args:
        opened: the record set.
        split: which of its splits.
        options: what to draw.
        seed: random seed of the stream.
        batch_size: rows of a step over all replicas.

    Raises:
        ValueError: if an option does not fit the rows, or has no effect on them.
        ManifestError: if there is no such split, or its index is damaged.
    """
    index = opened.index(split)
    strata = {"none": None, "domain": index.domain, "group": index.group}[options.strata]
    made = sampling.plan(
        index.label,
        opened.manifest.class_names,
        options.target,
        seed=seed,
        batch_size=batch_size,
        strata=strata,
        stratified_batches=options.stratified_batches,
    )
    if strata is not None and not made.has_strata:
        raise ValueError(
            f"strata={options.strata} has no effect: no class of {split} has rows of two"
            f" {options.strata}s"
        )
    return made


def class_weights(plan: sampling.SamplingPlan, options: SamplingOptions) -> np.ndarray | None:
    """Returns how much the rows of each class count, float32 [classes], or None for all alike.

    Prints a warning where draws and weights both correct an imbalance.

    Raises:
        ValueError: if the weights do not fit the classes.
    """
    asked = options.class_weights
    if asked == "none":
        return None
    if not isinstance(asked, str):
        made = weights.explicit(plan, asked)
    elif asked == "balanced":
        made = weights.balanced(plan)
    else:
        made = weights.effective(plan, options.target.beta)
    warning = weights.double_correction(plan, made)
    if warning:
        print(cli.printable(f"warning: {warning}"))
    return made
