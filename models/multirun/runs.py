"""Many trainings, one after the other, each a process of its own with a run folder of its own.

What was finished is not done again, and what was begun goes on, so the same command after an
interruption ends where it would have ended without.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence

from models import run_folder
from records.common import errors, worker_pool

_PROGRAM = "models.train_main"
_PARENT = "DATAPIPE_PARENT"


class SeveralError(errors.DatapipeError, RuntimeError):
    """One of several trainings failed."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A training to be done.

    Attributes:
        run_dir: its folder.
        arguments: of the training binary, but for the run folder.
    """

    run_dir: str
    arguments: Sequence[str]


def run(jobs: Sequence[Job]) -> None:
    """Does the trainings that are not yet done, in order.

    Raises:
        SeveralError: if one fails; the others before it are kept.
    """
    for number, job in enumerate(jobs, 1):
        title = f"[{number}/{len(jobs)}] {job.run_dir}"
        if run_folder.is_finished(job.run_dir):
            print(f"{title}: finished before", flush=True)
            continue
        print(title, flush=True)
        command = [sys.executable, "-m", _PROGRAM, *job.arguments, f"--run_dir={job.run_dir}"]
        environment = {**os.environ, _PARENT: str(os.getpid())}
        code = subprocess.run(command, check=False, env=environment).returncode
        if code:
            raise SeveralError(
                f"{os.path.basename(job.run_dir)} ended with exit code {code}; the same command"
                " goes on from there"
            )


def follow_parent() -> None:
    """Lets this process end with the one that runs it as one of several trainings, if any does.

    Otherwise it would go on alone, beside the one that the same command begins again.
    """
    parent = os.environ.pop(_PARENT, "")
    if parent:
        worker_pool.end_with_parent(int(parent))
