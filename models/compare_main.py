"""Compares trained runs on a split, the first being the base: which differ by more than noise.

    python -m models.compare_main --runs=runs/plain,runs/dropout,runs/focal --split=test

A folder that `train_main --repeats` made counts as one variation with several seeds; one that
`train_main --folds` made, by its pooled predictions. What the tests cover is said in comparison.py.
"""

import os
from collections.abc import Sequence

from absl import flags

from models.multirun import comparison, page, summary
from records.common import cli
from records.split import folds

_RUNS = flags.DEFINE_list("runs", [], "Folders of runs, the base first; at least two.")
_SPLIT = flags.DEFINE_string("split", "test", "Split whose predictions are compared.")
_METRIC = flags.DEFINE_enum(
    "metric", comparison.METRIC, sorted(summary.METRICS), "What differences are tested in."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for comparison-<split>.json and .html; that of the base if left out."
)


def main(arguments: Sequence[str]) -> int:
    """Reads predictions, compares, writes and prints."""
    cli.no_arguments(arguments)
    folders = _folders()
    names = [os.path.basename(folder) for folder in folders]
    if len(set(names)) < len(names):  # runs of two places may have the same name
        names = folders
    variations = [
        comparison.variation(folder, _SPLIT.value, name=name)
        for folder, name in zip(folders, names, strict=True)
    ]
    pooled = all(each.split == folds.POOLED for each in variations)
    split = folds.POOLED if pooled else _SPLIT.value
    compared = comparison.compare(variations, split, metric=_METRIC.value)
    output = _OUTPUT.value or folders[0]
    print(comparison.text(compared))
    print(comparison.write(compared, output))
    print(page.write(compared, output))
    return cli.DONE


def _folders() -> list[str]:
    """Returns the folders of --runs.

    Raises:
        UsageError: if they are not two or more different ones.
    """
    folders = [os.path.abspath(cli.require_folder("runs", folder)) for folder in _RUNS.value]
    if len(folders) < 2 or len(set(folders)) < len(folders):
        raise cli.UsageError(
            f"--runs must name at least 2 different folders, got {','.join(_RUNS.value)!r}"
        )
    return folders


if __name__ == "__main__":
    cli.run(main, comparison.ComparisonError, OSError)
