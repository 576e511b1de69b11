"""Writes a trained run as a SavedModel, to be used by TensorFlow without this project.

    python -m models.export_main --run_dir=runs/photos --output=photos.model

The docstring of `models/inference/saved_model.py` describes its contents and use.
"""

from collections.abc import Sequence

from absl import flags

from records.common import atomic, cli

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Run folder, as train_main wrote it.")
_OUTPUT = flags.DEFINE_string("output", None, "New or empty folder for the SavedModel.")


def main(arguments: Sequence[str]) -> int:
    """Loads the run and writes its model."""
    cli.no_arguments(arguments)
    run_dir = cli.require_folder("run_dir", _RUN_DIR.value)
    output = cli.require("output", _OUTPUT.value)

    # TensorFlow is imported here, after the command line is checked.
    from models import run_folder
    from models.inference import preprocess, saved_model

    run = run_folder.load(run_dir)
    recipe = preprocess.recipe_of(run)
    for note in recipe.notes:
        print(cli.printable(f"warning: {note}"))
    with atomic.output(output) as folder:
        saved_model.write(run, run_dir, recipe, folder)
    print(
        f"{run.model}, {run.parameters:,} parameters, {len(run.class_names)} classes, signatures"
        f" {' and '.join(saved_model.SIGNATURES)}: {cli.printable(output)}"
    )
    return cli.DONE


if __name__ == "__main__":
    cli.run(main)
