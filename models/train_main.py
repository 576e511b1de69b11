"""Trains a classifier on a record set, or on a folder of images, which is packed first.

    python -m models.train_main --records=photos.records --run_dir=runs/photos
    python -m models.train_main --source=photos --run_dir=runs/photos --target=balanced

Then: python -m models.evaluate_main --run_dir=runs/photos
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from models import flags as train_flags
from models.config import TrainConfig
from records.builder import flags as build_flags
from records.common import cli, errors
from records.format import record_set
from records.format.record_set import RecordSet
from records.source import flags as source_flags

_TRAINING = train_flags.Training()
_RECORDS = flags.DEFINE_string("records", None, "Record set to train on (or pack --source).")
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Folder for the results; it must not hold a finished run."
)
_REPORT = flags.DEFINE_list(
    "report", [], "Splits to evaluate after training, each with a report, such as test."
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 1, "Number of trainings, with the seeds --seed, --seed + 1, ..., and their mean."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "With --source: folder of the packed record set; RUN_DIR/records if not given."
)

PACKING = [*source_flags.NAMES, *build_flags.NAMES, "output"]
_SHOWN = ["source", "labels", "label_map", "splits", "image_size"]
_DATA, *_OTHERS = _TRAINING.groups.items()
GROUPS = {
    "data": ["records", "run_dir", *_DATA[1]],
    "packing --source (as records.build_main does)": _SHOWN,
    "and, with --source, all other flags of records.build_main:": [
        name for name in PACKING if name not in _SHOWN
    ],
    **dict(_OTHERS),
    "output": ["report", "repeats"],
}
ELSEWHERE = {"dry_run": "--dry_run belongs to records.build_main"}
# Flags that differ among several trainings, or are not passed on to them.
_OF_SEVERAL = {"run_dir", "records", "folds", "fold", "repeats", "report"}


def main(arguments: Sequence[str]) -> int:
    """Reads the config, opens or packs the records, trains once or several times."""
    cli.no_arguments(arguments)
    config = _TRAINING.read()
    _check_flags(config)
    run_dir = cli.require("run_dir", _RUN_DIR.value)

    # TensorFlow is imported here, after the command line is checked.
    from datapipe.plan import explain
    from models import experiment, run_folder
    from models.multirun import runs

    runs.follow_parent()
    if run_folder.is_finished(run_dir):
        raise cli.UsageError(f"--run_dir must be new, {run_dir!r} holds a finished run")
    opened = record_set.open_set(_records(run_dir))
    if _TRAINING.sampling.explains:
        print(explain.explain(experiment.check(config, opened, _REPORT.value)))
    elif _trains_once(config):
        run = experiment.train(config, opened, run_dir, report=_REPORT.value, flags=_given())
        if run:
            print(
                f"best epoch {run.best_epoch} of {len(run.history)} (marked *), saved to {run_dir}"
            )
    else:
        with run_folder.locked(run_dir):
            several = _repeat if _REPEATS.value > 1 else _cross_validate
            several(config, opened, run_dir)
    return cli.DONE


def _repeat(config: TrainConfig, opened: RecordSet, run_dir: str) -> None:
    """Trains with several seeds, and summarizes their scores."""
    from models.multirun import runs
    from records.split import folds

    common = [*_arguments(opened), *cli.given(["folds"])]
    splits = [] if config.folds else _REPORT.value or [config.validation_split]
    common += [f"--report={','.join(splits)}"] if splits else []
    seeds = range(config.seed, config.seed + _REPEATS.value)
    run_dirs = runs.run_many(
        [
            runs.Job(os.path.join(run_dir, f"seed-{seed}"), [*common, f"--seed={seed}"])
            for seed in seeds
        ]
    )
    for split in splits or [folds.POOLED]:
        table, path = runs.seed_summary(run_dirs, split, run_dir)
        print(f"{split} of {len(run_dirs)} seeds:\n{table}\n{path}")


def _cross_validate(config: TrainConfig, opened: RecordSet, run_dir: str) -> None:
    """Trains a model for each fold, and reports on the pooled predictions."""
    from models import experiment
    from models.multirun import cross_validation, runs

    with errors.config_errors():
        experiment.in_fold(config, opened)
    common = [*_arguments(opened), *cli.given(["seed", "folds"]), "--report=test"]
    run_dirs = runs.run_many(
        [
            runs.Job(os.path.join(run_dir, f"fold-{fold:02d}"), [*common, f"--fold={fold}"])
            for fold in range(config.folds)
        ]
    )
    table, _ = runs.seed_summary(run_dirs, "test", run_dir)
    print(f"each of {config.folds} folds:\n{table}")
    cross_validation.write(opened, run_dirs, run_dir)


def _trains_once(config: TrainConfig) -> bool:
    return _REPEATS.value == 1 and (not config.folds or config.fold >= 0)


def _arguments(opened: RecordSet) -> list[str]:
    """Returns the flags that all of several trainings have in common."""
    names = set(_TRAINING.names()) - _OF_SEVERAL - {"seed"}
    return [*cli.given(names), f"--records={opened.folder}"]


def _given() -> Mapping[str, Any]:
    """Returns the flags that are set, for `run.json`."""
    names = sorted({*_TRAINING.names(), *PACKING, *_OF_SEVERAL})
    return {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].present}


def _check_flags(config: TrainConfig) -> None:
    """Raises UsageError for flags that contradict each other."""
    cli.at_least(1, _REPEATS)
    if not _trains_once(config):
        if config.hardware.workers or os.environ.get("TF_CONFIG"):
            raise cli.UsageError(
                "--folds and --repeats run one process at a time, not several --workers"
            )
        if config.folds and _REPORT.value:
            raise cli.UsageError("--report has no effect with --folds: all folds are evaluated")
    check_source(_RECORDS.value)


def check_source(records: str | None) -> None:
    """Raises UsageError for flags of packing with records, or if there is neither a source."""
    if records:
        for name in PACKING:
            if flags.FLAGS[name].present:
                raise cli.UsageError(f"--{name} has no effect with --records")
        cli.require_folder("records", records)
    elif not source_flags.is_given():
        raise cli.UsageError("--records or --source must be given")
    elif flags.FLAGS["workers"].value:
        raise cli.UsageError("--workers need a record set: pack it first, and pass --records")


def _records(run_dir: str) -> str:
    """Returns the folder of the records, packed by `records.build_main` from a source if needed."""
    # In its own process: its worker processes import the main module, which would load TensorFlow.
    if _RECORDS.value:
        return str(_RECORDS.value)
    output = _OUTPUT.value or os.path.join(run_dir, "records")
    packing = [name for name in PACKING if name != "output"]
    command = [sys.executable, "-m", "records.build_main", *cli.given([*packing, "seed"])]
    code = subprocess.run([*command, f"--output={output}"], check=False).returncode
    if code:
        sys.exit(code)
    return output


if __name__ == "__main__":
    cli.run(main, groups=GROUPS, elsewhere=ELSEWHERE, again="resume from the last checkpoint")
