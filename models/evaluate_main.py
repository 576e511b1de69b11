"""Evaluates a trained run on a split: `report.html`, `report.json`, `predictions-<split>.csv`.

    python -m models.evaluate_main --run_dir=runs/photos

Every image of the split counts once; nothing is resampled or shuffled.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from records.common import cli, targets
from records.format import record_set

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Run folder, as train_main wrote it.")
_RECORDS = flags.DEFINE_string(
    "records", None, "Record set to evaluate on; that of the training if not given."
)
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the report; RUN_DIR if not given.")
_CLASS_SHARES = flags.DEFINE_list(
    "class_shares",
    [],
    "Report the scores for other class frequencies too: class=weight,... or balanced. The images"
    " of a class are weighted alike; none is resampled.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images per batch.")


def main(arguments: Sequence[str]) -> int:
    """Loads run and records, predicts, writes the report."""
    cli.no_arguments(arguments)
    run_dir = cli.require_folder("run_dir", _RUN_DIR.value)
    cli.at_least(1, _BATCH_SIZE)

    # TensorFlow is imported here, after the command line is checked.
    from models import experiment, run_folder

    run = run_folder.load(run_dir)
    records = cli.require_folder("records", _RECORDS.value or run.records)
    opened = record_set.open_set(records) if _RECORDS.value else run_folder.records_of(run)
    run_folder.check_fits(run, opened.manifest)
    if not _RECORDS.value and opened.manifest.digest != run.records_digest:
        raise run_folder.RunError(
            f"{run.records} was rebuilt since the training, so its splits may have changed;"
            " pass it as --records to evaluate on it anyway"
        )
    cli.one_of("split", _SPLIT.value, opened.manifest.splits)
    counts = opened.manifest.split(_SPLIT.value).class_counts
    shares = _shares(dict(zip(run.class_names, counts, strict=True)))
    experiment.evaluate(
        run,
        run_dir,
        opened,
        _SPLIT.value,
        batch_size=_BATCH_SIZE.value,
        output=_OUTPUT.value or run_dir,
        shares=shares,
    )
    return cli.DONE


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Returns the weights in --class_shares; `counts` are the images of each class."""
    if _CLASS_SHARES.value == ["balanced"]:
        return {name: 1.0 for name, count in counts.items() if count}
    shares = cli.by_class("class_shares", _CLASS_SHARES.value)
    if shares:
        missing = [name for name, count in counts.items() if count and name not in shares]
        if missing:
            raise cli.UsageError(
                f"--class_shares must name every class with images, {missing[0]} is missing"
                f" ({missing[0]}=0 excludes it)"
            )
        cli.checked(lambda: targets.Target("shares", shares=shares))
        cli.checked(
            lambda: targets.named_shares(shares, np.array(list(counts.values())), list(counts))
        )
    return shares


if __name__ == "__main__":
    cli.run(main)
