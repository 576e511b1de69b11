"""The flags that say which rows are drawn, how often, and how much each counts.

A binary adopts them: `flags.adopt_module_key_flags(plan_flags)`. It has its own flags for the seed
and the size of the batch.
"""

import numpy as np
from absl import flags

from datapipe.plan import class_weights as weights
from datapipe.plan import explain, sampling
from records.common import cli, flag_values, targets
from records.common.flag_values import refuse_unless
from records.format.record_set import RecordSet

_TARGET = flags.DEFINE_enum(
    "target", "natural", targets.Target.NAMES, "Class distribution to train on."
)
_BAND_LOW = flags.DEFINE_integer("band_low", 250, "Target band: fewest draws of a class.")
_BAND_HIGH = flags.DEFINE_integer("band_high", 1000, "Target band: most draws of a class.")
_BETA = flags.DEFINE_float(
    "beta", 0.999, "Target or class weights effective: 0 natural, near 1 equal shares."
)
_SHARES = flags.DEFINE_list("shares", [], "Target shares: class=weight,class=weight,...")
_EPOCH_DRAWS = flags.DEFINE_integer("epoch_draws", 0, "Draws in an epoch; 0: as many as rows.")
_STRATA = flags.DEFINE_enum(
    "strata",
    "none",
    ("none", "domain", "group"),
    "Share the draws of a class equally among what its rows come from.",
)
_STRATIFIED_BATCHES = flags.DEFINE_bool(
    "stratified_batches", False, "Give each batch every class's share of the draws."
)
_CLASS_WEIGHTS = flags.DEFINE_list(
    "class_weights",
    ["none"],
    "How much rows count in the loss: none, balanced, effective or class=weight,class=weight,...",
)
_EXPLAIN_PLAN = flags.DEFINE_bool("explain_plan", False, "Say what the plan draws, and end.")

_NAMED_WEIGHTS = ("none", "balanced", "effective")
_WITH_EPOCH_DRAWS = ("balanced", "sqrt", "effective", "shares")


def target() -> targets.Target:
    """Returns the class distribution to train on.

    Raises:
        UsageError: if a value cannot be, or a flag has no effect beside the others.
    """
    of_targets = (
        (_BAND_LOW, ("band",)),
        (_BAND_HIGH, ("band",)),
        (_SHARES, ("shares",)),
        (_EPOCH_DRAWS, _WITH_EPOCH_DRAWS),
    )
    for holder, names in of_targets:
        belongs = f"target {' or '.join(names)}, not to {_TARGET.value}"
        refuse_unless(_TARGET.value in names, holder, belongs)
    has_beta = _TARGET.value == "effective" or _weights_name() == "effective"
    belongs = f"target or class_weights effective, not to target {_TARGET.value}"
    refuse_unless(has_beta, _BETA, belongs)
    return cli.checked(
        lambda: targets.Target(
            _TARGET.value,
            low=_BAND_LOW.value,
            high=_BAND_HIGH.value,
            beta=_BETA.value,
            shares=flag_values.by_class("shares", _SHARES.value),
            epoch_draws=_EPOCH_DRAWS.value,
        )
    )


def plan(opened: RecordSet, split: str, *, seed: int, batch_size: int) -> sampling.SamplingPlan:
    """Returns the sampling plan over a split.

    Args:
        opened: the record set.
        split: which of its splits.
        seed: of the stream.
        batch_size: rows of a step over all replicas.

    Raises:
        UsageError: if a flag does not fit the rows, or has no effect on them.
        ManifestError: if there is no such split, or its index is damaged.
    """
    index, wanted = opened.index(split), target()
    strata = {"none": None, "domain": index.domain, "group": index.group}[_STRATA.value]
    made = cli.checked(
        lambda: sampling.plan(
            index.label,
            opened.manifest.class_names,
            wanted,
            seed=seed,
            batch_size=batch_size,
            strata=strata,
            stratified_batches=_STRATIFIED_BATCHES.value,
        )
    )
    if strata is not None and not made.has_strata:
        raise cli.UsageError(
            f"--strata={_STRATA.value} has no effect: no class of {split} has rows of two"
            f" {_STRATA.value}s"
        )
    return made


def class_weights(plan: sampling.SamplingPlan) -> np.ndarray | None:
    """Returns how much the rows of each class count, float32 [classes], or None for all alike.

    Prints a warning where draws and weights both correct an imbalance.

    Raises:
        UsageError: if the weights do not fit the classes.
    """
    made = cli.checked(lambda: _weights(plan))
    warning = "" if made is None else weights.double_correction(plan, made)
    if warning:
        print(cli.printable(f"warning: {warning}"))
    return made


def explained(plan: sampling.SamplingPlan) -> bool:
    """Prints what the plan draws if `--explain_plan` asks for it; returns whether it does."""
    if _EXPLAIN_PLAN.value:
        print(explain.explain(plan))
    return bool(_EXPLAIN_PLAN.value)


def _weights_name() -> str:
    """Returns a name of `_NAMED_WEIGHTS`, or nothing where weights are given by class."""
    named = len(_CLASS_WEIGHTS.value) == 1 and _CLASS_WEIGHTS.value[0] in _NAMED_WEIGHTS
    return _CLASS_WEIGHTS.value[0] if named else ""


def _weights(plan: sampling.SamplingPlan) -> np.ndarray | None:
    match _weights_name():
        case "none":
            return None
        case "balanced":
            return weights.balanced(plan)
        case "effective":
            return weights.effective(plan, _BETA.value)
    if not any("=" in part for part in _CLASS_WEIGHTS.value):
        raise ValueError(
            f"--class_weights must be {', '.join(_NAMED_WEIGHTS)} or class=weight,..., got"
            f" {','.join(_CLASS_WEIGHTS.value)!r}"
        )
    return weights.explicit(plan, flag_values.by_class("class_weights", _CLASS_WEIGHTS.value))
