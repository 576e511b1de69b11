"""Training from a config to a run folder, and evaluation of a trained model on a split.

`train_main` and `evaluate_main` are the command lines of `train` and `evaluate`; a training from
Python is `train(TrainConfig(...), opened, run_dir)`.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from datapipe import pipeline, resume
from datapipe.augment import chain
from datapipe.augment.options import AugmentOptions
from datapipe.plan import batch_slice, planner, sampling
from datapipe.preview import page, preview, severity
from datapipe.rows import residency, streaming
from models import run_folder
from models.config import TrainConfig
from models.inference import preprocess
from models.metrics import confusion
from models.metrics.table import Table
from models.networks import transfer, zoo
from models.reporting import neighbours, predictor, report
from models.reporting.page import write_results
from models.training import distribution, loop, monitor, tensorboard
from records.common import atomic, checks, cli, errors
from records.common.backend import keras, tf
from records.format.record_set import RecordSet
from records.split import folds

AUGMENTED = "augmented.png"  # in a run folder: augmented training images
AUGMENTED_PAGE = "augmented.html"  # the same, with a description of each augmentation
_MAX_COMPARED = 20_000  # training images that are searched for neighbours
_NEIGHBOURS = 3


@dataclasses.dataclass(frozen=True)
class _Training:
    """The objects of a training, created from its config for the records and devices."""

    config: TrainConfig
    opened: RecordSet  # a view of the fold, if there is one
    plan: sampling.SamplingPlan
    class_weights: np.ndarray | None  # float32 [classes]; None if all are equal
    runtime: distribution.Runtime
    model: keras.Model  # with its initial weights
    rows: residency.Opened  # the training split
    options: loop.TrainOptions


def train(
    config: TrainConfig,
    opened: RecordSet,
    run_dir: str,
    *,
    report: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> run_folder.Run | None:
    """Trains once, resuming from the last checkpoint in the run folder; writes the run folder.

    Args:
        config: describes the training.
        opened: the records, not a view of a fold.
        run_dir: the run folder, created if missing; locked while training.
        report: splits to evaluate at the end.
        flags: flags of the command line, for `run.json`.

    Returns:
        The run; None in a worker other than the first.

    Raises:
        ConfigError: if the config does not fit the records or the machine.
        TrainingError: as `loop.fit`.
        CheckpointError: as `loop.fit`.
        RunError: if another process trains in the folder.
        AddonsMissingError: if it needs TensorFlow Addons, which cannot be imported.
        DamagedRecordError: if a record cannot be read.
        MemoryBudgetError: if the rows do not fit in memory.
    """
    with errors.config_errors():
        this = _prepared(config, opened, report)
        data = _input(this)
    judge = predictor.Predictor(
        this.model, this.options.loss.name, this.runtime.strategy, this.runtime.local_replicas
    )
    validate, pictures = _validation(this, judge)
    with contextlib.ExitStack() as stack:
        stack.enter_context(streaming.faults_named())
        if this.runtime.is_chief:
            stack.enter_context(run_folder.locked(run_dir))
        try:
            trained = loop.fit(
                this.model,
                this.runtime,
                data,
                validate,
                this.options,
                run_dir=run_dir,
                pictures=pictures,
            )
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            if this.runtime.num_workers == 1:
                raise
            lost = f"lost a worker ({type(error).__name__})"
            print(f"{lost}; restarting from the last checkpoint", flush=True)
            distribution.restart_process()
        if not this.runtime.is_chief:
            return None
        run = _run(this, trained, flags or {})
        draw_augmented(this.opened, config.train_split, this.plan, config.augment, run_dir)
        for split in report:
            evaluate(run, run_dir, this.opened, split)
        run_folder.save(run, run_dir)
        loop.finish(run_dir)
    return run


def check(
    config: TrainConfig, opened: RecordSet, report: Sequence[str] = ()
) -> sampling.SamplingPlan:
    """Checks a training without starting it; returns its sampling plan. Arguments as in `train`.

    Raises:
        ConfigError: if the config does not fit the records.
    """
    with errors.config_errors():
        plan, _ = _planned(config, in_fold(config, opened), report)
    return plan


def in_fold(config: TrainConfig, opened: RecordSet) -> RecordSet:
    """Returns the records, or a view of them with the splits of the config's fold.

    Raises:
        ValueError: if there are too few images for that many folds.
    """
    if not config.folds:
        return opened
    return folds.view(opened, config.folds, max(config.fold, 0), seed=config.seed)


def _planned(
    config: TrainConfig, opened: RecordSet, report: Sequence[str]
) -> tuple[sampling.SamplingPlan, np.ndarray | None]:
    """Returns the sampling plan and the class weights.

    Raises:
        ValueError: if the config does not fit the records.
    """
    for name, split in [
        ("train_split", config.train_split),
        ("validation_split", config.validation_split),
        *(("report", split) for split in report),
    ]:
        checks.one_of(name, split, opened.manifest.splits)
    plan = planner.plan(
        opened,
        config.train_split,
        config.sampling,
        seed=config.seed,
        batch_size=config.batch_size,
    )
    if (plan.draws > 0).sum() < 2:
        raise ValueError("a classifier needs draws from at least 2 classes, got 1")
    class_weights = planner.class_weights(plan, config.sampling)
    config.augment.strengths(plan.class_names)
    return plan, class_weights


def _prepared(config: TrainConfig, opened: RecordSet, report: Sequence[str]) -> _Training:
    """Creates and prints the parts of a training.

    Raises:
        ValueError: if the config does not fit the records or the machine.
    """
    opened = in_fold(config, opened)
    plan, class_weights = _planned(config, opened, report)
    hardware = config.hardware
    runtime = distribution.configure(
        strategy=hardware.strategy,
        precision=hardware.precision,
        seed=config.seed,
        cpu_devices=hardware.cpu_devices,
        workers=hardware.workers,
        worker=hardware.worker,
    )
    if plan.batch_size % runtime.num_replicas:
        raise ValueError(
            f"batch_size must divide by {runtime.num_replicas} replicas, got {plan.batch_size}"
        )
    with runtime.strategy.scope():
        model, origin = _network(config, opened)
        rows = residency.open_rows(
            opened,
            config.train_split,
            residency=config.rows.residency,
            window_bytes=config.rows.window_mb << 20,
        )
    options = config.train_options(jit_compile=_compiles(config, runtime))
    this = _Training(config, opened, plan, class_weights, runtime, model, rows, options)
    if runtime.is_chief:
        _introduce(this, origin)
    return this


def _network(config: TrainConfig, opened: RecordSet) -> tuple[keras.Model, str]:
    """Returns the network, and a message about its initial weights."""
    network, info = config.network, opened.manifest
    shape = (info.image_size, info.image_size, 3)
    model = zoo.build(network.name, len(info.class_names), shape, **network.overrides())
    if not network.init_from:
        return model, "random initial weights"
    origin = transfer.init_from(model, network.init_from, name=network.name)
    if network.freezes:
        transfer.freeze(model)
    return model, origin


def _compiles(config: TrainConfig, runtime: distribution.Runtime) -> bool:
    """Whether XLA compiles the training step; `auto` does on a single GPU."""
    if config.hardware.jit_compile == "auto":
        return runtime.num_replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
    compiles = config.hardware.jit_compile == "true"
    if compiles and runtime.num_replicas > 1:
        raise ValueError(f"jit_compile needs a single replica, got {runtime.num_replicas}")
    return compiles


def _input(this: _Training) -> loop.Input:
    """Returns the input of the training loop.

    Raises:
        ValueError: if the config does not fit the rows.
    """
    config, plan, rows = this.config, this.plan, this.rows.rows
    on_device = this.rows.residency == "device"
    input_range = zoo.MODELS[config.network.name].input_range

    def dataset(start_step: int, part: batch_slice.Slice) -> tf.data.Dataset:
        return pipeline.training_dataset(
            rows,
            plan,
            config.augment,
            class_weights=this.class_weights,
            input_range=input_range,
            augment_on_device=on_device,
            start_step=start_step,
            shard_index=part.shard_index,
            num_shards=part.num_shards,
            local_replicas=part.local_replicas,
        )

    # Checks the config before the training starts.
    dataset(0, this.runtime.batch_slice)
    images = pipeline.image_maker(rows, plan, config.augment, input_range=input_range)
    stream = resume.identity(
        rows,
        plan,
        config.augment,
        records_digest=this.opened.manifest.digest,
        split=config.train_split,
        class_weights=this.class_weights,
        input_range=input_range,
        augment_on_device=on_device,
    )
    return loop.Input(
        dataset=dataset,
        steps_per_epoch=plan.steps_per_epoch,
        batch_size=plan.batch_size,
        input_range=input_range,
        images=images if on_device else None,
        key=this.opened.index(config.train_split).key,
        identity={
            **stream,
            **config.network.identity(),
            "validation_split": config.validation_split,
        },
    )


def _validation(this: _Training, judge: predictor.Predictor) -> tuple[loop.Validate, loop.Pictures]:
    """Returns a function that validates, and one that draws its last result for TensorBoard."""
    split = this.config.validation_split
    labels = this.opened.index(split).label
    predicted = _predictions(this, split, judge)
    last = np.empty(0)

    def validate() -> Mapping[str, float]:
        nonlocal last
        last = predicted()
        return loop.validation_metrics(labels, last)

    return validate, lambda: tensorboard.pictures(this.opened, split, labels, last)


def _predictions(
    this: _Training, split: str, judge: predictor.Predictor
) -> Callable[[], np.ndarray]:
    """Returns a function that predicts all rows of a split with the current weights."""
    rows = residency.open_rows(this.opened, split).rows
    per_replica = this.config.batch_size // judge.strategy.num_replicas_in_sync
    dataset = pipeline.evaluation_dataset(
        rows,
        batch_size=per_replica * judge.replicas,
        input_range=zoo.MODELS[this.config.network.name].input_range,
        local_replicas=judge.replicas,
    )
    return lambda: judge.predict(dataset, len(rows))


def _introduce(this: _Training, origin: str) -> None:
    """Prints a summary of the training before it starts."""
    plan, model, runtime = this.plan, this.model, this.runtime
    rows: list[Sequence[object]] = [("class", "rows", "draws per epoch", "draws per row")]
    for name, count, draws in zip(plan.class_names, plan.counts, plan.draws, strict=True):
        rows.append((name, int(count), int(draws), f"{draws / max(count, 1):.2f}"))
    print(cli.table(rows))
    for label in plan.empty:
        print(cli.printable(f"warning: class {plan.class_names[label]!r} has no rows to train on"))
    print(this.rows.description)
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    print(
        f"{this.config.network.name}, {model.count_params():,} parameters,"
        f" {trainable:,} of them trainable; {origin}"
    )
    print(
        f"{runtime.description};"
        f" global batch {plan.batch_size} ({plan.batch_size // runtime.num_replicas} per replica),"
        f" {plan.steps_per_epoch * plan.batch_size:,} draws per training epoch"
    )


def _run(this: _Training, trained: loop.Trained, flags: Mapping[str, Any]) -> run_folder.Run:
    config, plan, info = this.config, this.plan, this.opened.manifest
    return run_folder.Run(
        model=config.network.name,
        class_names=info.class_names,
        image_size=info.image_size,
        records=os.path.abspath(this.opened.folder),
        records_digest=info.digest,
        train_split=config.train_split,
        validation_split=config.validation_split,
        parameters=this.model.count_params(),
        device=this.runtime.description,
        sampling={
            "target": dataclasses.asdict(plan.target),
            **plan.identity(),
            "residency": this.rows.residency,
            "steps_per_epoch": plan.steps_per_epoch,
            "batch_size": plan.batch_size,
            "rows": plan.counts.tolist(),
            "draws": plan.draws.tolist(),
        },
        flags=dict(flags),
        versions=run_folder.versions(),
        best_epoch=monitor.best_epoch(trained.history, this.options.monitor),
        history=tuple(trained.history),
        model_options=config.network.overrides(),
        loss=this.options.loss.name,
        skipped=trained.skipped,
        fold=(config.folds, config.fold, config.seed) if config.folds else (),
        pixels=preprocess.facts(info),
    )


# --- evaluation ---


def evaluate(
    run: run_folder.Run,
    run_dir: str,
    opened: RecordSet,
    split: str,
    *,
    batch_size: int = 256,
    output: str = "",
    shares: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Writes predictions and report of a split; returns the contents of `report.json`.

    Args:
        run: a trained run.
        run_dir: its folder, with its best weights.
        opened: records that fit the run.
        split: a split, each image of which counts once.
        batch_size: images per batch.
        output: folder for the files; `run_dir` if empty.
        shares: weights by class name, to report scores at these class shares too.

    Raises:
        RunError: if the weights are missing or damaged.
        ManifestError: if there is no such split.
        DamagedRecordError: if a record cannot be read.
        MemoryBudgetError: if the rows do not fit.
        ValueError: if shares name an unknown class or one without images.
    """
    model = run_folder.load_model(run, run_dir)
    table = _table(run, model, opened, split, batch_size)
    extras = report.ReportExtras(
        validation=_threshold_table(run, model, opened, split, batch_size),
        has_batch_norm=any(
            isinstance(each, keras.layers.BatchNormalization) for each in model._flatten_layers()
        ),
        class_shares=shares or {},
    )
    return write_results(
        run,
        opened,
        split,
        table,
        output or run_dir,
        extras=_with_training(extras, run, model, opened, split, table, batch_size),
        augmented=os.path.join(run_dir, AUGMENTED),
    )


def draw_augmented(
    opened: RecordSet,
    split: str,
    plan: sampling.SamplingPlan,
    augmented: AugmentOptions,
    run_dir: str,
) -> None:
    """Writes examples of augmented images as `augmented.png` and `.html`, if any."""
    if augmented.off:
        return
    examples = preview.examples(opened, split, plan, augmented)
    found = severity.measure(opened, split, plan, augmented)
    described = page.page(
        examples,
        title="Augmented training images",
        facts=found.facts(),
        warnings=found.warnings(),
        batch_size=plan.batch_size,
    )
    for name, data in ((AUGMENTED, page.grid(examples)), (AUGMENTED_PAGE, described)):
        atomic.write_whole(os.path.join(run_dir, name), data)


def _table(
    run: run_folder.Run, model: keras.Model, opened: RecordSet, split: str, batch_size: int
) -> Table:
    rows = residency.open_rows(opened, split).rows
    dataset = pipeline.evaluation_dataset(rows, batch_size=batch_size, input_range=run.input_range)
    with streaming.faults_named():
        probabilities = predictor.Predictor(model, run.loss).predict(dataset, len(rows))
    return predictor.table(opened, split, probabilities)


def _is_of_training(run: run_folder.Run, opened: RecordSet, split: str, other: str) -> bool:
    """Whether `other` is a split of the training's records that is not the evaluated one."""
    same = opened.manifest.digest == run.records_digest
    return same and other in opened.manifest.splits and other != split


def _threshold_table(
    run: run_folder.Run, model: keras.Model, opened: RecordSet, split: str, batch_size: int
) -> Table | None:
    """Returns the predictions to choose a threshold on, if there are two classes."""
    if len(run.class_names) != 2 or not _is_of_training(run, opened, split, run.validation_split):
        return None
    return _table(run, model, opened, run.validation_split, batch_size)


def _with_training(
    extras: report.ReportExtras,
    run: run_folder.Run,
    model: keras.Model,
    opened: RecordSet,
    split: str,
    table: Table,
    batch_size: int,
) -> report.ReportExtras:
    """Adds the confusion of training images, and the neighbours of mistakes among them."""
    if not _is_of_training(run, opened, split, run.train_split):
        return extras
    rows = residency.open_rows(opened, run.train_split).rows
    dataset = pipeline.evaluation_dataset(rows, batch_size=batch_size, input_range=run.input_range)
    with streaming.faults_named():
        seen = neighbours.embed(model, neighbours.take(dataset, _MAX_COMPARED, batch_size))
    labels = opened.index(run.train_split).label[seen.rows]
    matrix = confusion.confusion(labels, seen.predicted, len(run.class_names))
    shown = report.shown_mistakes(table)
    found: dict[int, list[neighbours.Neighbour]] = {}
    if shown:
        wrong = neighbours.embed(model, [_batch(run, opened, split, shown)])
        near = neighbours.nearest(neighbours.select(wrong, shown), seen, _NEIGHBOURS)
        found = dict(zip(shown, near, strict=True))
    return dataclasses.replace(
        extras, train_confusion=matrix, num_compared=len(seen.rows), near=found
    )


def _batch(
    run: run_folder.Run, opened: RecordSet, split: str, rows: list[int]
) -> dict[str, tf.Tensor]:
    images = np.stack([opened.pixels(split, row) for row in rows])
    return {
        "image": chain.unchanged(tf.constant(images), run.input_range),
        "row": tf.constant(rows, tf.int64),
        "weight": tf.ones(len(rows)),
    }
