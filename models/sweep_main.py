r"""Trains variations of one training with the same seeds, and says which differ beyond noise.

    python -m models.sweep_main --sweep=models/studies/mask_attempts.sweep \
        --records=masks.records --run_dir=runs/masks --repeats=3

The file has one variation a line, a name and the flags of training that it changes:

    base: --model=lenet --dropout=0     # the first line is what the others are compared to
    half: --dropout=0.5                 # has the flags of the base as well, but for this one
    slow: --learning_rate=0.0005

Flags of training that are given to this program hold for all variations, before those of the base.
The same command goes on after an interruption; lines may be added to the file, to be trained too.

Choose by the validation split, which --split is if left out. Choosing by the test split spends it:
of many scores there the best one is too good, and nothing is left to say by how much.
"""

import copy
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from models import run_folder, train_main
from models.multirun import comparison, page, summary
from models.multirun import runs as several
from records import build_main
from records.common import atomic, cli
from records.format import manifest, record_set

flags.adopt_module_key_flags(train_main)
_SWEEP = flags.DEFINE_string("sweep", None, "File with one variation a line, `name: --flag=...`.")
_SPLIT = flags.DEFINE_string(
    "split",
    "validation",
    "Split to compare on. Choosing on the test split makes its score too good to report.",
)
_METRIC = flags.DEFINE_enum(
    "metric", comparison.METRIC, sorted(summary.METRICS), "What differences are tested in."
)

_STATE = "sweep.json"
_RESERVED = ("records",)  # a folder beside those of the variations
_PROGRAM = "models.train_main"
# What a sweep decides itself, or what trains in another way than once, alone, to the end.
_OF_THE_SWEEP = ("run_dir", "records", "repeats", "report")
_NOT_IN_A_SWEEP = ("folds", "fold", "explain_plan", "dry_run", "workers", "worker")


@dataclasses.dataclass(frozen=True)
class Variation:
    """A line of the file.

    Attributes:
        name: of the variation, and of its folder.
        line: number of the line, from 1.
        arguments: all flags of its training, but for those the sweep decides.
    """

    name: str
    line: int
    arguments: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    """Reads the file, checks all of it, trains what is missing, compares."""
    cli.no_arguments(arguments)
    run_dir = cli.require("run_dir", flags.FLAGS.run_dir)
    _check_flags()
    variations = read(cli.require("sweep", _SWEEP.value), _shared())
    with run_folder.held(run_dir):
        records = _records(run_dir, variations[0])
        _check_trainings(run_dir, records, variations)
        jobs = {each.name: _jobs(each, run_dir, records) for each in variations}
        several.run([job for of_one in jobs.values() for job in of_one])
        found = [
            comparison.Variation(name, tuple(job.run_dir for job in of_one), _SPLIT.value)
            for name, of_one in jobs.items()
        ]
        compared = comparison.compare(found, _SPLIT.value, metric=_METRIC.value)
        paths = comparison.write(compared, run_dir), page.write(compared, run_dir)
    print("\n".join([comparison.text(compared), *paths]))
    return cli.DONE


def read(path: str, shared: Sequence[str] = ()) -> list[Variation]:
    """Returns the variations in a file, at least 2, the base first.

    Args:
        path: of the file.
        shared: flags of all variations.

    Raises:
        UsageError: if there is something wrong with the file, with the line.
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
            changed = _parsed(own)
            _refuse(_present(changed))
            arguments = _arguments(_present(_parsed([*shared, *base, *own])))
            _check_new(name, arguments, found)
        except (ValueError, flags.Error) as error:
            raise cli.UsageError(f"{path}, line {number}: {error}") from None
        if not found:
            base = own
        found.append(Variation(name, number, arguments))
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
        raise ValueError(f"a name must be of letters, digits, - and _, got {name!r}")
    if name in _RESERVED:
        raise ValueError(f"a name must not be that of another folder, got {name!r}")
    return name, shlex.split(rest, comments=True)


def _parsed(words: Sequence[str]) -> flags.FlagValues:
    """Returns the flags of training as these words set them; those of this process stay.

    Raises:
        flags.Error: for a flag that training does not know, or that cannot have its value.
        ValueError: for a word that is no flag.
    """
    for word in words:
        if word.lstrip("-").partition("=")[0] in ("flagfile", "undefok"):  # absl looks to these
            raise ValueError(f"{word} has no place in a sweep")
    values = flags.FlagValues()
    for flag in _of_training():
        values[flag.name] = copy.deepcopy(flag)
        values[flag.name].unparse()
    rest = values(["train_main", *words])[1:]
    if rest:
        raise ValueError(f"only flags are understood, got {' '.join(rest)!r}")
    return values


def _of_training() -> list[flags.Flag]:
    return list(flags.FLAGS.get_key_flags_for_module(train_main.__name__))


def _of_building() -> set[str]:
    """Returns the names of the flags that say how records are built."""
    return {flag.name for flag in flags.FLAGS.get_key_flags_for_module(build_main.__name__)}


def _present(values: flags.FlagValues) -> list[flags.Flag]:
    return [values[name] for name in values if values[name].present]


def _refuse(given: Iterable[flags.Flag]) -> None:
    """Refuses flags that no variation may set.

    Raises:
        ValueError: if there is one.
    """
    own = {*_OF_THE_SWEEP, *_of_building(), *_NOT_IN_A_SWEEP}
    for flag in given:
        if flag.name in own:
            raise ValueError(f"--{flag.name} is the same for all variations, or has no place here")


def _arguments(given: Iterable[flags.Flag]) -> tuple[str, ...]:
    """Returns flags as arguments, in the order of their names."""
    return tuple(
        line
        for flag in sorted(given, key=lambda flag: flag.name)
        for line in flag.serialize().split("\n")  # a flag that was given twice comes as two lines
    )


def _check_new(name: str, arguments: Sequence[str], before: Sequence[Variation]) -> None:
    for other in before:
        if other.name == name:
            raise ValueError(f"names must be distinct, {name!r} stands in line {other.line} too")
        if _values(other.arguments) == _values(arguments):
            raise ValueError(f"{name!r} is the same training as {other.name!r}")


def _values(arguments: Sequence[str]) -> dict[str, Any]:
    return dict(_parsed(arguments).flag_values_dict())


def _check_flags() -> None:
    """Refuses flags of this program that cannot be meant."""
    for name in _NOT_IN_A_SWEEP:
        if flags.FLAGS[name].present and flags.FLAGS[name].value:
            raise cli.UsageError(f"--{name} has no place in a sweep")
    if os.environ.get("TF_CONFIG"):
        raise cli.UsageError("a sweep trains one by one, and TF_CONFIG is set")
    if flags.FLAGS.report:
        raise cli.UsageError("--report has no place in a sweep, which reports on --split")
    if flags.FLAGS.repeats < 1:
        raise cli.UsageError(f"--repeats must be at least 1, got {flags.FLAGS.repeats}")
    if flags.FLAGS.records:
        for name in sorted(_of_building() - {"seed"}):
            if flags.FLAGS[name].present:
                raise cli.UsageError(f"--{name} has no effect where --records is given")
    elif not flags.FLAGS.source:
        raise cli.UsageError("--records or --source must be given")


def _shared() -> tuple[str, ...]:
    """Returns the flags of training that were given to this program."""
    own = {*_OF_THE_SWEEP, *_of_building(), *_NOT_IN_A_SWEEP}
    return _arguments(flag for flag in _of_training() if flag.present and flag.name not in own)


def _jobs(each: Variation, run_dir: str, records: str) -> list[several.Job]:
    first = flags.FLAGS.seed
    return [
        several.Job(
            os.path.join(run_dir, each.name, f"seed-{seed}"),
            _all_arguments(each, records, seed),
        )
        for seed in range(first, first + flags.FLAGS.repeats)
    ]


def _all_arguments(each: Variation, records: str, seed: int) -> list[str]:
    return [*each.arguments, f"--records={records}", f"--report={_SPLIT.value}", f"--seed={seed}"]


def _records(run_dir: str, base: Variation) -> str:
    """Returns the folder of the records, built by the training binary if there is only a source."""
    if flags.FLAGS.records:
        return cli.require_folder("records", flags.FLAGS.records)
    names = _of_building()
    given = [flag for flag in _of_training() if flag.present and flag.name in names]
    command = [*base.arguments, *_arguments(given), f"--run_dir={run_dir}", "--explain_plan"]
    code = subprocess.run([sys.executable, "-m", _PROGRAM, *command], check=False).returncode
    if code:
        sys.exit(code)
    return flags.FLAGS.output or os.path.join(run_dir, "records")


def _check_trainings(run_dir: str, records: str, variations: Sequence[Variation]) -> None:
    """Checks each variation against the records, and against what was begun under its name.

    What was checked before is not checked again.

    Raises:
        UsageError: if a variation cannot be trained, with its line, or was begun in another way.
        SeveralError: if a check failed for another reason.
    """
    digest = record_set.open_set(records).manifest.digest
    path = os.path.join(run_dir, _STATE)
    state = _state(path) or {"records": digest, "variations": {}}
    if state["records"] != digest:
        raise cli.UsageError(
            f"{run_dir} was begun with other records; give another --run_dir, or those"
        )
    begun = state["variations"]
    for each in variations:
        where = f"{_SWEEP.value}, line {each.line}"
        if begun.get(each.name, list(each.arguments)) != list(each.arguments):
            raise cli.UsageError(
                f"{where}: {each.name!r} was begun with {' '.join(begun[each.name]) or 'no flags'}"
                f" and has now {' '.join(each.arguments) or 'none'}; give it another name, or"
                " another --run_dir"
            )
        if each.name not in begun:
            _check_training(each, where, run_dir, records)
    begun |= {each.name: list(each.arguments) for each in variations}
    atomic.write_whole(path, atomic.json_bytes(state, indent=1))


def _state(path: str) -> dict[str, Any] | None:
    """Returns what was begun in a folder, or None for a new one."""
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
        return {"records": str(state["records"]), "variations": dict(state["variations"])}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise run_folder.RunError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _check_training(each: Variation, where: str, run_dir: str, records: str) -> None:
    """Lets the training binary go as far as its plan, which trains nothing."""
    arguments = _all_arguments(each, records, flags.FLAGS.seed)
    command = [*arguments, f"--run_dir={os.path.join(run_dir, each.name)}", "--explain_plan"]
    done = subprocess.run(
        [sys.executable, "-m", _PROGRAM, *command], check=False, capture_output=True, text=True
    )
    if done.returncode:
        said = re.findall(r"^\S+: error: (.*)$", done.stderr, re.MULTILINE)
        message = f"{where}: {said[-1] if said else done.stderr.strip()}"
        raise (
            cli.UsageError(message)
            if done.returncode == cli.WRONG_USE
            else several.SeveralError(message)
        )


if __name__ == "__main__":
    cli.run(
        main,
        comparison.ComparisonError,
        several.SeveralError,
        run_folder.RunError,
        manifest.ManifestError,
        OSError,
        again="goes on with the training that was stopped",
    )
