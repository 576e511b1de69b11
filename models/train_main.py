"""Trains a classifier on a record set, or on a folder of images that is packed first.

    python -m models.train_main --records=photos.records --run_dir=runs/photos
    python -m models.train_main --source=photos --run_dir=runs/photos --target=balanced

Then: python -m models.evaluate_main --run_dir=runs/photos
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import flags

from datapipe import (
    augment_flags,
    options,
    pipeline,
    plan_flags,
    residency,
    resident,
    rows_flags,
    sampling,
    streaming,
)
from datapipe.flag_values import checked
from models import addons, evaluation, runs, runtime, training, zoo
from records import build_main, cli, manifest, record_set, tfrecord
from records.backend import keras, tf

# --source and all that goes with it: the flags of the build.
flags.adopt_module_key_flags(build_main)
for module in (plan_flags, augment_flags, rows_flags):
    flags.adopt_module_key_flags(module)
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set to train on.")
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Folder for the results; must hold no finished run."
)
_TRAIN_SPLIT = flags.DEFINE_string("train_split", "train", "Split to train on.")
_VALIDATION_SPLIT = flags.DEFINE_string(
    "validation_split", "validation", "Split that chooses the epoch to keep."
)
_MODEL = flags.DEFINE_enum("model", "convnet", sorted(zoo.MODELS), "Network.")
_PRECISION = flags.DEFINE_enum("precision", "float32", runtime.PRECISIONS, "Of the arithmetic.")
_STRATEGY = flags.DEFINE_enum(
    "strategy", "one", runtime.STRATEGIES, "One device, or mirrored over all."
)
_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices", 1, "Logical devices to divide the CPU into, to try mirrored without GPUs."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Global batch, over all replicas.")
_EPOCHS = flags.DEFINE_integer("epochs", 30, "Epochs, each the plan's in whole batches.")
_OPTIMIZER = flags.DEFINE_enum("optimizer", "adamw", training.OPTIMIZERS, "Optimizer.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 2e-3, "Highest rate of the schedule.")
_SCHEDULE = flags.DEFINE_enum("schedule", "cosine", training.SCHEDULES, "Of the learning rate.")
_WARMUP = flags.DEFINE_float("warmup", 0.05, "Share of the steps that cosine warms up for.")
_WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 0.05, "Of adamw and lamb.")
_LABEL_SMOOTHING = flags.DEFINE_float("label_smoothing", 0.05, "Share spread over all classes.")
_MONITOR = flags.DEFINE_enum(
    "monitor", "val_macro_f1", list(training.MONITORS), "Whose best epoch is kept."
)
_JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Compile the training step with XLA.")


def main(arguments: Sequence[str]) -> int:
    """Reads options, opens or builds the records, trains, writes the run folder."""
    cli.no_arguments(arguments)
    _refuse_flags_without_effect()
    augment, train = augment_flags.augment_options(), checked(_train_options)
    plan_flags.target()  # refused, if it must be, before records are packed
    rows_flags.check()
    run_dir = cli.require("run_dir", _RUN_DIR.value)
    if os.path.exists(os.path.join(run_dir, runs.FILE_NAME)):
        raise cli.UsageError(f"--run_dir must be new, {run_dir!r} holds a finished run")
    opened = record_set.open_set(_records(run_dir))
    info = opened.manifest
    for holder in (_TRAIN_SPLIT, _VALIDATION_SPLIT):
        cli.one_of(holder.name, holder.value, info.splits)
    if _TRAIN_SPLIT.value == _VALIDATION_SPLIT.value:
        raise cli.UsageError("--train_split and --validation_split must be two splits")
    plan = _plan(opened)
    class_weights = plan_flags.class_weights(plan)
    rows_flags.check_plan(plan)
    checked(lambda: augment.strengths(plan.class_names))
    if plan_flags.explained(plan):
        return cli.DONE
    how = checked(
        lambda: runtime.configure(
            strategy=_STRATEGY.value,
            precision=_PRECISION.value,
            seed=flags.FLAGS.seed,
            cpu_devices=_CPU_DEVICES.value,
        )
    )
    if plan.batch_size % how.num_replicas:
        raise cli.UsageError(
            f"--batch_size must divide by {how.num_replicas} replicas, got {plan.batch_size}"
        )
    with how.strategy.scope():
        shape = (info.image_size, info.image_size, 3)
        model = checked(lambda: zoo.MODELS[_MODEL.value](len(info.class_names), shape))
        rows = rows_flags.open_rows(opened, _TRAIN_SPLIT.value)
    _introduce(plan, rows, how, model)
    data = checked(lambda: _input(rows, plan, augment, class_weights, how))
    validate = _validation(opened, model)
    os.makedirs(run_dir, exist_ok=True)
    with streaming.faults_named():
        history, best_epoch = training.fit(
            model,
            how.strategy,
            data,
            validate,
            train,
            run_dir=run_dir,
            jit_compile=_JIT_COMPILE.value,
        )
    run = _run(opened, plan, rows, how, model, history, best_epoch)
    runs.save(run, run_dir)
    print(
        f"kept epoch {best_epoch} of {len(history)}, the last with a *"
        f" (best {train.monitor} so far): {run_dir}"
    )
    return cli.DONE


def _refuse_flags_without_effect() -> None:
    """Refuses flags that would be believed and do nothing."""
    if _RECORDS.value:
        for flag in flags.FLAGS.flags_by_module_dict()[build_main.__name__]:
            if flag.present and flag.name != "seed":
                raise cli.UsageError(f"--{flag.name} has no effect where --records is given")
    if _WARMUP.present and _SCHEDULE.value != "cosine":
        raise cli.UsageError(f"--warmup belongs to schedule cosine, not to {_SCHEDULE.value}")


def _train_options() -> training.TrainOptions:
    return training.TrainOptions(
        epochs=_EPOCHS.value,
        optimizer=_OPTIMIZER.value,
        learning_rate=_LEARNING_RATE.value,
        schedule=_SCHEDULE.value,
        warmup=_WARMUP.value,
        weight_decay=_WEIGHT_DECAY.value,
        label_smoothing=_LABEL_SMOOTHING.value,
        monitor=_MONITOR.value,
    )


def _records(run_dir: str) -> str:
    if _RECORDS.value:
        return cli.require_folder("records", _RECORDS.value)
    if not flags.FLAGS.source:
        raise cli.UsageError("--records or --source must be given")
    if flags.FLAGS.dry_run:
        raise cli.UsageError("--dry_run belongs to records.build_main")
    return _build(run_dir)


def _plan(opened: record_set.RecordSet) -> sampling.SamplingPlan:
    plan = plan_flags.plan(
        opened, _TRAIN_SPLIT.value, seed=flags.FLAGS.seed, batch_size=_BATCH_SIZE.value
    )
    if (plan.draws > 0).sum() < 2:
        raise cli.UsageError("a classifier needs draws of at least 2 classes, there is only 1")
    return plan


def _build(run_dir: str) -> str:
    """Packs --source by the build binary, in a process that never loads TensorFlow."""
    output = flags.FLAGS.output or os.path.join(run_dir, "records")
    known = flags.FLAGS.flags_by_module_dict()[build_main.__name__]
    given = [
        line  # a flag that was given twice comes as two lines
        for flag in known
        if flag.present and flag.name != "output"
        for line in flag.serialize().split("\n")
    ]
    command = [sys.executable, "-m", build_main.__name__, *given, f"--output={output}"]
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)
    return output


def _input(
    opened: residency.Opened,
    plan: sampling.SamplingPlan,
    augment: options.AugmentOptions,
    class_weights: np.ndarray | None,
    how: runtime.Runtime,
) -> training.Input:
    rows, on_device = opened.rows, opened.residency == "device"

    def dataset(replica: int, num_replicas: int) -> tf.data.Dataset:
        return pipeline.training_dataset(
            rows,
            plan,
            augment,
            class_weights=class_weights,
            input_range=zoo.INPUT_RANGE,
            images_later=on_device,
            replica=replica,
            num_replicas=num_replicas,
        )

    dataset(0, how.num_replicas)  # what does not fit is refused here, not within the training
    images = pipeline.image_maker(rows, plan, augment, input_range=zoo.INPUT_RANGE)
    return training.Input(
        dataset=dataset,
        steps_per_epoch=plan.steps_per_epoch,
        batch_size=plan.batch_size,
        input_range=zoo.INPUT_RANGE,
        images=images if on_device else None,
    )


def _validation(
    opened: record_set.RecordSet, model: keras.Model
) -> Callable[[], Mapping[str, float]]:
    rows = residency.open_rows(opened, _VALIDATION_SPLIT.value).rows
    dataset = pipeline.evaluation_dataset(
        rows, batch_size=_BATCH_SIZE.value, input_range=zoo.INPUT_RANGE
    )
    probabilities = evaluation.predictor(model)
    labels = opened.index(_VALIDATION_SPLIT.value).label

    def validate() -> Mapping[str, float]:
        predictions = evaluation.predict(probabilities, dataset, len(rows))
        return training.validation_metrics(labels, predictions)

    return validate


def _introduce(
    plan: sampling.SamplingPlan,
    opened: residency.Opened,
    how: runtime.Runtime,
    model: keras.Model,
) -> None:
    """Says what is about to be trained, on what."""
    rows: list[Sequence[object]] = [("class", "rows", "draws an epoch", "draws a row")]
    for name, count, draws in zip(plan.class_names, plan.counts, plan.draws, strict=True):
        rows.append((name, int(count), int(draws), f"{draws / max(count, 1):.2f}"))
    print(cli.table(rows))
    for label in plan.empty:
        print(cli.printable(f"warning: class {plan.class_names[label]!r} has no rows to train on"))
    print(opened.description)
    print(
        f"{_MODEL.value}, {model.count_params():,} parameters; {how.description};"
        f" global batch {plan.batch_size} ({plan.batch_size // how.num_replicas} a replica),"
        f" {plan.steps_per_epoch * plan.batch_size:,} draws a training epoch"
    )


def _run(
    opened: record_set.RecordSet,
    plan: sampling.SamplingPlan,
    rows: residency.Opened,
    how: runtime.Runtime,
    model: keras.Model,
    history: list[dict[str, float]],
    best_epoch: int,
) -> runs.Run:
    info = opened.manifest
    present = [flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]) if flag.present]
    return runs.Run(
        model=_MODEL.value,
        class_names=info.class_names,
        image_size=info.image_size,
        records=os.path.abspath(opened.folder),
        records_digest=info.digest,
        train_split=_TRAIN_SPLIT.value,
        validation_split=_VALIDATION_SPLIT.value,
        parameters=model.count_params(),
        device=how.description,
        sampling={
            "target": dataclasses.asdict(plan.target),
            **plan.identity(),
            "residency": rows.residency,
            "steps_per_epoch": plan.steps_per_epoch,
            "batch_size": plan.batch_size,
            "rows": plan.counts.tolist(),
            "draws": plan.draws.tolist(),
        },
        flags={flag.name: flag.value for flag in present},
        versions=runs.versions(),
        best_epoch=best_epoch,
        history=tuple(history),
    )


if __name__ == "__main__":
    cli.run(
        main,
        manifest.ManifestError,
        tfrecord.DamagedRecordError,
        resident.MemoryBudgetError,
        training.TrainingError,
        addons.AddonsMissingError,
        OSError,
    )
