"""A program that begins as training does, and prints what that took as a line of JSON.

python -m datapipe.benchmark.process SYSTEM FOLDER SPLIT BATCH_SIZE
"""

import dataclasses
import json
import sys
import time

NUM_BATCHES = 64  # after the first, so that all buffers are full


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


def main(system: str, folder: str, split: str, batch_size: int) -> Started:
    """Begins with a system of `benchmark_systems.from_nothing` and takes some batches."""
    started = time.perf_counter()
    # Not at the top of the module, because what they take is measured.
    from datapipe.benchmark import systems
    from records.format import record_set

    imported, import_bytes = time.perf_counter(), _memory("VmRSS")
    stage = systems.Stage(record_set.open_set(folder), split, batch_size)
    begin = {system.name: system.begin for system in systems.from_nothing(stage)}
    batches = begin[system]()
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
    print(json.dumps(dataclasses.asdict(main(name, path, split_name, int(number)))))
