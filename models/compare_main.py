"""Compares trained runs on a split with the first, the baseline: which differ significantly.

    python -m models.compare_main --runs=runs/plain,runs/dropout,runs/focal --split=test

A folder from `train_main --repeats` is one variation with several seeds; one from `train_main
--folds` is compared by its pooled predictions. comparison.py describes what the tests cover.
"""

import os
from collections.abc import Sequence

from absl import flags

from models import flags as train_flags
from records.common import cli
from records.split import folds

_RUNS = flags.DEFINE_list("runs", [], "At least two run folders, the baseline first.")
_SPLIT = flags.DEFINE_string("split", "test", "Split whose predictions are compared.")
_METRIC = flags.DEFINE_enum(
    "metric", train_flags.METRICS[0], train_flags.METRICS, "Metric that differences are tested in."
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder for comparison-<split>.json and .html; that of the baseline if not given.",
)


def main(arguments: Sequence[str]) -> int:
    """Reads predictions, compares, writes and prints."""
    cli.no_arguments(arguments)
    folders = _folders()

    # TensorFlow is imported here, after the command line is checked.
    from models.multirun import comparison, page

    names = [os.path.basename(folder) for folder in folders]
    if len(set(names)) < len(names):  # runs in different folders may have the same name
        names = folders
    variations = [
        comparison.variation(folder, _SPLIT.value, name=name)
        for folder, name in zip(folders, names, strict=True)
    ]
    pooled = all(each.split == folds.POOLED for each in variations)
    split = folds.POOLED if pooled else _SPLIT.value
    compared = comparison.compare(variations, split, metric=_METRIC.value)
    output = _OUTPUT.value or folders[0]
    print(page.text(compared))
    print(comparison.write(compared, output))
    print(page.write(compared, output))
    return cli.DONE


def _folders() -> list[str]:
    """Returns the folders of --runs; UsageError unless they are at least two different ones."""
    folders = [os.path.abspath(cli.require_folder("runs", folder)) for folder in _RUNS.value]
    if len(folders) < 2 or len(set(folders)) < len(folders):
        raise cli.UsageError(
            f"--runs must name at least 2 different folders, got {','.join(_RUNS.value)!r}"
        )
    return folders


if __name__ == "__main__":
    cli.run(main)
