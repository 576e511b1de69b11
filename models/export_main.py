"""Writes a trained run as a SavedModel, to be used by TensorFlow without this project.

    python -m models.export_main --run_dir=runs/photos --output=photos.model

The docstring of `models/export.py` says what is in it and how it is used.
"""

import functools
from collections.abc import Sequence

from absl import flags

from datapipe.augment import chain
from models import run_folder
from models.inference import preprocess, saved_model
from records.common import cli, outputs

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.")
_OUTPUT = flags.DEFINE_string("output", None, "New or empty folder for the model.")


def main(arguments: Sequence[str]) -> int:
    """Loads the run and writes its model."""
    cli.no_arguments(arguments)
    run_dir = cli.require_folder("run_dir", _RUN_DIR.value)
    output = cli.require("output", _OUTPUT.value)
    run = run_folder.load(run_dir)
    recipe = preprocess.recipe_of(run)
    for note in recipe.notes:
        print(cli.printable(f"warning: {note}"))
    ranged = functools.partial(chain.unchanged, input_range=run.input_range)
    with outputs.whole(output) as folder:
        saved_model.write(run, run_dir, recipe, ranged=ranged, folder=folder)
    print(
        f"{run.model}, {run.parameters:,} parameters, {len(run.class_names)} classes, signatures"
        f" {' and '.join(saved_model.SIGNATURES)}: {cli.printable(output)}"
    )
    return cli.DONE


if __name__ == "__main__":
    cli.run(main, run_folder.RunError, outputs.OutputError, OSError)
