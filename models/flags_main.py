"""Writes models/FLAGS.md: every flag of every program, as in `--help`.

    python -m models.flags_main

A test compares the file with the flags; run this after changing a flag.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from records.common import atomic, cli

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "FLAGS.md")
_COMMANDS = ("show", "survey", "verify", "cluster", "audit", "diff", "export", "import")
BINARIES = (
    "records.build_main",
    *(f"records.inspect_main {command}" for command in _COMMANDS),
    *("datapipe.preview_main", "datapipe.benchmark_main"),
    *("models.train_main", "models.evaluate_main", "models.predict_main", "models.export_main"),
    *("models.sweep_main", "models.compare_main", "models.doctor_main", "models.benchmark_main"),
)
_HEAD = """# Flags

Made by `python -m models.flags_main` from the flags themselves. `--help` shows the same, and
`--flagfile=FILE` reads flags from a file, one a line. `...` is a flag without a default.
"""


def main(arguments: Sequence[str]) -> int:
    """Writes the page of the flags of all programs."""
    cli.no_arguments(arguments)
    atomic.write_whole(PATH, page().encode())
    print(PATH)
    return cli.DONE


def page() -> str:
    """Returns the page; each program lists its flags in its own process, as flags are global."""
    parts = [_HEAD]
    for binary in BINARIES:
        command = [sys.executable, "-m", *binary.split(), "--helpmd"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        parts.append(f"## `python -m {binary}`\n\n{done.stdout}")
    return "\n".join(parts)


if __name__ == "__main__":
    cli.run(main)
