"""The complete config of a training as a frozen value: equal configs are the same training.

Does not import TensorFlow, so that a wrong command line is reported at once.
"""

from dataclasses import dataclass, field, replace

from datapipe.augment.options import AugmentOptions
from datapipe.plan.options import SamplingOptions
from datapipe.rows.options import RowsOptions
from models.networks.options import NetworkOptions
from models.training.options import HardwareOptions, TrainOptions
from records.common import checks


@dataclass(frozen=True)
class TrainConfig:
    """A training on a record set.

    Attributes:
        train_split: Split to train on.
        validation_split: Split that selects the best epoch.
        folds: Cross-validation with so many folds, at least 3: each fold is tested by a model
            trained on the others but one, which selects its epoch. 0 uses the splits of the set.
        fold: Train only the model that is tested on this fold, counted from 0.
        seed: Random seed for splits, sampling, augmentation, dropout and initial weights.
        batch_size: Global batch size, over all replicas.
        sampling: how often rows are drawn, and class weights.
        augment: data augmentation.
        rows: where the training split is kept.
        network: architecture and initial weights.
        training: loss, optimizer, schedule, epochs; its `seed` and `jit_compile` are not used.
        hardware: devices and precision.
    """

    train_split: str = "train"
    validation_split: str = "validation"
    folds: int = 0
    fold: int = -1
    seed: int = 0
    batch_size: int = 64
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    rows: RowsOptions = field(default_factory=RowsOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    training: TrainOptions = field(default_factory=TrainOptions)
    hardware: HardwareOptions = field(default_factory=HardwareOptions)

    def __post_init__(self) -> None:
        checks.at_least("batch_size", self.batch_size, 1)
        checks.at_least("folds", self.folds, 0)
        if self.fold != -1 and not 0 <= self.fold < self.folds:
            raise ValueError(f"fold must be below folds={self.folds}, got {self.fold}")
        if self.train_split == self.validation_split:
            raise ValueError(
                f"train_split and validation_split must differ, got {self.train_split!r} for both"
            )
        if self.folds and self.rows.residency == "stream":
            raise ValueError("folds need the rows in memory, not residency=stream")
        self.rows.check_sampling(self.sampling)
        unfreeze, epochs = self.training.unfreeze_epoch, self.training.epochs
        if unfreeze and not self.network.freezes:
            raise ValueError("unfreeze_epoch only applies to a base frozen by init_from and freeze")
        if unfreeze >= epochs:
            raise ValueError(f"unfreeze_epoch={unfreeze} is not reached in {epochs} epochs")

    def train_options(self, *, jit_compile: bool) -> TrainOptions:
        """Returns `training` with the config's seed and this `jit_compile`."""
        return replace(self.training, seed=self.seed, jit_compile=jit_compile)
