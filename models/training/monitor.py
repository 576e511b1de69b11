"""What the history of a training decides: the epoch to keep, the learning rate, when to stop.

A history is a sequence of mappings, one line an epoch. Nothing is remembered beside it, so a
training that goes on after an interruption decides as one that was never interrupted. A value that
is not a number is never the better one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

History = Sequence[Mapping[str, float]]

MONITORS = {  # 1: higher is better
    "val_loss": -1,
    "val_accuracy": 1,
    "val_macro_f1": 1,
    "val_balanced_accuracy": 1,
    "epoch": 1,  # the last is the best: for validation splits too small to choose by
}


def check_monitor(name: str) -> None:
    """Raises ValueError for the name of no metric that can be monitored."""
    if name not in MONITORS:
        raise ValueError(f"monitor must be one of {tuple(MONITORS)}, got {name!r}")


def best_epoch(history: History, monitor: str) -> int:
    """Returns the number of the best epoch, the latest of equal ones; the first is 1.

    The latest, since it saw the lowest learning rate. 0 if there is none with a value.
    """
    best, best_number = -math.inf, 0
    for number, value in enumerate(_rising(history, monitor), 1):
        if value >= best:
            best, best_number = value, number
    return best_number


def plateau_factor(history: History, monitor: str, patience: int, factor: float) -> float:
    """Returns what the learning rate is to be multiplied by after these epochs.

    Multiplied by `factor` after each `patience` epochs without a strictly better value, counted
    anew each time, as Keras' ReduceLROnPlateau does with a `min_delta` of 0.

    Args:
        history: of all epochs so far.
        monitor: one of `MONITORS`.
        patience: epochs, at least 1.
        factor: above 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    if not 0 < factor < math.inf:
        raise ValueError(f"factor must be above 0, got {factor}")
    times = sum(waited > 0 and waited % patience == 0 for waited in _waited(history, monitor))
    return factor**times


def stops(history: History, monitor: str, patience: int) -> bool:
    """Returns whether training stops after these epochs, as Keras' EarlyStopping does.

    That is when the last `patience` epochs brought no strictly better value.

    Args:
        history: of all epochs so far.
        monitor: one of `MONITORS`.
        patience: epochs; 0 never stops.

    Raises:
        ValueError: if an argument is out of range.
    """
    if patience < 0:
        raise ValueError(f"patience must be 0 or more, got {patience}")
    waited = [0, *_waited(history, monitor)][-1]
    return 0 < patience <= waited


def _waited(history: History, monitor: str) -> Iterator[int]:
    """Yields for each epoch how many have passed since the last that was strictly better."""
    best, waited = -math.inf, 0
    for value in _rising(history, monitor):
        better = value > best
        best, waited = (value, 0) if better else (best, waited + 1)
        yield waited


def _rising(history: History, monitor: str) -> list[float]:
    """Returns the monitored values, higher being better."""
    check_monitor(monitor)
    return [MONITORS[monitor] * line[monitor] for line in history]
