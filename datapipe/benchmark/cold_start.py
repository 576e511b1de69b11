"""What a new process needs until its first batch: seconds, and memory."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from datapipe.benchmark.process import NUM_BATCHES, Started
from datapipe.benchmark.systems import Stage, from_nothing
from datapipe.profile.turns import Row, summary
from records.common import errors

TASKS: Mapping[str, str] = {
    "FIRST_BATCH": "from nothing to the first batch of training, in a new process",
    "MEMORY": f"most that process holds in {NUM_BATCHES} batches, beyond imports",
}

_IMPORTS = "imports alone"
_PIXELS = "the pixels themselves"
_KINDS = {"FIRST_BATCH": ("seconds", "tutorial tf.data"), "MEMORY": ("mebibytes", _PIXELS)}


class FailedProcessError(errors.DatapipeError, RuntimeError):
    """A new process did not come to its end."""


def rows(stage: Stage, tasks: Sequence[str], repeats: int) -> dict[str, list[Row]]:
    """Returns the measurements of the tasks; each process serves them all.

    Args:
        stage: the record set to begin with.
        tasks: of `TASKS`.
        repeats: processes for each system; the systems take turns.

    Raises:
        FailedProcessError: if one fails.
    """
    names = [system.name for system in from_nothing(stage)]
    turns = [{name: start(name, stage) for name in names} for _ in range(repeats)]
    found = {"FIRST_BATCH": _seconds(turns), "MEMORY": _mebibytes(turns, stage)}
    result = {}
    for task in tasks:
        unit, base = _KINDS[task]
        result[task] = summary(task, unit, found[task], [base])
    return result


def start(system: str, stage: Stage) -> Started:
    """Returns what a new process finds that begins with a system of `from_nothing`.

    Raises:
        FailedProcessError: if it fails, with what it said last.
    """
    command = [
        *(sys.executable, "-m", "datapipe.benchmark.process"),
        *(system, stage.records.folder, stage.split, str(stage.batch_size)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FailedProcessError(f"a new process for {system!r} failed: {said[-1]}")
    return Started(**json.loads(done.stdout.splitlines()[-1]))


def _seconds(turns: Sequence[Mapping[str, Started]]) -> dict[str, list[float]]:
    found = {name: [turn[name].first_batch_seconds for turn in turns] for name in turns[0]}
    imports = [statistics.mean(s.import_seconds for s in turn.values()) for turn in turns]
    return {**found, _IMPORTS: imports}


def _mebibytes(turns: Sequence[Mapping[str, Started]], stage: Stage) -> dict[str, list[float]]:
    info = stage.records.manifest
    pixels = info.split(stage.split).count * info.image_bytes
    found = {
        name: [(turn[name].peak_bytes - turn[name].import_bytes) / 2**20 for turn in turns]
        for name in turns[0]
    }
    return {**found, _PIXELS: [pixels / 2**20] * len(turns)}
