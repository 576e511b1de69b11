r"""Trains variations of one training with the same seeds; reports which differ significantly.

    python -m models.sweep_main --sweep=models/studies/mask_attempts.sweep \
        --records=masks.records --run_dir=runs/masks --repeats=3

The file has one variation per line, a name and the training flags that it changes:

    base: --model=lenet --dropout=0     # the first line is the baseline
    half: --dropout=0.5                 # the flags of the baseline, except for this one
    slow: --learning_rate=0.0005

Training flags of this program apply to all variations; those in the file override them. The same
command resumes after an interruption; lines added to the file are trained too.

Choose by the validation split, the default of --split. If you choose by the test split, the best of
its scores is too high, and no data is left to measure by how much.
"""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from models import flags as train_flags
from models import train_main
from models.config import TrainConfig
from records.common import atomic, cli, errors
from records.format import record_set

_SWEEP = flags.DEFINE_string("sweep", None, "File with one variation a line, `name: --flag=...`.")
_SPLIT = flags.DEFINE_string(
    "split",
    "validation",
    "Split to compare on. Choosing on the test split makes its score too good to report.",
)
_METRIC = flags.DEFINE_enum(
    "metric", train_flags.METRICS[0], train_flags.METRICS, "Metric that differences are tested in."
)

GROUPS = {"sweep": ["sweep", "split", "metric"], **train_main.GROUPS}
_STATE = "sweep.json"
_RESERVED = ("records",)  # a folder beside those of the variations
_PROGRAM = "models.train_main"
# Flags that a sweep sets itself, and flags for anything but one complete training in one process.
_OF_THE_SWEEP = {"run_dir", "records", "repeats", "report"}
_NOT_IN_A_SWEEP = ("folds", "fold", "explain_plan", "workers", "worker")
_NOT_OF_A_LINE = {*_OF_THE_SWEEP, *_NOT_IN_A_SWEEP, *train_main.PACKING, "seed"}


class SweepError(errors.DatapipeError, RuntimeError):
    """The state of a sweep is damaged, or a training cannot be checked."""


@dataclasses.dataclass(frozen=True)
class Variation:
    """A line of the file."""

    name: str  # also of its folder
    line: int  # number, from 1
    arguments: tuple[str, ...]  # all flags of its training, except those the sweep sets
    config: TrainConfig  # from these flags


def main(arguments: Sequence[str]) -> int:
    """Reads and checks the file, runs the missing trainings, compares."""
    cli.no_arguments(arguments)
    run_dir = cli.require("run_dir", flags.FLAGS.run_dir)
    _check_flags()
    variations = read(cli.require("sweep", _SWEEP.value), _shared())

    # TensorFlow is imported here, after flags and file are checked.
    from models import run_folder
    from models.multirun import comparison, page, runs

    with run_folder.locked(run_dir):
        records = _records(run_dir, variations[0])
        _check_trainings(run_dir, records, variations)
        jobs = {
            each.name: [runs.Job(*job) for job in _jobs(each, run_dir, records)]
            for each in variations
        }
        runs.run_many([job for of_one in jobs.values() for job in of_one])
        trained = [
            comparison.Variation(name, tuple(job.run_dir for job in of_one), _SPLIT.value)
            for name, of_one in jobs.items()
        ]
        compared = comparison.compare(trained, _SPLIT.value, metric=_METRIC.value)
        paths = comparison.write(compared, run_dir), page.write(compared, run_dir)
    print("\n".join([page.text(compared), *paths]))
    return cli.DONE


def read(path: str, shared: Sequence[str] = ()) -> list[Variation]:
    """Returns the variations in a file, at least 2, the baseline first; all get the flags `shared`.

    Raises:
        UsageError: if the file is wrong; it names the line.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise cli.UsageError(f"--sweep must be a readable file, {path!r}: {error}") from None
    found: list[Variation] = []
    base: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, own = _parted(line)
            variation = Variation(name, number, *_parsed([*shared, *base, *own]))
            _check_new(variation, found)
        except ValueError as error:
            raise cli.UsageError(f"{path}, line {number}: {error}") from None
        if not found:
            base = own
        found.append(variation)
    if len(found) < 2:
        raise cli.UsageError(f"{path} must have at least 2 variations to compare, got {len(found)}")
    return found


def _parted(line: str) -> tuple[str, list[str]]:
    """Returns the name and the words of a line."""
    name, colon, rest = line.partition(":")
    name = name.strip()
    if not colon:
        raise ValueError(f"a variation must be `name: --flag=value ...`, got {line.strip()!r}")
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"a name must consist of letters, digits, - and _, got {name!r}")
    if name in _RESERVED:
        raise ValueError(f"the name {name!r} is reserved for another folder")
    return name, shlex.split(rest, comments=True)


def _parsed(words: Sequence[str]) -> tuple[tuple[str, ...], TrainConfig]:
    """Returns the training flags, sorted by name, and their config; this process's flags stay.

    Raises:
        ValueError: for an unknown flag, one that variations must not set, or an invalid value.
    """
    for word in words:
        if word.lstrip("-").partition("=")[0] in ("flagfile", "undefok"):  # parsed by absl itself
            raise ValueError(f"{word} is not supported in a sweep")
    values = flags.FlagValues()
    training = train_flags.Training(values)
    refused = {
        name: f"--{name} must be the same for all variations, or is not supported in a sweep"
        for name in _NOT_OF_A_LINE
    }
    cli.no_arguments(cli.parse(["train_main", *words], values, elsewhere=refused)[1:])
    for name in training.names():
        if values[name].present and name in refused:
            raise ValueError(refused[name])
    return tuple(cli.given(training.names(), values)), training.read()


def _check_new(new: Variation, before: Sequence[Variation]) -> None:
    for other in before:
        if other.name == new.name:
            raise ValueError(f"names must be distinct, {new.name!r} is on line {other.line} too")
        if other.config == new.config:
            raise ValueError(f"{new.name!r} is the same training as {other.name!r}")


def _check_flags() -> None:
    """Raises UsageError for flags of this program that a sweep does not support."""
    for name in _NOT_IN_A_SWEEP:
        if flags.FLAGS[name].present and flags.FLAGS[name].value:
            raise cli.UsageError(f"--{name} is not supported in a sweep")
    if os.environ.get("TF_CONFIG"):
        raise cli.UsageError("a sweep runs single processes, but TF_CONFIG is set")
    if flags.FLAGS.report:
        raise cli.UsageError("--report is not supported in a sweep, which reports on --split")
    if flags.FLAGS.repeats < 1:
        raise cli.UsageError(f"--repeats must be at least 1, got {flags.FLAGS.repeats}")
    train_main.check_source(flags.FLAGS.records)


def _shared() -> list[str]:
    """Returns the training flags that are set for this program."""
    with_lines = {flag for names in train_main.GROUPS.values() for flag in names} - _NOT_OF_A_LINE
    return cli.given(with_lines)


def _jobs(each: Variation, run_dir: str, records: str) -> list[tuple[str, list[str]]]:
    """Returns the run folder and the arguments of each training of a variation."""
    first = flags.FLAGS.seed
    return [
        (
            os.path.join(run_dir, each.name, f"seed-{seed}"),
            _all_arguments(each, records, seed),
        )
        for seed in range(first, first + flags.FLAGS.repeats)
    ]


def _all_arguments(each: Variation, records: str, seed: int) -> list[str]:
    return [*each.arguments, f"--records={records}", f"--report={_SPLIT.value}", f"--seed={seed}"]


def _records(run_dir: str, base: Variation) -> str:
    """Returns the folder of the records, which the training program packs if there is a source."""
    if flags.FLAGS.records:
        return str(flags.FLAGS.records)
    packing = cli.given([*train_main.PACKING, "seed"])
    command = [*base.arguments, *packing, f"--run_dir={run_dir}", "--explain_plan"]
    code = subprocess.run([sys.executable, "-m", _PROGRAM, *command], check=False).returncode
    if code:
        sys.exit(code)
    return flags.FLAGS.output or os.path.join(run_dir, "records")


def _check_trainings(run_dir: str, records: str, variations: Sequence[Variation]) -> None:
    """Checks each new variation against the records, and each older one against its first flags.

    Raises:
        UsageError: if a variation cannot be trained, or was started with other flags.
        SweepError: if the state is damaged, or a check failed for another reason.
    """
    digest = record_set.open_set(records).manifest.digest
    path = os.path.join(run_dir, _STATE)
    state = _state(path) or {"records": digest, "variations": {}}
    if state["records"] != digest:
        raise cli.UsageError(
            f"{run_dir} was started with other records; choose another --run_dir, or use those"
        )
    started = state["variations"]
    for each in variations:
        where = f"{_SWEEP.value}, line {each.line}"
        if each.name not in started:
            _check_training(each, where, run_dir, records)
        elif list(started[each.name]) != list(each.arguments):
            before = " ".join(started[each.name]) or "no flags"
            raise cli.UsageError(
                f"{where}: {each.name!r} was started with {before} and now has"
                f" {' '.join(each.arguments) or 'none'}; choose another name, or another --run_dir"
            )
    started |= {each.name: list(each.arguments) for each in variations}
    atomic.write_whole(path, atomic.json_bytes(state, indent=1))


def _state(path: str) -> dict[str, Any] | None:
    """Returns the state of the sweep, or None for a new one."""
    try:
        with open(path, encoding="utf-8") as file:
            state: Mapping[str, Any] = json.load(file)
        return {"records": str(state["records"]), "variations": dict(state["variations"])}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise SweepError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _check_training(each: Variation, where: str, run_dir: str, records: str) -> None:
    """Runs the training program up to its sampling plan, without training."""
    arguments = _all_arguments(each, records, flags.FLAGS.seed)
    command = [*arguments, f"--run_dir={os.path.join(run_dir, each.name)}", "--explain_plan"]
    done = subprocess.run(
        [sys.executable, "-m", _PROGRAM, *command], check=False, capture_output=True, text=True
    )
    if done.returncode:
        errors_shown = re.findall(r"^\S+: error: (.*)$", done.stderr, re.MULTILINE)
        message = f"{where}: {errors_shown[-1] if errors_shown else done.stderr.strip()}"
        raise (cli.UsageError if done.returncode == cli.WRONG_USE else SweepError)(message)


if __name__ == "__main__":
    cli.run(main, groups=GROUPS, elsewhere=train_main.ELSEWHERE, again="resume the sweep")
