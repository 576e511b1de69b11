"""Trains a classifier on a record set, or on a folder of images that is packed first.

    python -m models.train_main --records=photos.records --run_dir=runs/photos
    python -m models.train_main --source=photos --run_dir=runs/photos --target=balanced

Then: python -m models.evaluate_main --run_dir=runs/photos
"""

import contextlib
import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import numpy as np
from absl import flags

from datapipe import pipeline, resume
from datapipe.augment import flags as augment_flags
from datapipe.augment import options
from datapipe.plan import flags as plan_flags
from datapipe.plan import sampling
from datapipe.rows import flags as rows_flags
from datapipe.rows import host, residency, streaming
from models import experiment, run_folder
from models.inference import preprocess
from models.multirun import cross_validation, summary
from models.multirun import runs as several
from models.networks import flags as model_flags
from models.networks import zoo
from models.reporting import predictor as evaluation
from models.training import (
    addons,
    checkpoints,
    distribution,
    loop,
    monitor,
    tensorboard,
)
from models.training import (
    flags as training_flags,
)
from records import build_main
from records.common import cli, errors
from records.common.backend import keras, tf
from records.format import manifest, record_set
from records.split import folds

# --source and all that goes with it: the flags of the build.
flags.adopt_module_key_flags(build_main)
for module in (plan_flags, augment_flags, rows_flags, model_flags, training_flags):
    flags.adopt_module_key_flags(module)
_RECORDS = flags.DEFINE_string("records", None, "Folder of the record set to train on.")
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Folder for the results; must hold no finished run."
)
_TRAIN_SPLIT = flags.DEFINE_string("train_split", "train", "Split to train on.")
_VALIDATION_SPLIT = flags.DEFINE_string(
    "validation_split", "validation", "Split that chooses the epoch to keep."
)
_REPORT = flags.DEFINE_list("report", [], "Splits to report on at the end, such as test.")
_FOLDS = flags.DEFINE_integer(
    "folds",
    0,
    "Cross-validation: deal all rows into so many folds, at least 3. Each is tested on by a"
    " training on all others but one, which chooses its epoch.",
)
_FOLD = flags.DEFINE_integer("fold", -1, "Train only the one that is tested on this fold.")
_REPEATS = flags.DEFINE_integer("repeats", 1, "Trainings with seeds --seed, --seed + 1, ...")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", distribution.PRECISIONS, "Of the arithmetic."
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    distribution.STRATEGIES,
    "One device, mirrored over all of them, or multiworker over processes; auto: by what is there.",
)
_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices", 1, "Logical devices to divide the CPU into, to try mirrored without GPUs."
)
_WORKERS = flags.DEFINE_list("workers", [], "Multiworker: host:port of each; else by TF_CONFIG.")
_WORKER = flags.DEFINE_integer("worker", 0, "Which of --workers this process is; 0 writes files.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Global batch, over all replicas.")

_OF_SEVERAL = ("run_dir", "records", "folds", "fold", "repeats", "report")


def main(arguments: Sequence[str]) -> int:
    """Reads options, opens or builds the records, trains once or several times."""
    cli.no_arguments(arguments)
    several.follow_parent()
    _check_flags()
    run_dir = cli.require("run_dir", _RUN_DIR.value)
    if run_folder.is_finished(run_dir):
        raise cli.UsageError(f"--run_dir must be new, {run_dir!r} holds a finished run")
    opened = record_set.open_set(_records(run_dir))
    if flags.FLAGS.explain_plan or (_REPEATS.value == 1 and (not _FOLDS.value or _FOLD.present)):
        return _train(_dealt(opened), run_dir)
    with run_folder.held(run_dir):
        if _REPEATS.value > 1:
            _repeat(opened, run_dir)
        else:
            _cross_validate(opened, run_dir)
    return cli.DONE


def _train(opened: record_set.RecordSet, run_dir: str) -> int:
    """Trains once, and reports on the splits that are asked for."""
    info = opened.manifest
    for name, split in [
        (_TRAIN_SPLIT.name, _TRAIN_SPLIT.value),
        (_VALIDATION_SPLIT.name, _VALIDATION_SPLIT.value),
        *((_REPORT.name, split) for split in _REPORT.value),
    ]:
        cli.one_of(name, split, info.splits)
    plan = _plan(opened)
    class_weights = plan_flags.class_weights(plan)
    rows_flags.check_plan(plan)
    augment = augment_flags.augment_options()
    cli.checked(lambda: augment.strengths(plan.class_names))
    if plan_flags.explained(plan):
        return cli.DONE
    how = cli.checked(_runtime)
    if plan.batch_size % how.num_replicas:
        raise cli.UsageError(
            f"--batch_size must divide by {how.num_replicas} replicas, got {plan.batch_size}"
        )
    with how.strategy.scope():
        model, origin = cli.checked(
            lambda: model_flags.build(len(info.class_names), info.image_size)
        )
        rows = rows_flags.open_rows(opened, _TRAIN_SPLIT.value)
    if how.is_chief:
        _introduce(plan, rows, how, model, origin)
    train = cli.checked(lambda: _options(how))
    data = cli.checked(lambda: _input(opened, rows, plan, augment, class_weights, how))
    predictor = evaluation.Predictor(model, train.loss.name, how.strategy, how.local_replicas)
    validate, pictures = _validation(opened, predictor)
    with contextlib.ExitStack() as stack:
        stack.enter_context(streaming.faults_named())
        if how.is_chief:
            stack.enter_context(run_folder.held(run_dir))
        try:
            trained = loop.fit(
                model, how, data, validate, train, run_dir=run_dir, pictures=pictures
            )
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            if how.num_workers == 1:
                raise
            _lost(error)
        if not how.is_chief:
            return cli.DONE
        run = _run(opened, plan, rows, how, model, train, trained)
        experiment.draw_augmented(opened, _TRAIN_SPLIT.value, plan, augment, run_dir)
        for split in _REPORT.value:
            experiment.report_on(run, run_dir, opened, split)
        run_folder.save(run, run_dir)
        loop.finish(run_dir)
    print(f"kept epoch {run.best_epoch} of {len(run.history)}, the last with a *: {run_dir}")
    return cli.DONE


def _repeat(opened: record_set.RecordSet, run_dir: str) -> None:
    """Trains with several seeds, and summarizes what they report."""
    first = flags.FLAGS.seed
    given = [line for line in _given() if not line.startswith("--seed=")]
    if _FOLDS.value:
        given.append(f"--folds={_FOLDS.value}")
    splits = [] if _FOLDS.value else _REPORT.value or [_VALIDATION_SPLIT.value]
    given += [f"--records={opened.folder}", *(f"--report={','.join(splits)}" for _ in splits[:1])]
    seeds = range(first, first + _REPEATS.value)
    jobs = [
        several.Job(os.path.join(run_dir, f"seed-{seed}"), [*given, f"--seed={seed}"])
        for seed in seeds
    ]
    several.run(jobs)
    for split in splits or [folds.POOLED]:
        folders = [job.run_dir for job in jobs]
        name = summary.write(folders, split, run_dir)
        print(f"{split} of {len(jobs)} seeds:\n{summary.table(folders, split)}\n{name}")


def _cross_validate(opened: record_set.RecordSet, run_dir: str) -> None:
    """Trains one for each fold, and reports on the predictions of all, pooled."""
    count, seed = _FOLDS.value, flags.FLAGS.seed
    cli.checked(lambda: folds.view(opened, count, 0, seed=seed))
    given = [*_given(), f"--records={opened.folder}", f"--folds={count}", "--report=test"]
    jobs = [
        several.Job(os.path.join(run_dir, f"fold-{fold:02d}"), [*given, f"--fold={fold}"])
        for fold in range(count)
    ]
    several.run(jobs)
    folders = [job.run_dir for job in jobs]
    print(f"each of {count} folds:\n{summary.table(folders, 'test')}")
    summary.write(folders, "test", run_dir)
    cross_validation.write(opened, folders, run_dir)


def _check_flags() -> None:
    """Refuses, before anything is done, what cannot be meant."""
    if _RECORDS.value:
        for flag in flags.FLAGS.get_key_flags_for_module(build_main.__name__):
            if flag.present and flag.name != "seed":
                raise cli.UsageError(f"--{flag.name} has no effect where --records is given")
    cli.at_least(0, _FOLDS)
    cli.at_least(1, _REPEATS, _BATCH_SIZE)
    if _FOLD.present and not 0 <= _FOLD.value < _FOLDS.value:
        raise cli.UsageError(f"--fold must be below --folds={_FOLDS.value}, got {_FOLD.value}")
    several_at_once = _REPEATS.value > 1 or (_FOLDS.value and not _FOLD.present)
    if several_at_once and (_WORKERS.value or os.environ.get("TF_CONFIG")):
        raise cli.UsageError("--folds and --repeats train in processes of their own, one by one")
    if _WORKERS.value and flags.FLAGS.source:
        raise cli.UsageError("--workers read one record set: pack it first, and give --records")
    if _FOLDS.value:
        for holder in (_TRAIN_SPLIT, _VALIDATION_SPLIT):
            if holder.present:
                raise cli.UsageError(f"--{holder.name} has no effect with --folds")
        if _REPORT.value and not _FOLD.present:
            raise cli.UsageError("--report has no effect with --folds: all of them are reported on")
        if flags.FLAGS.residency == "stream":
            raise cli.UsageError("--folds needs the rows in memory, not --residency=stream")
    if _TRAIN_SPLIT.value == _VALIDATION_SPLIT.value:
        raise cli.UsageError("--train_split and --validation_split must be two splits")
    model_flags.check()
    training_flags.check(freezes=model_flags.freezes())
    cli.checked(lambda: training_flags.options(seed=0, one_gpu=False))
    augment_flags.augment_options()
    plan_flags.target()
    rows_flags.check()


def _dealt(opened: record_set.RecordSet) -> record_set.RecordSet:
    """Returns the records, or a view of them with the splits of a fold."""
    if not _FOLDS.value:
        return opened
    fold = max(_FOLD.value, 0)
    return cli.checked(lambda: folds.view(opened, _FOLDS.value, fold, seed=flags.FLAGS.seed))


def _given() -> list[str]:
    """Returns the flags that were given, but for those that differ among several trainings."""
    of_the_build = {
        flag.name for flag in flags.FLAGS.get_key_flags_for_module(build_main.__name__)
    } - {"seed"}
    return [
        line
        for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])
        if flag.present and flag.name not in of_the_build.union(_OF_SEVERAL)
        for line in flag.serialize().split("\n")
    ]


def _runtime() -> distribution.Runtime:
    return distribution.configure(
        strategy=_STRATEGY.value,
        precision=_PRECISION.value,
        seed=flags.FLAGS.seed,
        cpu_devices=_CPU_DEVICES.value,
        workers=_WORKERS.value,
        worker=_WORKER.value,
    )


def _options(how: distribution.Runtime) -> loop.TrainOptions:
    one_gpu = how.num_replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
    made = training_flags.options(seed=flags.FLAGS.seed, one_gpu=one_gpu)
    if made.jit_compile and how.num_replicas > 1:
        raise cli.UsageError(f"--jit_compile is for one replica, and there are {how.num_replicas}")
    return made


def _lost(error: Exception) -> NoReturn:
    print(
        f"another worker was lost ({type(error).__name__}); going on from the last checkpoint",
        flush=True,
    )
    distribution.again()


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
    known = flags.FLAGS.get_key_flags_for_module(build_main.__name__)
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
    opened: record_set.RecordSet,
    where: residency.Opened,
    plan: sampling.SamplingPlan,
    augment: options.AugmentOptions,
    class_weights: np.ndarray | None,
    how: distribution.Runtime,
) -> loop.Input:
    rows, on_device = where.rows, where.residency == "device"
    input_range = zoo.MODELS[model_flags.name()].input_range

    def dataset(start_step: int, worker: int, num_workers: int, pieces: int) -> tf.data.Dataset:
        return pipeline.training_dataset(
            rows,
            plan,
            augment,
            class_weights=class_weights,
            input_range=input_range,
            images_later=on_device,
            start_step=start_step,
            replica=worker,
            num_replicas=num_workers,
            pieces=pieces,
        )

    # What does not fit is refused here, not within the training.
    dataset(0, how.worker, how.num_workers, how.local_replicas)
    images = pipeline.image_maker(rows, plan, augment, input_range=input_range)
    stream = resume.identity(
        rows,
        plan,
        augment,
        records_digest=opened.manifest.digest,
        split=_TRAIN_SPLIT.value,
        class_weights=class_weights,
        input_range=input_range,
        images_later=on_device,
    )
    model = {name: str(value) for name, value in model_flags.identity().items()}
    return loop.Input(
        dataset=dataset,
        steps_per_epoch=plan.steps_per_epoch,
        batch_size=plan.batch_size,
        input_range=input_range,
        images=images if on_device else None,
        key=opened.index(_TRAIN_SPLIT.value).key,
        identity={**stream, **model, "validation_split": _VALIDATION_SPLIT.value},
    )


def _validation(
    opened: record_set.RecordSet, predictor: evaluation.Predictor
) -> tuple[loop.Validate, loop.Pictures]:
    """Returns the function that validates, and the one that pictures what it found last."""
    split = _VALIDATION_SPLIT.value
    labels = opened.index(split).label
    predicted = _predictions(opened, split, predictor)
    last = np.empty(0)

    def validate() -> Mapping[str, float]:
        nonlocal last
        last = predicted()
        return loop.validation_metrics(labels, last)

    return validate, lambda: tensorboard.pictures(opened, split, labels, last)


def _predictions(
    opened: record_set.RecordSet, split: str, predictor: evaluation.Predictor
) -> Callable[[], np.ndarray]:
    """Returns the function that predicts all rows of a split with the model as it is."""
    rows = residency.open_rows(opened, split).rows
    dataset = pipeline.evaluation_dataset(
        rows,
        batch_size=_BATCH_SIZE.value
        // predictor.strategy.num_replicas_in_sync
        * predictor.replicas,
        input_range=zoo.MODELS[model_flags.name()].input_range,
        pieces=predictor.replicas,
    )
    return lambda: predictor.predict(dataset, len(rows))


def _introduce(
    plan: sampling.SamplingPlan,
    opened: residency.Opened,
    how: distribution.Runtime,
    model: keras.Model,
    origin: str,
) -> None:
    """Says what is about to be trained, on what."""
    rows: list[Sequence[object]] = [("class", "rows", "draws an epoch", "draws a row")]
    for name, count, draws in zip(plan.class_names, plan.counts, plan.draws, strict=True):
        rows.append((name, int(count), int(draws), f"{draws / max(count, 1):.2f}"))
    print(cli.table(rows))
    for label in plan.empty:
        print(cli.printable(f"warning: class {plan.class_names[label]!r} has no rows to train on"))
    print(opened.description)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    print(
        f"{model_flags.name()}, {model.count_params():,} parameters, {trained:,} of them trained;"
        f" {origin}"
    )
    print(
        f"{how.description};"
        f" global batch {plan.batch_size} ({plan.batch_size // how.num_replicas} a replica),"
        f" {plan.steps_per_epoch * plan.batch_size:,} draws a training epoch"
    )


def _run(
    opened: record_set.RecordSet,
    plan: sampling.SamplingPlan,
    rows: residency.Opened,
    how: distribution.Runtime,
    model: keras.Model,
    train: loop.TrainOptions,
    trained: loop.Trained,
) -> run_folder.Run:
    info = opened.manifest
    present = [flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]) if flag.present]
    return run_folder.Run(
        model=model_flags.name(),
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
        versions=run_folder.versions(),
        best_epoch=monitor.best_epoch(trained.history, train.monitor),
        history=tuple(trained.history),
        model_options=model_flags.options(),
        loss=train.loss.name,
        skipped=trained.skipped,
        fold=(_FOLDS.value, _FOLD.value, flags.FLAGS.seed) if _FOLDS.value else (),
        pixels=preprocess.facts(info),
    )


if __name__ == "__main__":
    cli.run(
        main,
        manifest.ManifestError,
        errors.DamagedRecordError,
        host.MemoryBudgetError,
        loop.TrainingError,
        checkpoints.CheckpointError,
        run_folder.RunError,
        several.SeveralError,
        addons.AddonsMissingError,
        OSError,
        again="goes on from the last checkpoint",
    )
