"""Output of a training: the progress bar and its timing, a line for each epoch, CSV tables."""

import csv
import dataclasses
import io
import time
from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from records.common import atomic

_CALL_SECONDS = 0.5  # per call: long compared with its overhead, short for the eye
_MAX_STEPS_PER_CALL = 64
_MUCH_WAITING = 0.1  # share of an epoch's time


@dataclasses.dataclass(frozen=True)
class Epoch:
    """An epoch that has been trained and validated."""

    metrics: Mapping[str, float]  # its line of `history.csv`
    timing: Mapping[str, float]  # its line of `timing.csv`
    best: bool  # whether it is the best so far


class ProgressBar:
    """Counts the steps, images and seconds of an epoch; a context in which the bar is drawn."""

    def __init__(self, title: str, steps: int, done: int, *, show: bool):
        """Starts the clock.

        Args:
            title: shown left of the bar.
            steps: all steps of the epoch.
            done: steps made before an interruption.
            show: whether to draw the bar; never drawn outside a terminal.
        """
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=title,
            unit=" steps",
            leave=False,
            disable=None if show else True,
        )
        self._start = self._last = time.monotonic()
        self._steps = self._images = 0
        self._waited = self._seconds = 0.0
        self._fastest = 0.0  # seconds of a step

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def steps_per_call(self) -> int:
        """Returns how many steps take half a second, 1 to 64."""
        if not self._fastest:
            return 1
        # By the fastest so far: the first call also traces and compiles.
        return max(1, min(_MAX_STEPS_PER_CALL, int(_CALL_SECONDS / self._fastest)))

    def advance(self, steps: int, batch_size: int, waited: float) -> None:
        """Counts the steps since the last call, and the seconds that they waited for input."""
        now = time.monotonic()
        seconds = (now - self._last) / steps
        self._fastest = min(self._fastest or seconds, seconds)
        self._last, self._seconds = now, now - self._start
        self._steps += steps
        self._images += steps * batch_size
        self._waited += waited
        self._bar.set_postfix_str(
            f"{self._images / self._seconds:,.0f} images/s,"
            f" {self._waited / self._seconds:.0%} waiting for input",
            refresh=False,
        )
        self._bar.update(steps)

    def timing(self) -> dict[str, float]:
        """Returns steps, seconds, images per second and the share of time spent waiting."""
        seconds = max(self._seconds, 1e-9)
        return {
            "steps": self._steps,
            "seconds": seconds,
            "images_per_second": self._images / seconds,
            "waiting_for_input": self._waited / seconds,
        }


def write_csv(lines: Sequence[Mapping[str, float]], path: str) -> None:
    """Writes lines, which must have the same keys, as a CSV file, atomically."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    atomic.write_whole(path, out.getvalue().encode())


def lines(epoch: Epoch, num_epochs: int) -> Iterator[str]:
    """Yields the lines printed after an epoch: its metrics, then warnings and advice."""
    metrics, timing = epoch.metrics, epoch.timing
    waiting = timing["waiting_for_input"]
    yield (
        f"epoch {metrics['epoch']:3.0f}/{num_epochs}"
        f"  loss {metrics['loss']:.4f}  accuracy {metrics['accuracy']:.4f}"
        f"  | validation: loss {metrics['val_loss']:.4f}  accuracy {metrics['val_accuracy']:.4f}"
        f"  macro F1 {metrics['val_macro_f1']:.4f}"
        f"  | {timing['images_per_second']:,.0f} images/s,"
        f" {waiting:.0%} waiting{' *' if epoch.best else ''}"
    )
    if metrics.get("val_named") == 1:
        yield (
            "warning: all validation images are predicted as a single class (the model has"
            " collapsed)"
        )
    if metrics["epoch"] == 2:  # not after the first, which compiles
        yield f"training waits for input {waiting:.0%} of the time: " + (
            "python -m models.doctor_main recommends what to change"
            if waiting > _MUCH_WAITING
            else "the network is the bottleneck"
        )
