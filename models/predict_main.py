"""Predicts the classes of image files with a trained run.

    python -m models.predict_main --run_dir=runs/photos new/1.jpg more.zip folder

Files, folders and archives are read as they are, and made into pixels as the records of the run
were: a file that was evaluated gets the probabilities it got there, to the bit on the CPU of one
machine. All of them go to `--output=x.csv` or `x.json`; `--grad_cam=folder` shows where the network
looked. Files that cannot be read are named, and the exit code is then 1.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags
from tqdm import tqdm

from datapipe import pipeline
from datapipe.augment import chain
from datapipe.rows import host
from models import run_folder
from models.inference import grad_cam, inputs, predictions, preprocess
from models.inference.predictions import Line
from models.reporting import predictor as evaluation
from records.common import atomic, cli, errors, outputs
from records.common.backend import keras, tf
from records.image import decode

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.")
_OUTPUT = flags.DEFINE_string("output", None, "New CSV or JSON file for all probabilities.")
_GRAD_CAM = flags.DEFINE_string(
    "grad_cam", None, "New or empty folder for pictures of where the network looked (Grad-CAM)."
)
_GRAD_CAM_CLASS = flags.DEFINE_string(
    "grad_cam_class", None, "Class whose evidence they show; the predicted one if left out."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images at a time.")

# A batch of one is multiplied in another way by TensorFlow, and its last bits differ. From two on
# they are the same for each network of the zoo.
_LEAST_BATCH = 2
_PART_BYTES = 64 << 20  # 64 MiB of pixels at a time
_CAM_BATCH = 32
_LONGEST_NAME = 200  # bytes; a file name may have 255


class NoFilesError(errors.DatapipeError, RuntimeError):
    """There is no file in what was named."""


def main(arguments: Sequence[str]) -> int:
    """Finds the files, predicts them, says what came of it."""
    run_dir = cli.require_folder("run_dir", _RUN_DIR.value)
    _check_flags(arguments)
    run = run_folder.load(run_dir)
    if _GRAD_CAM_CLASS.value is not None:
        cli.one_of(_GRAD_CAM_CLASS.name, _GRAD_CAM_CLASS.value, run.class_names)
    recipe = preprocess.recipe_of(run)
    for note in recipe.notes:
        print(cli.printable(f"warning: {note}"))
    given = inputs.find(arguments)
    if not given.files:
        raise NoFilesError(f"no file in {', '.join(arguments)}, {given.num_hidden:,} hidden")
    with contextlib.ExitStack() as outcome:
        # First of all, for it may be refused.
        table, folder = (
            outcome.enter_context(outputs.whole(path)) if path else ""
            for path in (_OUTPUT.value, _GRAD_CAM.value)
        )
        predictor = evaluation.Predictor(run_folder.load_model(run, run_dir), run.loss)
        pictures = _Pictures(run, predictor.model, folder) if folder else None
        lines = _lines(run, recipe, given, predictor, pictures)
        if table:
            facts = {"run": os.path.abspath(run_dir), "hidden": given.num_hidden}
            predictions.write(lines, run.class_names, table, facts)
    return _said(run, given, lines)


def _check_flags(paths: Sequence[str]) -> None:
    """Refuses, before anything is done, what cannot be meant."""
    cli.at_least(1, _BATCH_SIZE)
    if not paths:
        raise cli.UsageError("name the files, folders or archives to predict")
    for path in paths:
        if not os.path.exists(path):
            raise cli.UsageError(f"there is no file, folder or archive {path!r}")
    output = _OUTPUT.value
    if output is not None:
        if not output.lower().endswith((".csv", ".json")):
            raise cli.UsageError(f"--output must end in .csv or .json, got {output!r}")
        if not os.path.isdir(os.path.dirname(output) or "."):
            raise cli.UsageError(f"--output must lie in an existing folder, got {output!r}")
    if _GRAD_CAM.value and output and os.path.abspath(output) == os.path.abspath(_GRAD_CAM.value):
        raise cli.UsageError(f"--output and --grad_cam must be two places, got {output!r} for both")
    if _GRAD_CAM_CLASS.present and not _GRAD_CAM.value:
        raise cli.UsageError("--grad_cam_class belongs to --grad_cam, which is not given")


class _Pictures:
    """Writes where a model looked, a PNG for each image."""

    def __init__(self, run: run_folder.Run, model: keras.Model, folder: str):
        os.mkdir(folder)
        self._run, self._folder, self._cam = run, folder, grad_cam.GradCam(model)
        height, width = self._cam.cells
        of = cli.printable(_GRAD_CAM_CLASS.value or "the predicted class")
        print(
            f"heat maps for {of}, {height} x {width} cells, from the layer {self._cam.layer.name}"
        )

    def write(self, names: Sequence[str], pixels: np.ndarray, probabilities: np.ndarray) -> None:
        """Writes the pictures of some images, named by number and file."""
        classes = probabilities.argmax(1)
        if _GRAD_CAM_CLASS.value is not None:
            classes[:] = self._run.class_names.index(_GRAD_CAM_CLASS.value)
        for start in range(0, len(pixels), _CAM_BATCH):
            batch = slice(start, start + _CAM_BATCH)
            ranged = chain.unchanged(tf.constant(pixels[batch]), self._run.input_range)
            heat = self._cam.heat(ranged, classes[batch])
            for name, stored, map_ in zip(names[batch], pixels[batch], heat, strict=True):
                encoded = decode.encode(grad_cam.picture(stored, map_), "png")
                atomic.write_unsynced(os.path.join(self._folder, name), encoded)


def _lines(
    run: run_folder.Run,
    recipe: preprocess.Recipe,
    given: inputs.Given,
    predictor: evaluation.Predictor,
    pictures: _Pictures | None,
) -> list[Line]:
    """Returns what is predicted of each file, or why it cannot be."""
    batch_size = min(_BATCH_SIZE.value, max(_LEAST_BATCH, len(given.files)))
    batches = max(1, _PART_BYTES // (batch_size * recipe.policy.size**2 * 3))
    lines: list[Line] = []
    with tqdm(total=len(given.files), desc="predicting", unit=" files", disable=None) as bar:
        for part in preprocess.read_all(given.files, recipe, at_once=batch_size * batches):
            found = _predicted(run, predictor, part.pixels, batch_size)
            if pictures:
                numbers = enumerate(zip(part.files, part.errors, strict=True), len(lines) + 1)
                names = [_picture_name(n, file.key) for n, (file, error) in numbers if not error]
                pictures.write(names, part.pixels, found)
            every = iter(found)
            for file, error in zip(part.files, part.errors, strict=True):
                lines.append(Line(file, None if error else next(every), error))
            bar.update(len(part.files))
    return lines


def _predicted(
    run: run_folder.Run, predictor: evaluation.Predictor, pixels: np.ndarray, batch_size: int
) -> np.ndarray:
    """Returns the probabilities of images as evaluation would, float32 [n, classes]."""
    if not len(pixels):
        return np.zeros((0, len(run.class_names)), np.float32)
    rows = host.ResidentRows(tf.constant(pixels), tf.zeros(len(pixels), tf.int32))
    dataset = pipeline.evaluation_dataset(rows, batch_size=batch_size, input_range=run.input_range)
    return predictor.predict(dataset, len(pixels))


def _picture_name(number: int, key: str) -> str:
    """Returns a file name that tells the line and the file."""
    name, _ = os.path.splitext(key.rpartition("/")[2])
    while len(os.fsencode(name)) > _LONGEST_NAME:
        name = name[:-1]
    return f"{number:06d}-{name}.png"


def _said(run: run_folder.Run, given: inputs.Given, lines: Sequence[Line]) -> int:
    """Says what came of it; returns the exit code."""
    for text in predictions.screen(lines, run.class_names):
        print(text)
    failed = [line for line in lines if line.error]
    for line in failed:
        print(cli.printable(f"{line.file.name}: {line.error}"), file=sys.stderr)
    left_out = [f"{len(failed):,} cannot be read"] if failed else []
    left_out += [f"{given.num_hidden:,} hidden left out"] if given.num_hidden else []
    where = [f"all in {cli.printable(_OUTPUT.value)}"] if _OUTPUT.value else []
    where += [f"pictures in {cli.printable(_GRAD_CAM.value)}"] if _GRAD_CAM.value else []
    print(", ".join([f"{len(lines) - len(failed):,} files predicted", *left_out, *where]))
    return cli.FAILED if failed else cli.DONE


if __name__ == "__main__":
    cli.run(main, run_folder.RunError, NoFilesError, outputs.OutputError, OSError)
