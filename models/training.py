"""Compile and fit: optimizer, schedule, the exact validation after each epoch, checkpoints."""

import contextlib
import csv
import dataclasses
import io
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from models import addons, input_range, metrics, runtime
from records import files
from records.backend import keras, tf

OPTIMIZERS = ("sgd", "adam", "adamw", "lamb")
SCHEDULES = ("constant", "cosine")
MONITORS = {"val_loss": -1, "val_accuracy": 1, "val_macro_f1": 1}  # 1: higher is better
_NO_DECAY = ["bias", "gamma", "beta"]  # words in the names of biases and normalization
BEST, LAST, HISTORY = "best.weights.h5", "last.weights.h5", "history.csv"


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        epochs: rounds of `Input.steps_per_epoch` steps, each followed by a validation.
        optimizer: `sgd` (momentum 0.9, Nesterov), `adam`, `adamw` or `lamb` (TensorFlow Addons).
        learning_rate: highest rate of the schedule.
        schedule: `constant`, or `cosine` down to 0 after a linear warm-up.
        warmup: share of all steps that `cosine` warms up for, 0 to below 1.
        weight_decay: of `adamw` and `lamb`; biases and normalization are left alone.
        label_smoothing: share of a label that is spread over all classes, 0 to below 1.
        monitor: the validation metric whose best epoch is kept, the latest of equal ones.
    """

    epochs: int = 30
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    monitor: str = "val_macro_f1"

    def __post_init__(self) -> None:
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "monitor": tuple(MONITORS)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay}")


class TrainingError(RuntimeError):
    """Training cannot go on."""


@dataclasses.dataclass(frozen=True)
class Input:
    """What `fit` trains on.

    Attributes:
        dataset: makes the batches of replica r of R: a function of (r, R).
        steps_per_epoch: global batches in an epoch.
        batch_size: the global batch.
        input_range: of the images, as in `input_range.RANGES`.
        images: where the batches have `numbers` and no `image`: makes the images of `row` and
            `numbers` inside the training step.
    """

    dataset: Callable[[int, int], tf.data.Dataset]
    steps_per_epoch: int
    batch_size: int
    input_range: str = "0..1"
    images: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None


class CrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of float32 logits [n, classes] against labels, in nats.

    Labels are int [n], or float [n, classes] where they are distributions, as after mixing.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__(name="cross_entropy")
        self._label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each row, float32 [n]."""
        classes = y_pred.shape[-1]
        wanted = tf.cast(y_true, tf.float32)
        if not _is_distribution(y_true, classes):
            wanted = tf.one_hot(tf.reshape(tf.cast(y_true, tf.int32), [-1]), classes)
        wanted = wanted * (1 - self._label_smoothing) + self._label_smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(wanted, tf.cast(y_pred, tf.float32))


def accuracy(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Returns 1 for each row whose most probable class is its (largest) label; float32 [n]."""
    mixed = _is_distribution(y_true, y_pred.shape[-1])
    wanted = tf.argmax(y_true, 1) if mixed else tf.reshape(y_true, [-1])
    return tf.cast(tf.cast(wanted, tf.int64) == tf.argmax(y_pred, 1), tf.float32)


def _is_distribution(labels: tf.Tensor, classes: int) -> bool:
    # By the shape: Keras gives metrics all labels as floats, and [n] as [n, 1].
    return labels.shape.rank == 2 and labels.shape[-1] == classes


class _MakesImages(keras.Model):
    """A model behind the function that makes its images, in one step with it."""

    def __init__(self, model: keras.Model, images: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]):
        super().__init__()
        self._trained, self._images = model, images

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Returns the logits of a batch of `row` and `numbers`."""
        return self._trained(self._images(*inputs), training=training)


def fit(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    data: Input,
    validate: Callable[[], Mapping[str, float]],
    options: TrainOptions,
    *,
    run_dir: str,
    jit_compile: bool = False,
    show_progress: bool = True,
) -> tuple[list[dict[str, float]], int]:
    """Trains a model; returns its history, one line an epoch, and the number of the best epoch.

    After each epoch `history.csv`, `last.weights.h5` and, if the monitored metric is the best yet,
    `best.weights.h5` are written to the run folder, each whole or not at all; what a run before
    left under these names is removed first. The model itself keeps the last weights.

    Args:
        model: made under the strategy's scope.
        strategy: who computes.
        data: what to train on.
        validate: gives `val_loss`, `val_accuracy` and `val_macro_f1` of the model as it is.
        options: how to train.
        run_dir: an existing folder.
        jit_compile: compile the training step with XLA.
        show_progress: draw a bar over the steps of an epoch.

    Raises:
        TrainingError: if the loss, or the monitored metric, is no longer finite.
        ValueError: if the model scales its images itself and is given them in another range.
    """
    input_range.check(model, data.input_range)
    for name in (BEST, LAST, HISTORY):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(run_dir, name))
    fitted = compiled(
        model,
        strategy,
        options,
        total_steps=data.steps_per_epoch * options.epochs,
        images=data.images,
        jit_compile=jit_compile,
    )
    epochs = _Epochs(model, validate, options, data, run_dir, show_progress)
    fitted.fit(
        runtime.distributed(strategy, lambda *slice_of: data.dataset(*slice_of).map(keras_batch)),
        steps_per_epoch=data.steps_per_epoch,
        epochs=options.epochs,
        callbacks=[epochs],
        verbose=0,
    )
    return epochs.history, epochs.best_epoch


def compiled(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    options: TrainOptions,
    *,
    total_steps: int,
    images: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    jit_compile: bool = False,
) -> keras.Model:
    """Returns the model compiled for training; with `images`, another that trains its weights.

    Args:
        model: made under the strategy's scope.
        strategy: who computes.
        options: optimizer, schedule and loss.
        total_steps: that the learning rate is scheduled over.
        images: makes the images of a batch within the step, as of `Input`.
        jit_compile: compile the training step with XLA.
    """
    with strategy.scope():
        fitted = _MakesImages(model, images) if images else model
        fitted.compile(
            optimizer=optimizer(options, total_steps),
            loss=CrossEntropy(options.label_smoothing),
            weighted_metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
            jit_compile=jit_compile,
        )
    return fitted


def keras_batch(batch: Mapping[str, tf.Tensor]) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Returns what a compiled model takes of a batch: image, or what makes it; label, weight."""
    image = batch["image"] if "image" in batch else (batch["row"], batch["numbers"])
    return image, batch["label"], batch["weight"]


def optimizer(options: TrainOptions, total_steps: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer with its schedule over `total_steps`."""
    rate = learning_rate(options, total_steps)
    if options.optimizer == "lamb":
        return addons.lamb(rate, options.weight_decay, _NO_DECAY)
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    if options.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    adamw = keras.optimizers.AdamW(rate, weight_decay=options.weight_decay)
    adamw.exclude_from_weight_decay(var_names=_NO_DECAY)
    return adamw


def learning_rate(options: TrainOptions, total_steps: int) -> Any:
    """Returns the rate as a number or a Keras schedule over `total_steps`."""
    if options.schedule == "constant":
        return options.learning_rate
    warmup_steps = min(round(options.warmup * total_steps), total_steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else options.learning_rate,
        decay_steps=total_steps - warmup_steps,
        warmup_target=options.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def validation_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the metrics that can be monitored, over all images at once."""
    matrix = metrics.confusion(labels, probabilities.argmax(1), probabilities.shape[1])
    return {
        "val_loss": metrics.log_loss(labels, probabilities),
        "val_accuracy": float(metrics.accuracy_of(matrix)),
        "val_macro_f1": float(metrics.macro_f1_of(matrix)),
    }


class _Epochs(keras.callbacks.Callback):
    """Validates, keeps the history and the weights, and speaks to the screen."""

    def __init__(
        self,
        kept: keras.Model,
        validate: Callable[[], Mapping[str, float]],
        options: TrainOptions,
        data: Input,
        run_dir: str,
        show_progress: bool,
    ):
        super().__init__()
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self._kept, self._validate, self._options, self._data = kept, validate, options, data
        self._run_dir, self._show_progress = run_dir, show_progress
        self._best = -np.inf

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._started = time.monotonic()
        off = None if self._show_progress else True
        title = f"epoch {epoch + 1}/{self._options.epochs}"
        steps = self._data.steps_per_epoch
        self._bar = tqdm(total=steps, desc=title, unit=" steps", leave=False, disable=off)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._bar.close()
        seconds = time.monotonic() - self._started
        line = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        line.update(self._validate())
        for name in ("loss", self._options.monitor):
            if not np.isfinite(line[name]):
                raise TrainingError(
                    f"{name} is {line[name]} in epoch {epoch + 1}; try a lower --learning_rate"
                    " (or --precision=float32)"
                )
        steps = self._data.steps_per_epoch
        rate = learning_rate(self._options, steps * self._options.epochs)
        line["learning_rate"] = float(rate(steps * (epoch + 1)) if callable(rate) else rate)
        line["images_per_second"] = steps * self._data.batch_size / seconds
        self.history.append(line)
        self._save(line)

    def _save(self, line: Mapping[str, float]) -> None:
        self._write_weights(LAST)
        monitor = self._options.monitor
        value = line[monitor] * MONITORS[monitor]
        mark = ""
        if value >= self._best:  # of equal epochs the later, which saw a lower rate
            self._best, self.best_epoch, mark = value, int(line["epoch"]), " *"
            self._write_weights(BEST)
        files.write_whole(os.path.join(self._run_dir, HISTORY), _csv(self.history))
        print(
            f"epoch {line['epoch']:3.0f}/{self._options.epochs}"
            f"  loss {line['loss']:.4f}  accuracy {line['accuracy']:.4f}"
            f"  | validation: loss {line['val_loss']:.4f}  accuracy {line['val_accuracy']:.4f}"
            f"  macro F1 {line['val_macro_f1']:.4f}"
            f"  | {line['images_per_second']:,.0f} images/s{mark}",
            flush=True,
        )

    def _write_weights(self, name: str) -> None:
        temporary = os.path.join(self._run_dir, f".tmp-{name}")
        self._kept.save_weights(temporary)
        files.commit(temporary, os.path.join(self._run_dir, name))


def _csv(history: list[dict[str, float]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return out.getvalue().encode()
