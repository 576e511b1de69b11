"""The same split predicted by several runs, as by several seeds: means and their intervals."""

import dataclasses
import os
from collections.abc import Sequence

from models.metrics import confusion, significance
from models.reporting import predictions
from records.common import atomic, cli

METRICS = {
    "accuracy": confusion.accuracy_of,
    "macro_f1": confusion.macro_f1_of,
    "balanced_accuracy": confusion.balanced_accuracy_of,
}


@dataclasses.dataclass(frozen=True)
class Mean:
    """A metric over several runs.

    Attributes:
        mean: plain mean.
        low: of the 95 % interval of the mean, by Student's t; NaN for one run.
        high: the same.
        standard_deviation: of single runs; NaN for one run.
        values: of each run.
    """

    mean: float
    low: float
    high: float
    standard_deviation: float
    values: tuple[float, ...]


def of(run_dirs: Sequence[str], split: str) -> dict[str, Mean]:
    """Returns each metric over the runs, from their files of predictions.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    matrices = [predictions.load(folder, split).confusion for folder in run_dirs]
    result = {}
    for name, function in METRICS.items():
        values = [float(function(matrix)) for matrix in matrices]
        mean, low, high, deviation = significance.mean_interval(values)
        result[name] = Mean(mean, max(low, 0.0), min(high, 1.0), deviation, tuple(values))
    return result


def write(run_dirs: Sequence[str], split: str, folder: str) -> str:
    """Writes the metrics as `summary-<split>.json`; returns the path."""
    path = os.path.join(folder, f"summary-{split}.json")
    said = {
        "runs": [os.path.basename(run_dir) for run_dir in run_dirs],
        **{name: dataclasses.asdict(mean) for name, mean in of(run_dirs, split).items()},
    }
    atomic.write_whole(path, atomic.json_bytes(said, indent=1))
    return path


def table(run_dirs: Sequence[str], split: str) -> str:
    """Returns the metrics as a table for the screen."""
    rows: list[Sequence[object]] = [("metric", "mean", "95 % interval", "deviation", "lowest")]
    for name, mean in of(run_dirs, split).items():
        interval = f"{mean.low:.4f} to {mean.high:.4f}"
        numbers = (f"{mean.mean:.4f}", interval, f"{mean.standard_deviation:.4f}")
        rows.append((name.replace("_", " "), *numbers, f"{min(mean.values):.4f}"))
    return cli.table(rows)
