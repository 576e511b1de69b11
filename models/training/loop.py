"""The training loop: epochs of steps, validation, checkpoints, resuming.

A checkpoint holds the complete state of a training, so a training that was interrupted at any
moment ends with the same history and weights, to the bit, as one that was not (on the same kind of
machine and number of devices).

We do not use Keras' `fit`: it does not save the state of its random numbers, lets one batch with a
non-finite loss spoil the moving statistics of normalization, lowers its loss scale for such a
batch, and does not guarantee the order in which replicas take their batches. (It can resume within
an epoch: `BackupAndRestore(save_freq=...)`, tf_keras 2.21.)
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

from datapipe.plan.batch_slice import Slice
from models import run_files
from models.metrics import confusion
from models.networks import dropout, input_range, transfer
from models.training import (
    checkpoints,
    distribution,
    logs,
    monitor,
    optimizers,
    step,
    tensorboard,
)
from models.training.options import TrainOptions
from records.common import atomic, errors
from records.common.backend import keras, tf

History = list[dict[str, float]]
Validate = Callable[[], Mapping[str, float]]
Pictures = tensorboard.Pictures
Action = Callable[[logs.Epoch], None]

_STEPS_PER_CALL = 8  # with several workers
_MAX_NAMED = 5  # rows listed in a message


class TrainingError(errors.DatapipeError, RuntimeError):
    """A training cannot continue."""


@dataclasses.dataclass(frozen=True)
class Input:
    """What `fit` trains on.

    Attributes:
        dataset: (start step, this process's slice of the global batch) -> batches from that step
            on, in each step one for each replica of the process.
        steps_per_epoch: global batches in an epoch.
        batch_size: global, over all replicas.
        input_range: range of the pixel values, one of `input_range.RANGES`.
        images: (`row`, `numbers`) -> images, called inside the training step if the batches have
            no `image`.
        key: row -> its name in messages.
        identity: everything the batches depend on; a training can only be resumed with equal
            values.
    """

    dataset: Callable[[int, Slice], tf.data.Dataset]
    steps_per_epoch: int
    batch_size: int
    input_range: str = "0..1"
    images: step.Images | None = None
    key: Callable[[int], str] = str
    identity: Mapping[str, str | int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result of a training."""

    history: History  # one line for each epoch
    skipped: Mapping[str, int]  # for each offending row, by key, how often its loss was not finite


def fit(
    model: keras.Model,
    runtime: distribution.Runtime,
    data: Input,
    validate: Validate,
    options: TrainOptions,
    *,
    run_dir: str,
    pictures: Pictures | None = None,
    show_progress: bool = True,
) -> Trained:
    """Trains a model, or resumes from the last checkpoint in the run folder.

    After each epoch, `history.csv`, `timing.csv`, a checkpoint and events for TensorBoard are
    written to the run folder, and `best.weights.h5` if the monitored metric is the best so far; at
    the end `last.weights.h5`. Each file is written atomically. The checkpoints stay until `finish`.

    Args:
        model: created under the strategy's scope; its base is frozen already, if at all.
        validate: () -> the metrics of `monitor.MONITORS` for the current weights.
        run_dir: an existing folder, the same for all workers.
        pictures: () -> images of the last validation, uint8 [height, width, 3] by name, for
            TensorBoard; called after each epoch that is the best so far.

    Returns:
        The history, one line for each epoch: `epoch`, training `loss` and `accuracy`, the values of
        `validate`, the last `learning_rate`, and the number of steps `skipped`, and of `overflows`,
        since the start; and the offending rows of skipped steps.

    Raises:
        TrainingError: if the monitored metric, or the loss of too many steps, is not finite, or
            the folder holds checkpoints of a different training; it names the first difference.
        CheckpointError: if there are checkpoints, but all are damaged.
        ValueError: if the model expects another range of pixel values, or has random numbers that
            cannot be resumed.
    """
    input_range.check(model, data.input_range)
    dropout.check(model)
    return _Training(
        model, runtime, data, validate, options, run_dir, pictures, show_progress
    ).run()


def finish(run_dir: str) -> None:
    """Removes the checkpoints of a finished training."""
    folder = os.path.join(run_dir, run_files.CHECKPOINTS)
    checkpoints.remove(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)


@dataclasses.dataclass(eq=False)
class _Training:
    """The state of a call of `fit`, whose arguments are its fields."""

    model: keras.Model
    runtime: distribution.Runtime
    data: Input
    validate: Validate
    options: TrainOptions
    run_dir: str
    pictures: Pictures | None
    show_progress: bool

    def __post_init__(self) -> None:
        # Together with the variables of model and optimizer: the contents of a checkpoint.
        self._history: History = []
        self._timing: History = []
        self._offending: collections.Counter[str] = collections.Counter()
        self._unfrozen = False
        self._state = step.initial_state(self.runtime.precision)

    def run(self) -> Trained:
        self._restore()
        after_epoch = self._actions()
        batches = iter(self.data.dataset(int(self._state.step), self.runtime.batch_slice))
        while not self._ended():
            self._unfreeze_when_due()
            self._train_epoch(batches)
            epoch = self._validated()
            self._state = self._state.new_epoch()
            for action in after_epoch:
                action(epoch)
        if self.runtime.is_chief:
            self._write_weights(run_files.LAST)
        return Trained(self._history, dict(self._offending))

    def _actions(self) -> list[Action]:
        """Returns the chief's actions after each epoch, in order; other workers have none."""
        if not self.runtime.is_chief:
            return []
        options, events = self.options, self._path(run_files.TENSORBOARD)
        return [
            lambda _: logs.write_csv(self._history, self._path(run_files.HISTORY)),
            lambda _: logs.write_csv(self._timing, self._path(run_files.TIMING)),
            lambda epoch: tensorboard.write(epoch, events, self.pictures),
            # After the files above: if the process dies before this, they are written again.
            lambda _: self._save(),
            # Last: an epoch is reported only when it is on disk.
            lambda epoch: print("\n".join(logs.lines(epoch, options.epochs)), flush=True),
        ]

    def _ended(self) -> bool:
        options, done = self.options, len(self._history)
        return done >= options.epochs or monitor.stops(
            self._history, options.monitor, options.stop_patience
        )

    def _unfreeze_when_due(self) -> None:
        """Unfreezes the base, with a new optimizer, once `unfreeze_epoch` epochs are done."""
        if not self._unfrozen and 0 < self.options.unfreeze_epoch <= len(self._history):
            self._unfrozen = True
            self._step = self._new_step()

    def _new_step(self) -> step.TrainStep:
        if self._unfrozen:
            transfer.unfreeze(self.model)
        return step.TrainStep(
            self.model,
            self.runtime.strategy,
            loss=self.options.loss,
            optimizer=self.options.optimizer,
            rate=self._rate,
            batch_size=self.data.batch_size,
            seed=self.options.seed,
            images=self.data.images,
            jit_compile=self.options.jit_compile,
            local_replicas=self.runtime.local_replicas,
        )

    def _rate(self, number: Any, factor: Any) -> Any:
        return optimizers.rate_at(
            self.options.schedule,
            self.options.optimizer.learning_rate,
            number,
            steps_per_epoch=self.data.steps_per_epoch,
            epochs=self.options.epochs,
            factor=factor,
        )

    def _factor(self) -> float:
        """Returns the factor on this epoch's learning rates."""
        schedule, watched = self.options.schedule, self.options.monitor
        factor = self.options.unfreeze_factor if self._unfrozen else 1.0
        if schedule.name == "plateau":
            patience, by = schedule.plateau_patience, schedule.plateau_factor
            factor *= monitor.plateau_factor(self._history, watched, patience, by)
        return factor

    def _train_epoch(self, batches: Iterator[step.Batch]) -> None:
        """Trains to the end of the epoch, saving a checkpoint every `checkpoint_seconds`."""
        epoch, steps = len(self._history) + 1, self.data.steps_per_epoch
        end, factor, saved = epoch * steps, self._factor(), time.monotonic()
        title, done = f"epoch {epoch}/{self.options.epochs}", int(self._state.step) % steps
        show = self.show_progress and self.runtime.is_chief
        with logs.ProgressBar(title, steps, done, show=show) as bar:
            while left := end - int(self._state.step):
                count = min(self._steps_per_call(bar), left)
                self._state, rows, waited = self._step.run(batches, self._state, count, factor)
                bar.advance(count, self.data.batch_size, waited)
                self._note_skipped(rows)
                if count < left and time.monotonic() >= saved + self.options.checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
        self._timing.append({"epoch": epoch, **bar.timing()})

    def _steps_per_call(self, bar: logs.ProgressBar) -> int:
        if self.options.steps_per_execution:
            return self.options.steps_per_execution
        # Workers must make the same number of steps in each call, not one that depends on their
        # clocks: collective operations are matched by the iteration's number, and deadlocked when
        # one worker had chosen 7 steps and another 8.
        return _STEPS_PER_CALL if self.runtime.num_workers > 1 else bar.steps_per_call()

    def _note_skipped(self, rows: np.ndarray) -> None:
        """Reports the offending rows of skipped steps; raises if there are too many."""
        skipped = int(self._state.skipped)
        new = collections.Counter(self.data.key(int(row)) for row in rows)
        self._offending += new
        if new:
            print(
                f"warning: non-finite loss at or before step {int(self._state.step):,}, update"
                f" skipped ({skipped:,} so far); offending rows: {_named(new)}",
                flush=True,
            )
        if skipped > self.options.max_skipped:
            rows_named = f"; offending rows: {_named(self._offending)}" if self._offending else ""
            raise TrainingError(
                f"{skipped:,} steps had a non-finite loss or gradient, more than --max_skipped="
                f"{self.options.max_skipped}{rows_named}; try a lower --learning_rate (or"
                " --precision=float32)"
            )

    def _validated(self) -> logs.Epoch:
        """Validates, adds to the history, and saves the weights if they are the best so far."""
        trainable, watched = self.model.trainable_variables, self.options.monitor
        # The weights that are saved are those that were validated: averaged ones, if there are any.
        with optimizers.averaged(self._step.optimizer, trainable):
            metrics = dict(self.validate())
            # All workers decide by the chief's values; theirs may differ in the last bit.
            values = self.runtime.broadcast(list(metrics.values())).tolist()
            line = self._line(dict(zip(metrics, values, strict=True)))
            if not np.isfinite(line[watched]):
                raise TrainingError(
                    f"{watched} is {line[watched]} in epoch {line['epoch']}; try a lower"
                    " --learning_rate (or --precision=float32)"
                )
            self._history.append(line)
            best = monitor.best_epoch(self._history, watched) == line["epoch"]
            if best and self.runtime.is_chief:
                self._write_weights(run_files.BEST)
        return logs.Epoch(line, self._timing[-1], best)

    def _line(self, validation: Mapping[str, float]) -> dict[str, float]:
        state = self._state
        steps, weight = max(int(state.steps), 1), float(state.weight) or 1.0
        return {
            "epoch": len(self._history) + 1,
            "loss": float(state.loss) / steps,
            "accuracy": float(state.correct) / weight,
            **validation,
            "learning_rate": float(self._rate(int(state.step) - 1, self._factor())),
            "skipped": int(state.skipped),
            "overflows": int(state.overflows),
        }

    def _write_weights(self, name: str) -> None:
        temporary = self._path(f".tmp-{name}")
        with atomic.naming(temporary):
            self.model.save_weights(temporary)
            atomic.commit(temporary, self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self.run_dir, name)

    def _identity(self) -> dict[str, Any]:
        return {
            **self.data.identity,
            **self.options.identity(),
            "steps_per_epoch": self.data.steps_per_epoch,
            "replicas": self.runtime.num_replicas,
            "precision": self.runtime.precision,
        }

    def _save(self) -> None:
        """Writes a checkpoint, if this is the chief; the keys are those of version 0.5."""
        if not self.runtime.is_chief:
            return
        state = {
            "identity": self._identity(),
            "history": self._history,
            "timing": self._timing,
            "blamed": self._offending,
            "unfrozen": self._unfrozen,
            "carry": [value.item() for value in self._state],
        }
        folder = self._path(run_files.CHECKPOINTS)
        os.makedirs(folder, exist_ok=True)
        arrays = [self._copies(variable)[0].numpy() for variable in self._step.variables]
        checkpoints.save(checkpoints.Checkpoint(int(self._state.step), state, arrays), folder)

    def _restore(self) -> None:
        """Loads the chief's newest checkpoint, if there is one; creates the training step."""
        folder = self._path(run_files.CHECKPOINTS)
        checkpoint = checkpoints.newest(folder) if self.runtime.is_chief else None
        number = int(self.runtime.broadcast([checkpoint.step if checkpoint else -1])[0])
        if number >= 0 and checkpoint is None:
            checkpoint = checkpoints.at(number, folder)
        if checkpoint:
            self._restore_state(checkpoint.state)
        # Only now: which variables the optimizer has depends on whether the base is unfrozen.
        self._step = self._new_step()
        if checkpoint:
            for variable, array in zip(self._step.variables, checkpoint.arrays, strict=True):
                for copy in self._copies(variable):
                    copy.assign(array)
            done = len(self._history)
            epochs = "1 epoch" if done == 1 else f"{done} epochs"
            print(f"resuming at step {checkpoint.step:,} ({epochs} completed)")

    def _restore_state(self, state: Mapping[str, Any]) -> None:
        _check_same(state["identity"], json.loads(json.dumps(self._identity())))
        self._history, self._timing = state["history"], state["timing"]
        self._offending = collections.Counter(state["blamed"])
        self._unfrozen = state["unfrozen"]
        self._state = step.state_of(state["carry"])

    def _copies(self, variable: tf.Variable) -> Sequence[tf.Variable]:
        """Returns a variable's copies on the replicas of this process."""
        return self.runtime.strategy.experimental_local_results(variable)


def _check_same(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in {**saved, **now}:
        before, current = saved.get(name, "absent"), now.get(name, "absent")
        if before != current:
            raise TrainingError(
                f"cannot resume: {name} was {before!r} when the training began and is {current!r}"
                " now; restore it, or choose another run folder"
            )


def _named(rows: collections.Counter[str]) -> str:
    shown = [f"{name} ({times} times)" if times > 1 else name for name, times in rows.items()]
    more = f" and {len(shown) - _MAX_NAMED:,} more" if len(shown) > _MAX_NAMED else ""
    return ", ".join(shown[:_MAX_NAMED]) + more


def validation_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the monitored metrics, and `val_named`: the number of classes that are predicted."""
    matrix = confusion.confusion(labels, probabilities.argmax(1), probabilities.shape[1])
    return {
        "val_loss": confusion.log_loss(labels, probabilities),
        "val_accuracy": float(confusion.accuracy_of(matrix)),
        "val_macro_f1": float(confusion.macro_f1_of(matrix)),
        "val_balanced_accuracy": float(confusion.balanced_accuracy_of(matrix)),
        "val_named": float((matrix.sum(0) > 0).sum()),
    }
