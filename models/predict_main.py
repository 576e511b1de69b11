"""Predicts the classes of image files with a trained run.

    python -m models.predict_main --run_dir=runs/photos new/1.jpg more.zip folder

Files, folders and archives are preprocessed like the records of the run: a file gets the same
probabilities as in evaluation, to the bit on the CPU of one machine. `--output=x.csv` or `x.json`
writes all of them; `--grad_cam=folder` writes heat maps of where the network looked. Files that
cannot be read are listed, and the exit code is then 1.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from absl import flags

from models.inference import inputs, predictions
from models.inference.predictions import Line
from records.common import atomic, cli, errors

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Run folder, as train_main wrote it.")
_OUTPUT = flags.DEFINE_string("output", None, "New CSV or JSON file for all probabilities.")
_GRAD_CAM = flags.DEFINE_string(
    "grad_cam", None, "New or empty folder for Grad-CAM heat maps, one PNG per image."
)
_GRAD_CAM_CLASS = flags.DEFINE_string(
    "grad_cam_class",
    None,
    "Class whose evidence the heat maps show; the predicted one if not given. Only with"
    " --grad_cam.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images per batch.")


class NoFilesError(errors.DatapipeError, RuntimeError):
    """The arguments contain no files."""


def main(arguments: Sequence[str]) -> int:
    """Finds the files, predicts their classes, reports."""
    run_dir = cli.require_folder("run_dir", _RUN_DIR.value)
    _check_flags(arguments)

    # TensorFlow is imported here, after the command line is checked.
    from models import run_folder
    from models.inference import predict, preprocess
    from models.reporting.predictor import Predictor

    run = run_folder.load(run_dir)
    if _GRAD_CAM_CLASS.value is not None:
        cli.one_of(_GRAD_CAM_CLASS.name, _GRAD_CAM_CLASS.value, run.class_names)
    recipe = preprocess.recipe_of(run)
    for note in recipe.notes:
        print(cli.printable(f"warning: {note}"))
    found = inputs.find(arguments)
    if not found.files:
        raise NoFilesError(f"no file in {', '.join(arguments)}, {found.num_hidden:,} hidden")
    with contextlib.ExitStack() as stack:
        # Before any work, because the output may be rejected.
        table, folder = (
            stack.enter_context(atomic.output(path)) if path else ""
            for path in (_OUTPUT.value, _GRAD_CAM.value)
        )
        model = run_folder.load_model(run, run_dir)
        maps = predict.HeatMaps(run, model, folder, _GRAD_CAM_CLASS.value) if folder else None
        lines = predict.lines(
            run,
            recipe,
            found,
            Predictor(model, run.loss),
            batch_size=_BATCH_SIZE.value,
            heat_maps=maps,
        )
        if table:
            facts = {"run": os.path.abspath(run_dir), "hidden": found.num_hidden}
            predictions.write(lines, run.class_names, table, facts)
    for text in predictions.screen(lines, run.class_names):
        print(text)
    return _report(lines, found.num_hidden)


def _check_flags(paths: Sequence[str]) -> None:
    """Raises UsageError for missing paths, or flags that contradict each other."""
    cli.at_least(1, _BATCH_SIZE)
    if not paths:
        raise cli.UsageError("name the files, folders or archives to predict")
    for path in paths:
        if not os.path.exists(path):
            raise cli.UsageError(f"the file, folder or archive {path!r} does not exist")
    output = _OUTPUT.value
    if output is not None:
        if not output.lower().endswith((".csv", ".json")):
            raise cli.UsageError(f"--output must end in .csv or .json, got {output!r}")
        if not os.path.isdir(os.path.dirname(output) or "."):
            raise cli.UsageError(f"--output must be in an existing folder, got {output!r}")
    if _GRAD_CAM.value and output and os.path.abspath(output) == os.path.abspath(_GRAD_CAM.value):
        raise cli.UsageError(f"--output and --grad_cam must differ, got {output!r} for both")
    if _GRAD_CAM_CLASS.present and not _GRAD_CAM.value:
        raise cli.UsageError("--grad_cam_class only applies to --grad_cam, which is not given")


def _report(lines: Sequence[Line], num_hidden: int) -> int:
    """Prints the errors and a summary; returns the exit code."""
    failed = [line for line in lines if line.error]
    for line in failed:
        print(cli.printable(f"{line.file.name}: {line.error}"), file=sys.stderr)
    parts = [f"{len(lines) - len(failed):,} files predicted"]
    if failed:
        parts.append(f"{len(failed):,} cannot be read")
    if num_hidden:
        parts.append(f"{num_hidden:,} hidden excluded")
    if _OUTPUT.value:
        parts.append(f"all in {cli.printable(_OUTPUT.value)}")
    if _GRAD_CAM.value:
        parts.append(f"heat maps in {cli.printable(_GRAD_CAM.value)}")
    print(", ".join(parts))
    return cli.FAILED if failed else cli.DONE


if __name__ == "__main__":
    cli.run(main)
