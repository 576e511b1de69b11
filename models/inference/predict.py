"""Predictions of a trained run for image files, and heat maps of where the network looked."""

import os
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from datapipe import pipeline
from datapipe.augment import chain
from datapipe.rows import host
from models import run_folder
from models.inference import grad_cam, inputs, preprocess
from models.inference.predictions import Line
from models.reporting.predictor import Predictor
from records.common import atomic, cli
from records.common.backend import keras, tf
from records.image import decode

# TensorFlow uses another kernel for a batch of one, whose last bits differ. From two on they do not
# depend on the batch size, for each network of the zoo.
_MIN_BATCH = 2
_PART_BYTES = 64 << 20  # 64 MiB of pixels at a time
_CAM_BATCH = 32
_MAX_NAME = 200  # bytes; a file name may have 255


class HeatMaps:
    """Writes a heat map of where a model looked, as a PNG, for each image, to a new folder.

    It explains the class `class_name`, or the predicted class of each image.
    """

    def __init__(
        self, run: run_folder.Run, model: keras.Model, folder: str, class_name: str | None = None
    ):
        os.mkdir(folder)
        self._run, self._folder, self._cam = run, folder, grad_cam.GradCam(model)
        self._class_name = class_name
        height, width = self._cam.cells
        shown = cli.printable(class_name or "the predicted class")
        print(f"heat maps for {shown}, {height} x {width} cells, of layer {self._cam.layer.name}")

    def write(self, names: Sequence[str], pixels: np.ndarray, probabilities: np.ndarray) -> None:
        """Writes the heat maps of images under these file names."""
        classes = probabilities.argmax(1)
        if self._class_name is not None:
            classes[:] = self._run.class_names.index(self._class_name)
        for start in range(0, len(pixels), _CAM_BATCH):
            batch = slice(start, start + _CAM_BATCH)
            ranged = chain.unchanged(tf.constant(pixels[batch]), self._run.input_range)
            heat = self._cam.heat(ranged, classes[batch])
            for name, stored, map_ in zip(names[batch], pixels[batch], heat, strict=True):
                encoded = decode.encode(grad_cam.picture(stored, map_), "png")
                atomic.write_unsynced(os.path.join(self._folder, name), encoded)


def lines(
    run: run_folder.Run,
    recipe: preprocess.Recipe,
    found: inputs.Inputs,
    predictor: Predictor,
    *,
    batch_size: int = 256,
    heat_maps: HeatMaps | None = None,
) -> list[Line]:
    """Returns the prediction for each file, or the reason why it cannot be read."""
    batch_size = min(batch_size, max(_MIN_BATCH, len(found.files)))
    batches = max(1, _PART_BYTES // (batch_size * recipe.policy.size**2 * 3))
    result: list[Line] = []
    with tqdm(total=len(found.files), desc="predicting", unit=" files", disable=None) as bar:
        for part in preprocess.read_all(found.files, recipe, chunk_size=batch_size * batches):
            probabilities = _predicted(run, predictor, part.pixels, batch_size)
            if heat_maps:
                numbers = enumerate(zip(part.files, part.errors, strict=True), len(result) + 1)
                names = [_file_name(n, file.key) for n, (file, error) in numbers if not error]
                heat_maps.write(names, part.pixels, probabilities)
            rows = iter(probabilities)
            for file, error in zip(part.files, part.errors, strict=True):
                result.append(Line(file, None if error else next(rows), error))
            bar.update(len(part.files))
    return result


def _predicted(
    run: run_folder.Run, predictor: Predictor, pixels: np.ndarray, batch_size: int
) -> np.ndarray:
    """Returns the probabilities of images as evaluation would, float32 [n, classes]."""
    if not len(pixels):
        return np.zeros((0, len(run.class_names)), np.float32)
    rows = host.ResidentRows(tf.constant(pixels), tf.zeros(len(pixels), tf.int32))
    dataset = pipeline.evaluation_dataset(rows, batch_size=batch_size, input_range=run.input_range)
    return predictor.predict(dataset, len(pixels))


def _file_name(number: int, key: str) -> str:
    """Returns a file name with the number of the line and the name of the image."""
    name, _ = os.path.splitext(key.rpartition("/")[2])
    while len(os.fsencode(name)) > _MAX_NAME:
        name = name[:-1]
    return f"{number:06d}-{name}.png"
