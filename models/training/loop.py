"""Epochs of training steps, each with a validation; what is kept; going on after an interruption.

A training is a function of its options. What one that is going on needs is in its checkpoints, so
one that was interrupted at any moment ends with the same history and weights, to the bit, as one
that was not (on one kind of machine and number of devices).
"""

import collections
import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models import run_folder
from models.metrics import confusion
from models.networks import dropout, input_range, transfer
from models.training import (
    checkpoints,
    distribution,
    history,
    losses,
    optimizers,
    progress,
)
from models.training import (
    monitor as decisions,
)
from models.training import (
    step as train_step,
)
from records.common import atomic, errors
from records.common.backend import keras, tf

History = list[dict[str, float]]
Validate = Callable[[], Mapping[str, float]]
Pictures = Callable[[], Mapping[str, np.ndarray]]

_LOSS = losses.LossOptions(label_smoothing=0.05)
_OPTIMIZER, _SCHEDULE = optimizers.OptimizerOptions(), optimizers.ScheduleOptions()
_STEPS_TOGETHER = 8  # of one call, by several workers
_NAMED = 5  # rows that a message names
_MUCH_WAITING = 0.1  # of an epoch's time


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        epochs: rounds of `Input.steps_per_epoch` steps, each followed by a validation.
        loss: what is minimized.
        optimizer: by what, and the highest learning rate.
        schedule: what becomes of the rate.
        monitor: the validation metric whose best epoch is kept, the latest of equal ones.
        stop_patience: epochs without a better one after which training stops; 0: never.
        unfreeze_epoch: epochs after which a frozen base is trained too; 0: never.
        unfreeze_factor: of the learning rate from then on.
        max_skipped: steps without a finite loss after which training ends with an error.
        steps_per_execution: steps of one call; 0 for what takes half a second.
        checkpoint_seconds: time between checkpoints within an epoch; 0: after each call. There is
            one at the end of each epoch in any case.
        seed: of dropout.
        jit_compile: compile the training step with XLA.
    """

    epochs: int = 30
    loss: losses.LossOptions = _LOSS
    optimizer: optimizers.OptimizerOptions = _OPTIMIZER
    schedule: optimizers.ScheduleOptions = _SCHEDULE
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
        decisions.check_monitor(self.monitor)
        for name, least in (
            ("epochs", 1),
            ("stop_patience", 0),
            ("unfreeze_epoch", 0),
            ("max_skipped", 0),
            ("steps_per_execution", 0),
            ("checkpoint_seconds", 0),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.unfreeze_factor < float("inf"):
            raise ValueError(f"unfreeze_factor must be above 0, got {self.unfreeze_factor}")

    def identity(self) -> dict[str, Any]:
        """Returns what two trainings must agree on to end alike, by the names of the options."""
        fields = dataclasses.asdict(self)
        for name in ("max_skipped", "steps_per_execution", "checkpoint_seconds"):
            del fields[name]
        return {
            f"{name}.{part}" if isinstance(value, dict) else name: inner
            for name, value in fields.items()
            for part, inner in (value.items() if isinstance(value, dict) else [("", value)])
        }


class TrainingError(errors.DatapipeError, RuntimeError):
    """Training cannot go on."""


@dataclasses.dataclass(frozen=True)
class Input:
    """What `fit` trains on.

    Attributes:
        dataset: makes the batches of this process from a step on: a function of (start step,
            number of this process, how many there are, replicas of each), which gives as many
            batches a step as it has replicas.
        steps_per_epoch: global batches in an epoch.
        batch_size: the global batch.
        input_range: of the images, as in `input_range.RANGES`.
        images: where the batches have `numbers` and no `image`: makes the images of `row` and
            `numbers` inside the training step.
        key: the name of a row, for messages.
        identity: what the batches are a function of; a training goes on with the same only.
    """

    dataset: Callable[[int, int, int, int], tf.data.Dataset]
    steps_per_epoch: int
    batch_size: int
    input_range: str = "0..1"
    images: train_step.Images | None = None
    key: Callable[[int], str] = str
    identity: Mapping[str, str | int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        history: one line an epoch.
        skipped: by name, how often a row had no finite loss.
    """

    history: History
    skipped: Mapping[str, int]


def fit(
    model: keras.Model,
    how: distribution.Runtime,
    data: Input,
    validate: Validate,
    options: TrainOptions,
    *,
    run_dir: str,
    pictures: Pictures | None = None,
    show_progress: bool = True,
) -> Trained:
    """Trains a model, from the last checkpoint in the run folder on; returns what came of it.

    After each epoch `history.csv`, `timing.csv`, a checkpoint and, if the monitored metric is the
    best yet, `best.weights.h5` are written to the run folder, each whole or not at all, and events
    for TensorBoard; at the end `last.weights.h5`. The checkpoints stay until `finish`.

    Args:
        model: made under the strategy's scope, a base that is frozen at first already frozen.
        how: who computes.
        data: what to train on.
        validate: gives the metrics of `decisions.MONITORS` for the model as it is.
        options: how to train.
        run_dir: an existing folder; one for all processes.
        pictures: gives pictures, uint8 [height, width, 3] by name, of the last `validate`; for
            TensorBoard, of each epoch that is the best so far.
        show_progress: draw a bar over the steps of an epoch.

    Returns:
        The history, one line an epoch: `epoch`, `loss` and `accuracy` of training, what `validate`
        gives, the last `learning_rate`, and how many steps were `skipped` so far, or `overflows`;
        and the rows that were to blame for what was skipped.

    Raises:
        TrainingError: if the monitored metric, or too many steps' loss, is not finite, or the
            folder holds checkpoints of another training; it names the first difference.
        CheckpointError: if there are checkpoints, and none can be read.
        ValueError: if the model takes images in another range, or draws random numbers that
            cannot be resumed.
    """
    input_range.check(model, data.input_range)
    dropout.check(model)
    return _Fit(model, how, data, validate, options, run_dir, pictures, show_progress).run()


def finish(run_dir: str) -> None:
    """Removes the checkpoints of a training that is finished."""
    folder = os.path.join(run_dir, run_folder.SAVED)
    checkpoints.remove(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)


class _Fit:
    """A training under way."""

    def __init__(
        self,
        model: keras.Model,
        how: distribution.Runtime,
        data: Input,
        validate: Validate,
        options: TrainOptions,
        run_dir: str,
        pictures: Pictures | None,
        show_progress: bool,
    ):
        self._model, self._how, self._data, self._validate = model, how, data, validate
        self._options, self._run_dir, self._show = options, run_dir, show_progress
        self._pictures = pictures
        self._checkpoints = os.path.join(run_dir, run_folder.SAVED)
        self._history: History = []
        self._timing: History = []
        self._blamed: collections.Counter[str] = collections.Counter()
        self._carry = train_step.first_carry(how.precision)
        self._unfrozen = False

    def run(self) -> Trained:
        """Trains from where the last checkpoint stands to the end."""
        self._restore()
        how = self._how
        place = (how.worker, how.num_workers, how.local_replicas)
        batches = iter(self._data.dataset(int(self._carry.step), *place))
        while len(self._history) < self._options.epochs and not self._stops():
            self._unfreeze()
            self._train(batches)
            self._validated()
        if how.is_chief:
            self._write_weights(run_folder.LAST)
        return Trained(self._history, dict(self._blamed))

    def _stops(self) -> bool:
        options = self._options
        return decisions.stops(self._history, options.monitor, options.stop_patience)

    def _unfreeze(self) -> None:
        """Trains the base too, by an optimizer of its own, once it is time."""
        if not self._unfrozen and 0 < self._options.unfreeze_epoch <= len(self._history):
            self._unfrozen = True
            self._step = self._new_step()

    def _new_step(self) -> train_step.TrainStep:
        if self._unfrozen:
            transfer.unfreeze(self._model)
        return train_step.TrainStep(
            self._model,
            self._how.strategy,
            loss=self._options.loss,
            optimizer=self._options.optimizer,
            rate=self._rate,
            batch_size=self._data.batch_size,
            seed=self._options.seed,
            images=self._data.images,
            jit_compile=self._options.jit_compile,
            local_replicas=self._how.local_replicas,
        )

    def _rate(self, step: Any, factor: Any) -> Any:
        return optimizers.rate_at(
            self._options.schedule,
            self._options.optimizer.learning_rate,
            step,
            steps_per_epoch=self._data.steps_per_epoch,
            epochs=self._options.epochs,
            factor=factor,
        )

    def _factor(self) -> float:
        """Returns what the rate of this epoch is multiplied by."""
        schedule, monitor = self._options.schedule, self._options.monitor
        factor = self._options.unfreeze_factor if self._unfrozen else 1.0
        if schedule.name == "plateau":
            patience, by = schedule.plateau_patience, schedule.plateau_factor
            factor *= decisions.plateau_factor(self._history, monitor, patience, by)
        return factor

    def _train(self, batches: Iterator[train_step.Batch]) -> None:
        """Trains to the end of the epoch."""
        epoch, steps = len(self._history) + 1, self._data.steps_per_epoch
        end, factor, saved = epoch * steps, self._factor(), time.monotonic()
        title = f"epoch {epoch}/{self._options.epochs}"
        show = self._show and self._how.is_chief
        bar = progress.Progress(title, steps, int(self._carry.step) % steps, show=show)
        with bar:
            while left := end - int(self._carry.step):
                count = min(self._steps_in_a_call(bar), left)
                self._carry, rows, waited = self._step.run(batches, self._carry, count, factor)
                bar.done(count, self._data.batch_size, waited)
                self._note_skipped(rows)
                if count < left and time.monotonic() >= saved + self._options.checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
        self._timing.append({"epoch": epoch, **bar.figures()})

    def _steps_in_a_call(self, bar: progress.Progress) -> int:
        if self._how.num_workers > 1:
            # Workers find each other by the number of the step within its call, so all must do as
            # many in each: what their clocks say is of no use.
            return self._options.steps_per_execution or _STEPS_TOGETHER
        return self._options.steps_per_execution or bar.steps_in_a_call()

    def _note_skipped(self, rows: np.ndarray) -> None:
        """Names the rows of steps that were skipped; ends the training if there are too many."""
        skipped = int(self._carry.skipped)
        new = collections.Counter(self._data.key(int(row)) for row in rows)
        self._blamed += new
        if new:
            print(
                f"warning: no finite loss by step {int(self._carry.step):,}, so it was skipped"
                f" ({skipped:,} so far): {_listed(new)}",
                flush=True,
            )
        if skipped > self._options.max_skipped:
            who = f"; rows that alone have none: {_listed(self._blamed)}" if self._blamed else ""
            raise TrainingError(
                f"{skipped:,} steps had no finite loss or gradient, more than --max_skipped="
                f"{self._options.max_skipped}{who}; try a lower --learning_rate (or"
                " --precision=float32)"
            )

    def _validated(self) -> None:
        """Ends the epoch: validates, keeps history and weights, saves, speaks to the screen."""
        with self._averaged():
            found = dict(self._validate())
            values = self._how.agreed(list(found.values())).tolist()
            line = self._line(dict(zip(found, values, strict=True)))
            monitor, epoch = self._options.monitor, int(line["epoch"])
            if not np.isfinite(line[monitor]):
                raise TrainingError(
                    f"{monitor} is {line[monitor]} in epoch {epoch}; try a lower --learning_rate"
                    " (or --precision=float32)"
                )
            self._history.append(line)
            best = decisions.best_epoch(self._history, monitor) == epoch
            if best and self._how.is_chief:
                self._write_weights(run_folder.BEST)
        self._carry = self._carry.new_epoch()
        if self._how.is_chief:
            history.write(self._history, os.path.join(self._run_dir, run_folder.HISTORY))
            history.write(self._timing, os.path.join(self._run_dir, run_folder.TIMING))
            shown = self._pictures() if best and self._pictures else None
            board = os.path.join(self._run_dir, run_folder.BOARD)
            history.to_tensorboard(line, self._timing[-1], board, shown)
            self._save()
            print("\n".join([self._said(line, best), *self._verdicts(line)]), flush=True)

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return optimizers.averaged(self._step.optimizer, self._model.trainable_variables)

    def _line(self, validation: Mapping[str, float]) -> dict[str, float]:
        carry = self._carry
        steps, weight = max(int(carry.steps), 1), float(carry.weight) or 1.0
        return {
            "epoch": len(self._history) + 1,
            "loss": float(carry.loss) / steps,
            "accuracy": float(carry.hits) / weight,
            **validation,
            "learning_rate": float(self._rate(int(carry.step) - 1, self._factor())),
            "skipped": int(carry.skipped),
            "overflows": int(carry.overflows),
        }

    def _said(self, line: Mapping[str, float], best: bool) -> str:
        timing = self._timing[-1]
        return (
            f"epoch {line['epoch']:3.0f}/{self._options.epochs}"
            f"  loss {line['loss']:.4f}  accuracy {line['accuracy']:.4f}"
            f"  | validation: loss {line['val_loss']:.4f}  accuracy {line['val_accuracy']:.4f}"
            f"  macro F1 {line['val_macro_f1']:.4f}"
            f"  | {timing['images_per_second']:,.0f} images/s,"
            f" {timing['waiting_for_input']:.0%} waiting{' *' if best else ''}"
        )

    def _verdicts(self, line: Mapping[str, float]) -> list[str]:
        """Returns what should be known while it can still be changed."""
        found = []
        if line.get("val_named") == 1:
            found.append("warning: every validation image is given one class, a collapse so far")
        if line["epoch"] == 2:  # the first had to compile
            waiting = self._timing[-1]["waiting_for_input"]
            found.append(
                f"training waits for its input {waiting:.0%} of the time: "
                + (
                    "python -m models.doctor_main says what to change"
                    if waiting > _MUCH_WAITING
                    else "the network is what takes the time"
                )
            )
        return found

    def _write_weights(self, name: str) -> None:
        temporary = os.path.join(self._run_dir, f".tmp-{name}")
        with atomic.naming(temporary):
            self._model.save_weights(temporary)
            atomic.commit(temporary, os.path.join(self._run_dir, name))

    def _identity(self) -> dict[str, Any]:
        own = {**self._options.identity(), "steps_per_epoch": self._data.steps_per_epoch}
        how = {"replicas": self._how.num_replicas, "precision": self._how.precision}
        return {**self._data.identity, **own, **how}

    def _save(self) -> None:
        if not self._how.is_chief:
            return
        state = {
            "identity": self._identity(),
            "history": self._history,
            "timing": self._timing,
            "blamed": self._blamed,
            "unfrozen": self._unfrozen,
            "carry": [value.item() for value in self._carry],
        }
        os.makedirs(self._checkpoints, exist_ok=True)
        arrays = [self._parts(variable)[0].numpy() for variable in self._step.variables]
        checkpoints.save(
            checkpoints.Checkpoint(int(self._carry.step), state, arrays), self._checkpoints
        )

    def _restore(self) -> None:
        """Takes up the chief's newest checkpoint, if there is one; makes the training step."""
        found = checkpoints.newest(self._checkpoints) if self._how.is_chief else None
        step = int(self._how.agreed([found.step if found else -1])[0])
        if step >= 0 and found is None:
            found = checkpoints.at(step, self._checkpoints)
        if found:
            self._take_over(found.state)
        self._step = self._new_step()
        if found:
            variables = self._step.variables
            for variable, array in zip(variables, found.arrays, strict=True):
                for part in self._parts(variable):
                    part.assign(array)
            print(f"going on from step {found.step:,}, {len(self._history)} epochs done")

    def _take_over(self, state: Mapping[str, Any]) -> None:
        _check_same(state["identity"], json.loads(json.dumps(self._identity())))
        self._history, self._timing = state["history"], state["timing"]
        self._blamed = collections.Counter(state["blamed"])
        self._unfrozen = state["unfrozen"]
        self._carry = train_step.carry_of(state["carry"])

    def _parts(self, variable: tf.Variable) -> Sequence[tf.Variable]:
        return self._how.strategy.experimental_local_results(variable)


def _check_same(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in {**saved, **now}:
        was, is_now = saved.get(name, "not there"), now.get(name, "not there")
        if was != is_now:
            raise TrainingError(
                f"{name} was {was!r} in the training that was begun here and is {is_now!r} now;"
                " a training goes on exactly or not at all: restore it, or take another run folder"
            )


def _listed(names: collections.Counter[str]) -> str:
    shown = [f"{name} ({times} times)" if times > 1 else name for name, times in names.items()]
    more = f" and {len(shown) - _NAMED:,} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more


def validation_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the metrics that can be monitored, over all images at once.

    Beside them `val_named`, how many classes are named at all.
    """
    matrix = confusion.confusion(labels, probabilities.argmax(1), probabilities.shape[1])
    return {
        "val_loss": confusion.log_loss(labels, probabilities),
        "val_accuracy": float(confusion.accuracy_of(matrix)),
        "val_macro_f1": float(confusion.macro_f1_of(matrix)),
        "val_balanced_accuracy": float(confusion.balanced_accuracy_of(matrix)),
        "val_named": float((matrix.sum(0) > 0).sum()),
    }
