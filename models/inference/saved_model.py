"""Export of a trained model as a SavedModel that only needs TensorFlow.

    import tensorflow as tf

    loaded = tf.saved_model.load("photos.model")
    answer = loaded.signatures["encoded"](files=tf.constant([open("a.jpg", "rb").read()]))
    answer["class"], answer["probabilities"]

Two signatures return `probabilities` float32 [n, classes] and `class`, the name of the most
probable class, string [n]; n is at least 1.

`serving_default`: `images` uint8 [n, size, size, 3], pixels as in the records. The probabilities
    are bit-identical to those of evaluation on the CPU of one machine, if n is at least 2:
    TensorFlow uses another kernel for a single image.
`encoded`: `files` string [n], the bytes of JPEG, PNG, GIF or BMP files, decoded by `graph_decode`,
    whose docstring lists the files whose pixels differ from ours: none of the usual ones. A file
    that cannot be read fails the call. 5 to 18 ms per file at 64x64, 6 times as long as our code.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from datapipe.augment import chain
from models import run_files, run_folder
from models.inference import graph_decode
from models.inference.preprocess import Recipe
from models.training import losses
from records.common import atomic, cli
from records.common.backend import keras, tf
from records.image import decode

CLASSES, FACTS = "classes.txt", "export.json"
SIGNATURES = ("serving_default", "encoded")


class Served(tf.Module):
    """The functions to save and their variables; not the layers, whose loading needs our code."""

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        *,
        input_range: str,
        loss: str,
        class_names: Sequence[str],
    ):
        """Takes a model from images in `input_range` to logits; `loss` is the training loss."""
        super().__init__(name="served")
        self.numbers = list(model.weights)  # the name is part of the saved files
        size = recipe.policy.size
        names = tf.constant([os.fsencode(name) for name in class_names])
        decode_files = graph_decode.decoder(recipe)

        def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = model(chain.unchanged(pixels, input_range), training=False)
            probabilities = losses.probabilities(loss, logits)
            predicted = tf.gather(names, tf.argmax(probabilities, 1))
            return {"probabilities": probabilities, "class": predicted}

        def signature(function: Callable[[tf.Tensor], Any], spec: tf.TensorSpec) -> Any:
            return tf.function(function, input_signature=[spec], autograph=False)

        self.images = signature(
            lambda images: answer(images),
            tf.TensorSpec([None, size, size, 3], tf.uint8, "images"),
        )
        self.files = signature(
            lambda files: answer(decode_files(files)), tf.TensorSpec([None], tf.string, "files")
        )


def write(run: run_folder.Run, run_dir: str, recipe: Recipe, folder: str) -> None:
    """Writes the SavedModel of a run, `classes.txt` and `export.json` to a new folder.

    Raises:
        RunError: if the weights are missing or damaged.
        OSError: if a file cannot be written.
    """
    served = Served(
        run_folder.load_model(run, run_dir),
        recipe,
        input_range=run.input_range,
        loss=run.loss,
        class_names=run.class_names,
    )
    os.mkdir(folder)
    _save(served, folder)
    # Escaped if the name contains a line end.
    lines = [cli.printable(n) if len(n.splitlines()) > 1 else n for n in run.class_names]
    text = "".join(f"{line}\n" for line in lines)
    atomic.write_whole(os.path.join(folder, CLASSES), os.fsencode(text))
    content = atomic.json_bytes(facts(run, run_dir, recipe), indent=1)
    atomic.write_whole(os.path.join(folder, FACTS), content)


def facts(run: run_folder.Run, run_dir: str, recipe: Recipe) -> dict[str, Any]:
    """Returns the contents of `export.json`: what was exported, and how to use it."""
    return {
        "class_names": list(run.class_names),
        "image_size": run.image_size,
        "input_range": run.input_range,
        "pixels": {
            **dataclasses.asdict(recipe.policy),
            "filter": decode.FILTER.name.lower(),
            "encoding": recipe.encoding,
        },
        "notes": list(recipe.notes),
        "signatures": list(SIGNATURES),
        "run": {
            "name": os.path.basename(os.path.abspath(run_dir)),
            "run_json_sha256": atomic.sha256_of(os.path.join(run_dir, run_files.RUN)),
            "weights_sha256": atomic.sha256_of(os.path.join(run_dir, run_files.BEST)),
            "records_digest": run.records_digest,
            "model": run.model,
            "model_options": dict(run.model_options),
            "loss": run.loss,
            "fold": list(run.fold),
            "best_epoch": run.best_epoch,
            "parameters": run.parameters,
            "versions": dict(run.versions),
        },
        "versions": run_folder.versions(),
    }


def _save(served: Served, folder: str) -> None:
    # TensorFlow rejects paths that are not UTF-8, but accepts any folder by its open descriptor.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)  # saving logs each of its steps
    try:
        signatures = dict(zip(SIGNATURES, (served.images, served.files), strict=True))
        tf.saved_model.save(served, f"/proc/self/fd/{descriptor}", signatures)
    finally:
        logging.set_verbosity(verbosity)
        os.close(descriptor)
    # It contains a random number; without it the same run exports the same bytes.
    os.remove(os.path.join(folder, "fingerprint.pb"))
