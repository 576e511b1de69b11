"""Evaluates a trained run on a split and writes `report.json` and `report.html`.

    python -m models.evaluate_main --run_dir=runs/photos

Every image of the split counts once; nothing is resampled or shuffled.
"""

from collections.abc import Sequence

from absl import flags

from datapipe import resident
from models import assessment, runs
from records import cli, manifest, record_set, tfrecord

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.")
_RECORDS = flags.DEFINE_string("records", None, "Record set; that of the training if left out.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the report; the run's if left out.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images at a time.")


def main(arguments: Sequence[str]) -> int:
    """Loads run and records, predicts, reports."""
    cli.no_arguments(arguments)
    run_dir = cli.require_folder("run_dir", _RUN_DIR.value)
    cli.at_least(1, _BATCH_SIZE)
    run = runs.load(run_dir)
    records = cli.require_folder("records", _RECORDS.value or run.records)
    opened = record_set.open_set(records) if _RECORDS.value else runs.records_of(run)
    runs.check_fits(run, opened.manifest)
    if not _RECORDS.value and opened.manifest.digest != run.records_digest:
        raise runs.RunError(
            f"{run.records} was built anew since the training, so its splits may be others;"
            " give it as --records to evaluate on it all the same"
        )
    cli.one_of("split", _SPLIT.value, opened.manifest.splits)
    assessment.report_on(
        run,
        run_dir,
        opened,
        _SPLIT.value,
        batch_size=_BATCH_SIZE.value,
        output=_OUTPUT.value or run_dir,
    )
    return cli.DONE


if __name__ == "__main__":
    cli.run(
        main,
        runs.RunError,
        manifest.ManifestError,
        tfrecord.DamagedRecordError,
        resident.MemoryBudgetError,
        OSError,
    )
