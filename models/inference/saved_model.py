"""A trained model as a SavedModel that TensorFlow alone can load and use.

    import tensorflow as tf

    loaded = tf.saved_model.load("photos.model")
    answer = loaded.signatures["encoded"](files=tf.constant([open("a.jpg", "rb").read()]))
    answer["class"], answer["probabilities"]

Two signatures give `probabilities` float32 [n, classes] and `class`, the name of the most probable
one, string [n]; n is at least 1.

`serving_default`: `images` uint8 [n, size, size, 3], pixels as they stand in the records. The
    probabilities are those of evaluation, to the bit on the CPU of one machine. From two images on
    they do not depend on how many there are; a single one is multiplied in another way.
`encoded`: `files` string [n], the bytes of JPEG, PNG, GIF or BMP files, made into pixels by
    `graph_decoding`, which says how near these are to ours: equal for whatever is usual. A file
    that cannot be read ends the call. 5 to 18 ms a file at 64x64, 6 times as long as ours.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from models import run_folder
from models.inference import graph_decode
from models.inference.preprocess import Recipe
from models.training import losses
from records.common import atomic as files
from records.common import cli
from records.common.backend import keras, tf
from records.image import decode as images

CLASSES, FACTS = "classes.txt", "export.json"
SIGNATURES = ("serving_default", "encoded")


class Served(tf.Module):
    """The functions that are saved, and the numbers they need.

    The layers themselves are not saved: a reader would need our code to make them again.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        *,
        ranged: Callable[[tf.Tensor], tf.Tensor],
        loss: str,
        class_names: Sequence[str],
    ):
        """Takes a trained model.

        Args:
            model: from images in its range to logits.
            recipe: how files become pixels.
            ranged: from uint8 images to the range of the model, as evaluation does it.
            loss: it was trained with, which says what its outputs mean.
            class_names: in the order of the outputs.
        """
        super().__init__(name="served")
        self.numbers = list(model.weights)
        size = recipe.policy.size
        names = tf.constant([os.fsencode(name) for name in class_names])
        decode = graph_decode.decoder(recipe)

        def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = model(ranged(pixels), training=False)
            probabilities = losses.probabilities(loss, logits)
            named = tf.gather(names, tf.argmax(probabilities, 1))
            return {"probabilities": probabilities, "class": named}

        def signature(function: Callable[[tf.Tensor], Any], spec: tf.TensorSpec) -> Any:
            return tf.function(function, input_signature=[spec], autograph=False)

        self.images = signature(
            lambda images: answer(images),
            tf.TensorSpec([None, size, size, 3], tf.uint8, "images"),
        )
        self.files = signature(
            lambda files: answer(decode(files)), tf.TensorSpec([None], tf.string, "files")
        )


def write(
    run: run_folder.Run,
    run_dir: str,
    recipe: Recipe,
    *,
    ranged: Callable[[tf.Tensor], tf.Tensor],
    folder: str,
) -> None:
    """Writes the SavedModel of a run, `classes.txt` and `export.json` to a folder that is not yet.

    Raises:
        RunError: if the weights are missing or damaged.
        OSError: if a file cannot be written.
    """
    served = Served(
        run_folder.load_model(run, run_dir),
        recipe,
        ranged=ranged,
        loss=run.loss,
        class_names=run.class_names,
    )
    os.mkdir(folder)
    _save(served, folder)
    # A line end within a name would make two lines of it.
    lines = [cli.printable(n) if len(n.splitlines()) > 1 else n for n in run.class_names]
    text = "".join(f"{line}\n" for line in lines)
    files.write_whole(os.path.join(folder, CLASSES), os.fsencode(text))
    said = files.json_bytes(facts(run, run_dir, recipe), indent=1)
    files.write_whole(os.path.join(folder, FACTS), said)


def facts(run: run_folder.Run, run_dir: str, recipe: Recipe) -> dict[str, Any]:
    """Returns what `export.json` says, as plain values: what was exported, and how it is used."""
    return {
        "class_names": list(run.class_names),
        "image_size": run.image_size,
        "input_range": run.input_range,
        "pixels": {
            **dataclasses.asdict(recipe.policy),
            "filter": images.FILTER.name.lower(),
            "encoding": recipe.encoding,
        },
        "notes": list(recipe.notes),
        "signatures": list(SIGNATURES),
        "run": {
            "name": os.path.basename(os.path.abspath(run_dir)),
            "run_json_sha256": files.sha256_of(os.path.join(run_dir, run_folder.FILE_NAME)),
            "weights_sha256": files.sha256_of(os.path.join(run_dir, run_folder.BEST)),
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
    # TensorFlow takes no path that is not UTF-8, but any folder by its open descriptor.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)  # it tells of each of its steps
    try:
        signatures = dict(zip(SIGNATURES, (served.images, served.files), strict=True))
        tf.saved_model.save(served, f"/proc/self/fd/{descriptor}", signatures)
    finally:
        logging.set_verbosity(verbosity)
        os.close(descriptor)
    # It holds a random number; without it the same run gives the same bytes.
    os.remove(os.path.join(folder, "fingerprint.pb"))
