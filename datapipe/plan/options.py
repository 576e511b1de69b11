"""Which rows are drawn, how often, and how much each counts in the loss. No TensorFlow."""

import dataclasses
from collections.abc import Mapping

from records.common import checks, targets

STRATA = ("none", "domain", "group")
CLASS_WEIGHTS = ("none", "balanced", "effective")


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """What is asked of a sampling plan.

    Attributes:
        target: the class distribution to train on.
        strata: Divide the draws of a class equally among its domains or groups.
        stratified_batches: Give every batch each class's share of the draws.
        class_weights: Weight of the classes in the loss: none; balanced (every class contributes
            the same); effective (inverse of the effective number of samples, see --beta); or
            class=weight,...
    """

    target: targets.Target = dataclasses.field(default_factory=targets.Target)
    strata: str = "none"
    stratified_batches: bool = False
    class_weights: str | Mapping[str, float] = "none"

    def __post_init__(self) -> None:
        checks.one_of("strata", self.strata, STRATA)
        if isinstance(self.class_weights, str):
            checks.one_of("class_weights", self.class_weights, CLASS_WEIGHTS)
