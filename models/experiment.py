"""A trained model judged on a split: rows through the pipeline, predictions, report.

Beside the binaries the one module that joins `datapipe` and `models`: those that train and those
that evaluate must judge alike.
"""

import dataclasses
import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from datapipe import pipeline
from datapipe.augment import chain
from datapipe.augment.options import AugmentOptions
from datapipe.plan import sampling
from datapipe.preview import preview, severity, sheet, typesetting
from datapipe.rows import residency, streaming
from models import run_folder
from models.metrics import confusion
from models.metrics.table import Table
from models.reporting import neighbours, predictor, report, results
from records.common import atomic
from records.common.backend import keras, tf
from records.format.record_set import RecordSet

AUGMENTED = "augmented.png"  # in a run folder: what the model was shown
_MOST_COMPARED = 20_000  # training images among which neighbours are looked for
_NEIGHBOURS = 3


def report_on(
    run: run_folder.Run,
    run_dir: str,
    opened: RecordSet,
    split: str,
    *,
    batch_size: int = 256,
    output: str = "",
    shares: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Writes predictions and report of a split; returns what `report.json` says.

    Args:
        run: whose best weights lie in `run_dir`.
        run_dir: its folder.
        opened: records that fit the run.
        split: every image of it counts once.
        batch_size: images at a time.
        output: folder for the files; the run's if empty.
        shares: weights of classes in another place, by name, of which scores are wanted too.

    Raises:
        RunError: if the weights are missing or damaged.
        ManifestError: if there is no such split.
        DamagedRecordError: if a record cannot be read.
        MemoryBudgetError: if the rows do not fit.
        ValueError: if shares name an unknown class or one without images.
    """
    model = run_folder.load_model(run, run_dir)
    table = _table(run, model, opened, split, batch_size)
    beside = report.Beside(
        validation=_validation(run, model, opened, split, batch_size),
        normalized=any(
            isinstance(each, keras.layers.BatchNormalization) for each in model._flatten_layers()
        ),
        shares=shares or {},
    )
    return results.write(
        run,
        opened,
        split,
        table,
        output or run_dir,
        beside=_with_training(beside, run, model, opened, split, table, batch_size),
        augmented=os.path.join(run_dir, AUGMENTED),
    )


def draw_augmented(
    opened: RecordSet,
    split: str,
    plan: sampling.SamplingPlan,
    augmented: AugmentOptions,
    run_dir: str,
) -> None:
    """Writes `augmented.png` into a run folder: what the stream makes of some images.

    Nothing is written where images stay as they are.
    """
    if augmented.off:
        return
    examples = preview.examples(opened, split, plan, augmented)
    found = severity.measure(opened, split, plan, augmented)
    drawn = sheet.sheet(
        examples,
        title="What the model was shown",
        facts=[typesetting.shown(line) for line in found.facts()],
        warnings=[typesetting.shown(line) for line in found.warnings()],
        batch_size=plan.batch_size,
    )
    out = io.BytesIO()
    drawn.save(out, "PNG")
    atomic.write_whole(os.path.join(run_dir, AUGMENTED), out.getvalue())


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


def _validation(
    run: run_folder.Run, model: keras.Model, opened: RecordSet, split: str, batch_size: int
) -> Table | None:
    """Returns the predictions that a threshold is chosen on, of two classes."""
    if len(run.class_names) != 2 or not _is_of_training(run, opened, split, run.validation_split):
        return None
    return _table(run, model, opened, run.validation_split, batch_size)


def _with_training(
    beside: report.Beside,
    run: run_folder.Run,
    model: keras.Model,
    opened: RecordSet,
    split: str,
    table: Table,
    batch_size: int,
) -> report.Beside:
    """Adds what images of the training split show: their accuracy, and which are near mistakes."""
    if not _is_of_training(run, opened, split, run.train_split):
        return beside
    rows = residency.open_rows(opened, run.train_split).rows
    dataset = pipeline.evaluation_dataset(rows, batch_size=batch_size, input_range=run.input_range)
    with streaming.faults_named():
        seen = neighbours.see(model, neighbours.some(dataset, _MOST_COMPARED, batch_size))
    labels = opened.index(run.train_split).label[seen.rows]
    matrix = confusion.confusion(labels, seen.predicted, len(run.class_names))
    shown = report.shown(table)
    found: dict[int, list[neighbours.Neighbour]] = {}
    if shown:
        wrong = neighbours.see(model, [_batch(run, opened, split, shown)])
        near = neighbours.nearest(neighbours.at(wrong, shown), seen, _NEIGHBOURS)
        found = dict(zip(shown, near, strict=True))
    return dataclasses.replace(beside, trained=matrix, num_compared=len(seen.rows), near=found)


def _batch(
    run: run_folder.Run, opened: RecordSet, split: str, rows: list[int]
) -> dict[str, tf.Tensor]:
    images = np.stack([opened.pixels(split, row) for row in rows])
    return {
        "image": chain.unchanged(tf.constant(images), run.input_range),
        "row": tf.constant(rows, tf.int64),
        "weight": tf.ones(len(rows)),
    }
