"""The flags that say how a network is trained.

A binary adopts them: `flags.adopt_module_key_flags(training_flags)`.
"""

from absl import flags

from models.training import loop, losses, monitor, optimizers
from records.common import cli

_LOSS = losses.LossOptions()
_OPTIMIZER = optimizers.OptimizerOptions()
_SCHEDULE = optimizers.ScheduleOptions()
_TRAIN = loop.TrainOptions()

_EPOCHS = flags.DEFINE_integer("epochs", _TRAIN.epochs, "Epochs, each the plan's in whole batches.")
_LOSS_NAME = flags.DEFINE_enum("loss", _LOSS.name, losses.NAMES, "What is minimized.")
_LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing", None, "Share spread over all classes; 0.05, with soft_f1 0."
)
_FOCAL_GAMMA = flags.DEFINE_float(
    "focal_gamma", _LOSS.focal_gamma, "Loss focal: 0 is cross-entropy, more turns to hard rows."
)
_OPTIMIZER_NAME = flags.DEFINE_enum(
    "optimizer", _OPTIMIZER.name, optimizers.NAMES, "Optimizer; lamb and sgdw by TF-Addons."
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", _OPTIMIZER.learning_rate, "Highest rate of the schedule."
)
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", _OPTIMIZER.weight_decay, "Of adamw, lamb and sgdw."
)
_MOMENTUM = flags.DEFINE_float("momentum", _OPTIMIZER.momentum, "Of sgd and sgdw.")
_LOOKAHEAD = flags.DEFINE_bool(
    "lookahead", _OPTIMIZER.lookahead, "Go half of the way back every 6 steps (TF-Addons)."
)
_MOVING_AVERAGE = flags.DEFINE_float(
    "moving_average", _OPTIMIZER.moving_average, "Decay of averaged weights, 0: none (TF-Addons)."
)
_SCHEDULE_NAME = flags.DEFINE_enum(
    "schedule", _SCHEDULE.name, optimizers.SCHEDULES, "Of the learning rate."
)
_WARMUP = flags.DEFINE_float(
    "warmup", _SCHEDULE.warmup, "Schedule cosine: share of the steps to warm up for; 0.05."
)
_STEP_EPOCHS = flags.DEFINE_integer(
    "step_epochs", _SCHEDULE.step_epochs, "Schedule step: epochs between two falls."
)
_STEP_FACTOR = flags.DEFINE_float(
    "step_factor", _SCHEDULE.step_factor, "Schedule step: what the rate falls by."
)
_PLATEAU_PATIENCE = flags.DEFINE_integer(
    "plateau_patience", _SCHEDULE.plateau_patience, "Schedule plateau: epochs without a better one."
)
_PLATEAU_FACTOR = flags.DEFINE_float(
    "plateau_factor", _SCHEDULE.plateau_factor, "Schedule plateau: what the rate falls by."
)
_MONITOR = flags.DEFINE_enum(
    "monitor",
    _TRAIN.monitor,
    list(monitor.MONITORS),
    "Whose best epoch is kept, and which plateau and stopping watch.",
)
_STOP_PATIENCE = flags.DEFINE_integer(
    "stop_patience", _TRAIN.stop_patience, "Stop after so many epochs without a better one; 0: no."
)
_UNFREEZE_EPOCH = flags.DEFINE_integer(
    "unfreeze_epoch", _TRAIN.unfreeze_epoch, "Epochs after which a frozen base is trained too."
)
_UNFREEZE_FACTOR = flags.DEFINE_float(
    "unfreeze_factor", _TRAIN.unfreeze_factor, "Of the learning rate from then on."
)
_MAX_SKIPPED = flags.DEFINE_integer(
    "max_skipped", _TRAIN.max_skipped, "End after more steps than this without a finite loss."
)
_STEPS_PER_EXECUTION = flags.DEFINE_integer(
    "steps_per_execution", _TRAIN.steps_per_execution, "Steps of one call; 0: half a second's."
)
_CHECKPOINT_SECONDS = flags.DEFINE_float(
    "checkpoint_seconds", _TRAIN.checkpoint_seconds, "Between checkpoints within an epoch."
)
_JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile",
    "auto",
    ("auto", "true", "false"),
    "Compile the training step with XLA; auto: on one GPU.",
)


def check(*, freezes: bool) -> None:
    """Refuses flags that have no effect beside the others.

    Args:
        freezes: whether there is a frozen base.

    Raises:
        UsageError: if there is one.
    """
    loss, optimizer, schedule = _LOSS_NAME.value, _OPTIMIZER_NAME.value, _SCHEDULE_NAME.value
    for holder, kind, chosen, takers in (
        (_FOCAL_GAMMA, "loss", loss, ("focal",)),
        (_WEIGHT_DECAY, "optimizer", optimizer, ("adamw", "lamb", "sgdw")),
        (_MOMENTUM, "optimizer", optimizer, ("sgd", "sgdw")),
        (_WARMUP, "schedule", schedule, ("cosine",)),
        (_STEP_EPOCHS, "schedule", schedule, ("step",)),
        (_STEP_FACTOR, "schedule", schedule, ("step",)),
        (_PLATEAU_PATIENCE, "schedule", schedule, ("plateau",)),
        (_PLATEAU_FACTOR, "schedule", schedule, ("plateau",)),
    ):
        if holder.present and chosen not in takers:
            belongs = f"{kind} {' or '.join(takers)}, not to {chosen}"
            raise cli.UsageError(f"--{holder.name} belongs to {belongs}")
    for holder in (_UNFREEZE_EPOCH, _UNFREEZE_FACTOR):
        if holder.present and not freezes:
            raise cli.UsageError(f"--{holder.name} belongs to a base that is frozen by --init_from")
    if _UNFREEZE_FACTOR.present and not _UNFREEZE_EPOCH.value:
        raise cli.UsageError("--unfreeze_factor belongs to --unfreeze_epoch, which is 0")
    if _UNFREEZE_EPOCH.value >= max(_EPOCHS.value, 1):
        raise cli.UsageError(
            f"--unfreeze_epoch={_UNFREEZE_EPOCH.value} is not reached in {_EPOCHS.value} epochs"
        )


def options(*, seed: int, one_gpu: bool) -> loop.TrainOptions:
    """Returns how to train.

    Args:
        seed: of dropout.
        one_gpu: whether one replica computes on a GPU, which is where XLA is taken by default.

    Raises:
        ValueError: if a value cannot be.
    """
    smoothing = _LABEL_SMOOTHING.value
    if smoothing is None:
        smoothing = 0.0 if _LOSS_NAME.value == "soft_f1" else 0.05
    return loop.TrainOptions(
        epochs=_EPOCHS.value,
        loss=losses.LossOptions(_LOSS_NAME.value, smoothing, _FOCAL_GAMMA.value),
        optimizer=optimizers.OptimizerOptions(
            name=_OPTIMIZER_NAME.value,
            learning_rate=_LEARNING_RATE.value,
            weight_decay=_WEIGHT_DECAY.value,
            momentum=_MOMENTUM.value,
            lookahead=_LOOKAHEAD.value,
            moving_average=_MOVING_AVERAGE.value,
        ),
        schedule=optimizers.ScheduleOptions(
            name=_SCHEDULE_NAME.value,
            warmup=_WARMUP.value,
            step_epochs=_STEP_EPOCHS.value,
            step_factor=_STEP_FACTOR.value,
            plateau_patience=_PLATEAU_PATIENCE.value,
            plateau_factor=_PLATEAU_FACTOR.value,
        ),
        monitor=_MONITOR.value,
        stop_patience=_STOP_PATIENCE.value,
        unfreeze_epoch=_UNFREEZE_EPOCH.value,
        unfreeze_factor=_UNFREEZE_FACTOR.value,
        max_skipped=_MAX_SKIPPED.value,
        steps_per_execution=_STEPS_PER_EXECUTION.value,
        checkpoint_seconds=_CHECKPOINT_SECONDS.value,
        seed=seed,
        jit_compile=one_gpu if _JIT_COMPILE.value == "auto" else _JIT_COMPILE.value == "true",
    )
