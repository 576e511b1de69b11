"""What a new process needs until its first batch: seconds, and memory.

The process is this module as a program, which begins as training does and prints a line of JSON:

    python -m datapipe.benchmark.cold_start SYSTEM FOLDER SPLIT BATCH_SIZE

TensorFlow and what stands on it are imported within functions, because what that takes is measured.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from records.common import errors

if TYPE_CHECKING:
    from datapipe.benchmark.systems import Inputs
    from datapipe.profile import timing

NUM_BATCHES = 64  # after the first, so that all buffers are full
TASKS: Mapping[str, str] = {
    "FIRST_BATCH": "from nothing to the first batch of training, in a new process",
    "MEMORY": f"most that process holds in {NUM_BATCHES} batches, beyond imports",
}

_IMPORTS = "imports alone"
_PIXELS = "the pixels themselves"
_KINDS = {"FIRST_BATCH": ("seconds", "tutorial tf.data"), "MEMORY": ("mebibytes", _PIXELS)}


@dataclasses.dataclass(frozen=True)
class Started:
    """What one process found.

    Attributes:
        import_seconds: until TensorFlow and all else was imported.
        first_batch_seconds: from there to the first batch.
        import_bytes: resident memory after the imports.
        peak_bytes: highest resident memory of the whole run, files mapped into memory included.
    """

    import_seconds: float
    first_batch_seconds: float
    import_bytes: int
    peak_bytes: int


class FailedProcessError(errors.DatapipeError, RuntimeError):
    """A new process did not come to its end."""


def rows(inputs: "Inputs", tasks: Sequence[str], repeats: int) -> "dict[str, list[timing.Row]]":
    """Returns the measurements of the tasks; each process serves them all.

    Args:
        tasks: of `TASKS`.
        repeats: processes for each system; the systems take turns.

    Raises:
        FailedProcessError: if one fails.
    """
    from datapipe.benchmark import systems
    from datapipe.profile import timing

    names = [system.name for system in systems.from_nothing(inputs)]
    turns = [{name: start(name, inputs) for name in names} for _ in range(repeats)]
    found = {"FIRST_BATCH": _seconds(turns), "MEMORY": _mebibytes(turns, inputs)}
    result = {}
    for task in tasks:
        unit, base = _KINDS[task]
        result[task] = timing.rows(task, unit, found[task], [base])
    return result


def start(system: str, inputs: "Inputs") -> Started:
    """Returns what a new process finds that begins with a system of `from_nothing`.

    Raises:
        FailedProcessError: if it fails, with what it said last.
    """
    command = [
        *(sys.executable, "-m", "datapipe.benchmark.cold_start"),
        *(system, inputs.records.folder, inputs.split, str(inputs.batch_size)),
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


def _mebibytes(turns: Sequence[Mapping[str, Started]], inputs: "Inputs") -> dict[str, list[float]]:
    info = inputs.records.manifest
    pixels = info.split(inputs.split).count * info.image_bytes
    found = {
        name: [(turn[name].peak_bytes - turn[name].import_bytes) / 2**20 for turn in turns]
        for name in turns[0]
    }
    return {**found, _PIXELS: [pixels / 2**20] * len(turns)}


def begin(system: str, folder: str, split: str, batch_size: int) -> Started:
    """Begins with a system of `systems.from_nothing` in this process and takes some batches."""
    started = time.perf_counter()
    from datapipe.benchmark import systems
    from records.format import record_set

    imported, import_bytes = time.perf_counter(), _memory("VmRSS")
    inputs = systems.Inputs(record_set.open_set(folder), split, batch_size)
    ways = {each.name: each.batches for each in systems.from_nothing(inputs)}
    batches = ways[system]()
    next(batches)
    first = time.perf_counter()
    for _ in range(NUM_BATCHES):
        next(batches)
    return Started(imported - started, first - imported, import_bytes, _memory("VmHWM"))


def _memory(field: str) -> int:
    """Returns a field of this process's status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields[field].split()[0]) << 10


if __name__ == "__main__":
    _, name, path, split_name, number = sys.argv
    print(json.dumps(dataclasses.asdict(begin(name, path, split_name, int(number)))))
