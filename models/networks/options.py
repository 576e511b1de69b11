"""Options of a network and its initial weights. Does not import TensorFlow.

`NETWORKS` repeats the options of the functions that build the networks; `zoo_test.py` compares
them.
"""

import dataclasses
from typing import Any

from records.common import checks

NETWORKS = {
    "convnet": ("dropout",),
    "lenet": ("pooling", "dropout", "batch_norm"),
    "baseline20": ("dropout",),
    "resnet_bottleneck": ("dropout",),
    "googlenet": ("dropout", "batch_norm"),
    "squeezenet": ("head", "dropout"),
    "vgg16": ("head", "dropout"),
    "vgg19": ("head", "dropout"),
    "resnet50": ("head", "dropout"),
    "efficientnet": ("head", "dropout"),
    "mobilenet": ("head", "dropout"),
}
HEADS = ("gap", "linear", "mlp", "flatten", "deep")
POOLING = ("max", "average", "min")


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """The network and its initial weights.

    Attributes:
        name: Network architecture.
        dropout: Dropout rate, 0 to below 1; the network's own if not given.
        batch_norm: Batch normalization; as the network has it if not given.
        pooling: Pooling layers; min suits dark strokes on a light background.
        head: Classifier head: gap (global average pooling), linear (gap and normalization), mlp
            (one hidden layer), flatten (all features) or deep (four dense layers).
        init_from: Initial weights of the features: imagenet (downloaded), a run folder, or a file
            of weights.
        freeze: Transfer learning: train the head only at first.
    """

    name: str = "convnet"
    dropout: float | None = None
    batch_norm: bool | None = None
    pooling: str | None = None
    head: str | None = None
    init_from: str | None = None
    freeze: bool = True

    def __post_init__(self) -> None:
        checks.one_of("model", self.name, NETWORKS)
        for option in self.overrides():
            if option not in NETWORKS[self.name]:
                takes = ", ".join(NETWORKS[self.name])
                raise ValueError(f"{option} has no effect on {self.name}, which takes {takes}")
        if self.dropout is not None:
            checks.between("dropout", self.dropout, 0, 1, "[)")

    def overrides(self) -> dict[str, Any]:
        """Returns the network's own options that are set, by name."""
        options = {
            name: getattr(self, name) for name in ("dropout", "batch_norm", "pooling", "head")
        }
        return {name: value for name, value in options.items() if value is not None}

    @property
    def freezes(self) -> bool:
        """Whether the features are frozen at first."""
        return bool(self.init_from) and self.freeze

    def identity(self) -> dict[str, str]:
        """Returns the options that the initial weights depend on, by the names of the flags."""
        options = {
            "model": self.name,
            "model_options": self.overrides(),
            "init_from": self.init_from,
            "freeze": self.freezes,
        }
        return {name: str(value) for name, value in options.items()}
