"""The flags of a training, which make a TrainConfig.

`train_main` defines them for its command line, `sweep_main` also for every line of its file.
"""

import os

from absl import flags

from datapipe import flags as input_flags
from models.config import TrainConfig
from models.networks.options import HEADS, NETWORKS, POOLING, NetworkOptions
from models.training import monitor
from models.training import options as training
from records.common import cli
from records.common.config_flags import Fields

flags.disclaim_key_flags()
METRICS = ("macro_f1", "accuracy", "balanced_accuracy")  # of comparisons, the default first
_DECAYING, _MOMENTUM = ("adamw", "lamb", "sgdw"), ("sgd", "sgdw")


class Training:
    """The flags that make a TrainConfig."""

    def __init__(self, values: flags.FlagValues = flags.FLAGS):
        self._values = values
        self.sampling = input_flags.Sampling(values)
        self.augmentation = input_flags.Augmentation(values)
        self.storage = input_flags.Storage(values)
        self._own = Fields(
            TrainConfig(),
            values,
            skip=("sampling", "augment", "rows", "network", "training", "hardware"),
        )
        self._network = Fields(
            NetworkOptions(),
            values,
            names={"name": "model"},
            choices={"name": sorted(NETWORKS), "head": HEADS, "pooling": POOLING},
        )
        self._define_optimization(values)
        self._hardware = Fields(
            training.HardwareOptions(),
            values,
            choices={
                "strategy": training.STRATEGIES,
                "precision": training.PRECISIONS,
                "jit_compile": training.JIT_COMPILE,
            },
        )

    def _define_optimization(self, values: flags.FlagValues) -> None:
        self._loss = Fields(
            training.LossOptions(),
            values,
            names={"name": "loss"},
            choices={"name": training.LOSSES},
            skip=("label_smoothing",),
            only=[("focal_gamma", "loss", ("focal",))],
        )
        # Not the field's default: it depends on the loss.
        self._smoothing = flags.DEFINE_float(
            "label_smoothing",
            None,
            "Label smoothing, 0 to below 1; 0.05 if not given, and 0 with --loss=soft_f1.",
            flag_values=values,
        )
        self._optimizer = Fields(
            training.OptimizerOptions(),
            values,
            names={"name": "optimizer"},
            choices={"name": training.OPTIMIZERS},
            only=[("weight_decay", "optimizer", _DECAYING), ("momentum", "optimizer", _MOMENTUM)],
        )
        self._schedule = Fields(
            training.ScheduleOptions(),
            values,
            names={"name": "schedule"},
            choices={"name": training.SCHEDULES},
            only=[
                ("warmup", "schedule", ("cosine",)),
                ("step_epochs", "schedule", ("step",)),
                ("step_factor", "schedule", ("step",)),
                ("plateau_patience", "schedule", ("plateau",)),
                ("plateau_factor", "schedule", ("plateau",)),
            ],
        )
        self._loop = Fields(
            training.TrainOptions(),
            values,
            choices={"monitor": list(monitor.MONITORS)},
            skip=("loss", "optimizer", "schedule", "seed", "jit_compile"),
        )

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names of the flags by title, for `--help`."""
        loss = [*self._loss.names, "label_smoothing"]
        first = ["epochs", "batch_size"]
        loop = [name for name in self._loop.names if name not in first]
        return {
            "data": [name for name in self._own.names if name not in first],
            "sampling": self.sampling.names,
            "augmentation": self.augmentation.names,
            "model": self._network.names,
            "optimization": [*first, *loss, *self._optimizer.names, *self._schedule.names, *loop],
            "hardware": [*self._hardware.names, *self.storage.names],
        }

    def names(self) -> list[str]:
        """Returns the names of all flags."""
        return [name for names in self.groups.values() for name in names]

    def read(self) -> TrainConfig:
        """Returns the config of the flags' values.

        Raises:
            UsageError: if a value is invalid, or a flag has no effect with the others.
        """
        self._check()
        loss = self._values["loss"].value
        smoothing = self._smoothing.value
        if smoothing is None:
            smoothing = 0.0 if loss == "soft_f1" else 0.05
        return self._own.read(
            sampling=self.sampling.read(),
            augment=self.augmentation.read(),
            rows=self.storage.read(),
            network=self._network.read(),
            training=self._loop.read(
                loss=self._loss.read(label_smoothing=smoothing),
                optimizer=self._optimizer.read(),
                schedule=self._schedule.read(),
            ),
            hardware=self._hardware.read(),
        )

    def _check(self) -> None:
        """Raises UsageError if a flag that is set has no effect."""

        def value(name: str) -> object:
            return self._values[name].value

        frozen = bool(value("init_from")) and value("freeze")
        # Flag, whether it has an effect, what it applies to.
        for name, has_effect, needed in (
            ("freeze", value("init_from"), "--init_from, which is not given"),
            ("unfreeze_epoch", frozen, "a base that is frozen by --init_from"),
            ("unfreeze_factor", frozen, "a base that is frozen by --init_from"),
            ("unfreeze_factor", value("unfreeze_epoch"), "--unfreeze_epoch above 0"),
            ("fold", value("folds"), "--folds, which is not given"),
            ("train_split", not value("folds"), "the splits of the record set, not to --folds"),
            (
                "validation_split",
                not value("folds"),
                "the splits of the record set, not to --folds",
            ),
            ("worker", value("workers") or os.environ.get("TF_CONFIG"), "--workers"),
        ):
            if self._values[name].present and not has_effect:
                raise cli.UsageError(f"--{name} only applies to {needed}")
