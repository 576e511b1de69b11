"""Several trainings in sequence, each in its own process and run folder, and means over them.

Finished trainings are not repeated and interrupted ones resume, so after an interruption the same
command produces the same results.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence

from models import run_folder
from models.metrics import confusion, significance
from models.reporting import predictions
from records.common import atomic, cli, errors, worker_pool

METRICS = {
    "accuracy": confusion.accuracy_of,
    "macro_f1": confusion.macro_f1_of,
    "balanced_accuracy": confusion.balanced_accuracy_of,
}
_PROGRAM = "models.train_main"
_PARENT = "DATAPIPE_PARENT"


class SeveralError(errors.DatapipeError, RuntimeError):
    """One of several trainings failed."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A training to run."""

    run_dir: str
    arguments: Sequence[str]  # of the training program, without `--run_dir`


def run_many(jobs: Sequence[Job]) -> list[str]:
    """Runs the trainings that are not yet finished, in order; returns all run folders.

    Raises:
        SeveralError: if one fails; those before it are kept.
    """
    for number, job in enumerate(jobs, 1):
        title = f"[{number}/{len(jobs)}] {job.run_dir}"
        if run_folder.is_finished(job.run_dir):
            print(f"{title}: already finished", flush=True)
            continue
        print(title, flush=True)
        command = [sys.executable, "-m", _PROGRAM, *job.arguments, f"--run_dir={job.run_dir}"]
        environment = {**os.environ, _PARENT: str(os.getpid())}
        code = subprocess.run(command, check=False, env=environment).returncode
        if code:
            raise SeveralError(
                f"{os.path.basename(job.run_dir)} failed with exit code {code}; the same command"
                " resumes it"
            )
    return [job.run_dir for job in jobs]


def follow_parent() -> None:
    """If another process started this training as one of several, ends it with that process.

    Otherwise it would continue beside the training that the same command starts again.
    """
    parent = os.environ.pop(_PARENT, "")
    if parent:
        worker_pool.end_with_parent(int(parent))


# --- means over seeds ---


@dataclasses.dataclass(frozen=True)
class Mean:
    """A metric over several runs."""

    mean: float
    low: float  # 95 % interval of the mean, by Student's t; NaN for one run
    high: float
    standard_deviation: float  # between single runs; NaN for one run
    values: tuple[float, ...]  # of each run


def means(run_dirs: Sequence[str], split: str) -> dict[str, Mean]:
    """Returns each metric over the runs, from their predictions files.

    Raises:
        PredictionsError: if a file is missing or damaged.
    """
    matrices = [predictions.load(folder, split).confusion for folder in run_dirs]
    result = {}
    for name, function in METRICS.items():
        values = [float(function(matrix)) for matrix in matrices]
        mean, low, high, deviation = significance.mean_interval(values)
        result[name] = Mean(mean, max(low, 0.0), min(high, 1.0), deviation, tuple(values))
    return result


def seed_summary(run_dirs: Sequence[str], split: str, folder: str) -> tuple[str, str]:
    """Writes the metrics as `summary-<split>.json`; returns them as a table, and the path.

    Raises:
        PredictionsError: if a predictions file is missing or damaged.
    """
    found, path = means(run_dirs, split), os.path.join(folder, f"summary-{split}.json")
    summary = {
        "runs": [os.path.basename(run_dir) for run_dir in run_dirs],
        **{name: dataclasses.asdict(mean) for name, mean in found.items()},
    }
    atomic.write_whole(path, atomic.json_bytes(summary, indent=1))
    rows: list[Sequence[object]] = [("metric", "mean", "95 % interval", "deviation", "lowest")]
    for name, mean in found.items():
        interval = f"{mean.low:.4f} to {mean.high:.4f}"
        numbers = (f"{mean.mean:.4f}", interval, f"{mean.standard_deviation:.4f}")
        rows.append((name.replace("_", " "), *numbers, f"{min(mean.values):.4f}"))
    return cli.table(rows), path
