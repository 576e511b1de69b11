"""Options of a training: frozen dataclasses, checked when created. Does not import TensorFlow.

The lines under `Attributes` are also the help of the command line, see `config_flags`.
"""

import dataclasses
import math
from typing import Any

from models.training import monitor as monitors
from records.common import checks

LOSSES = ("cross_entropy", "binary_cross_entropy", "focal", "soft_f1")
OPTIMIZERS = ("sgd", "adam", "adamw", "lamb", "sgdw")
SCHEDULES = ("constant", "cosine", "step", "plateau")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("auto", "one", "mirrored", "multiworker")
JIT_COMPILE = ("auto", "true", "false")


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """The loss function.

    Attributes:
        name: Loss function; binary_cross_entropy is one sigmoid per class, soft_f1 is 1 minus the
            macro F1 of the batch.
        label_smoothing: Label smoothing, the share of each label spread evenly over all classes, 0
            to below 1. Must be 0 with soft_f1, whose labels are counts: smoothed, every class would
            seem to be in every batch.
        focal_gamma: Focusing parameter; 0 is cross-entropy, larger values emphasize hard examples.
    """

    name: str = "cross_entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0

    def __post_init__(self) -> None:
        checks.one_of("loss", self.name, LOSSES)
        checks.between("label_smoothing", self.label_smoothing, 0, 1, "[)")
        if self.name == "soft_f1" and self.label_smoothing:
            raise ValueError(
                f"label_smoothing must be 0 with loss soft_f1, got {self.label_smoothing}"
            )
        checks.between("focal_gamma", self.focal_gamma, 0, math.inf, "[)")


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The optimizer.

    Attributes:
        name: Optimizer; sgd and sgdw use Nesterov momentum, lamb needs TF-Addons (Python 3.11 or
            older).
        learning_rate: Peak learning rate of the schedule, above 0.
        weight_decay: Decoupled weight decay; biases and normalization layers are exempt.
        momentum: Nesterov momentum, 0 to below 1.
        lookahead: Wrap the optimizer in Lookahead (k=6, alpha=0.5; needs TF-Addons).
        moving_average: Decay of an exponential moving average of the weights, which is what is
            evaluated and saved; 0 keeps none (needs TF-Addons).
    """

    name: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    lookahead: bool = False
    moving_average: float = 0.0

    def __post_init__(self) -> None:
        checks.one_of("optimizer", self.name, OPTIMIZERS)
        checks.between("learning_rate", self.learning_rate, 0, math.inf, "()")
        checks.between("weight_decay", self.weight_decay, 0, math.inf, "[)")
        for field in ("momentum", "moving_average"):
            checks.between(field, getattr(self, field), 0, 1, "[)")


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """The learning-rate schedule.

    Attributes:
        name: Learning-rate schedule: constant; cosine decay to 0 after a linear warm-up; step decay
            every --step_epochs; plateau, which lowers the rate when --monitor stops improving.
        warmup: Linear warm-up from 0, as a share of all steps, 0 to below 1; 0.05 if not given.
        step_epochs: Epochs between two reductions of the learning rate, at least 1.
        step_factor: Factor of each reduction, above 0 and at most 1.
        plateau_patience: Epochs without improvement before the rate is reduced, at least 1.
        plateau_factor: Factor of each reduction, above 0 and at most 1.
    """

    name: str = "cosine"
    warmup: float | None = None
    step_epochs: int = 10
    step_factor: float = 0.5
    plateau_patience: int = 5
    plateau_factor: float = 0.5

    def __post_init__(self) -> None:
        checks.one_of("schedule", self.name, SCHEDULES)
        checks.between("warmup", self.warmup or 0, 0, 1, "[)")
        if self.warmup and self.name != "cosine":
            raise ValueError(f"warmup must be 0 with schedule {self.name}, got {self.warmup}")
        for field in ("step_epochs", "plateau_patience"):
            checks.at_least(field, getattr(self, field), 1)
        for field in ("step_factor", "plateau_factor"):
            checks.between(field, getattr(self, field), 0, 1, "(]")


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        epochs: Number of epochs; one epoch is the sampling plan's draws, rounded to whole batches.
        loss: the loss function.
        optimizer: the optimizer, and the peak learning rate.
        schedule: the learning-rate schedule.
        monitor: Validation metric that selects the best epoch (the latest of equal ones) and drives
            plateau and early stopping; epoch always keeps the last.
        stop_patience: Early stopping: epochs without improvement before training stops; 0 never
            stops early.
        unfreeze_epoch: Epochs after which the frozen base is fine-tuned too; 0 keeps it frozen.
        unfreeze_factor: Factor on the learning rate once the base is trained.
        max_skipped: Steps with a non-finite loss that are skipped before training fails.
        steps_per_execution: Steps per call of the compiled loop; 0 chooses what takes half a
            second.
        checkpoint_seconds: Seconds between checkpoints within an epoch, 0 for one after each call;
            the end of an epoch always saves one.
        seed: seeds dropout.
        jit_compile: compile the training step with XLA.
    """

    epochs: int = 30
    loss: LossOptions = LossOptions(label_smoothing=0.05)
    optimizer: OptimizerOptions = OptimizerOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    monitor: str = "val_macro_f1"
    stop_patience: int = 0
    unfreeze_epoch: int = 0
    unfreeze_factor: float = 0.1
    max_skipped: int = 100
    steps_per_execution: int = 0
    checkpoint_seconds: float = 60.0
    seed: int = 0
    jit_compile: bool = False

    def __post_init__(self) -> None:
        monitors.check_monitor(self.monitor)
        checks.at_least("epochs", self.epochs, 1)
        for name in ("stop_patience", "unfreeze_epoch", "max_skipped", "steps_per_execution"):
            checks.at_least(name, getattr(self, name), 0)
        checks.at_least("checkpoint_seconds", self.checkpoint_seconds, 0)
        checks.between("unfreeze_factor", self.unfreeze_factor, 0, math.inf, "()")

    def identity(self) -> dict[str, Any]:
        """Returns the options that the result of a training depends on, by name."""
        fields = dataclasses.asdict(self)
        for name in ("max_skipped", "steps_per_execution", "checkpoint_seconds"):
            del fields[name]
        return {
            f"{name}.{part}" if isinstance(value, dict) else name: inner
            for name, value in fields.items()
            for part, inner in (value.items() if isinstance(value, dict) else [("", value)])
        }


@dataclasses.dataclass(frozen=True)
class HardwareOptions:
    """The devices and processes of a training.

    Attributes:
        strategy: Distribution strategy: one device, mirrored over all local devices, multiworker
            over processes; auto is multiworker where --workers or TF_CONFIG name some, mirrored
            with several GPUs, else one.
        precision: Compute precision (Keras mixed-precision policy).
        jit_compile: Compile the training step with XLA; auto does on a single GPU.
        cpu_devices: Logical devices the CPU is split into, to try mirrored without GPUs.
        workers: Addresses host:port of all processes of a multiworker training; TF_CONFIG if not
            given.
        worker: Index of this process in --workers; process 0 writes the files.
    """

    strategy: str = "auto"
    precision: str = "float32"
    jit_compile: str = "auto"
    cpu_devices: int = 1
    workers: tuple[str, ...] = ()
    worker: int = 0

    def __post_init__(self) -> None:
        checks.one_of("strategy", self.strategy, STRATEGIES)
        checks.one_of("precision", self.precision, PRECISIONS)
        checks.one_of("jit_compile", self.jit_compile, JIT_COMPILE)
        checks.at_least("cpu_devices", self.cpu_devices, 1)
