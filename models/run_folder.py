"""A run folder: what was trained, on which records, how. Evaluation needs only its `run.json`."""

import contextlib
import dataclasses
import fcntl
import glob
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import PIL

from models import run_files
from models.networks import zoo
from records.common import atomic, errors
from records.common.backend import keras, tf
from records.format import manifest, record_set
from records.format.record_set import RecordSet
from records.split import folds


class RunError(errors.DatapipeError, ValueError):
    """The folder holds no finished run, or one that does not match the records."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        model: name in the zoo.
        class_names: in the order of the model's outputs.
        image_size: height and width, in pixels.
        records: folder of the record set.
        records_digest: SHA-256 of its manifest.
        parameters: number of parameters, including frozen ones.
        device: strategy, replicas and precision.
        sampling: rows and draws per epoch of each class, and the target.
        flags: the flags set on the command line.
        versions: of Python and the libraries, and the commit of this project's repository.
        best_epoch: number of the epoch whose weights are kept, from 1.
        history: one line for each epoch.
        model_options: options of the network that differ from its defaults.
        loss: name of the loss, which determines how logits become probabilities.
        skipped: for each offending row, by key, how often its loss was not finite.
        fold: (number of folds, index of this one, seed of the folds); empty without folds.
        pixels: how its images were preprocessed, see `preprocess.facts`; empty in older runs.
    """

    model: str
    class_names: tuple[str, ...]
    image_size: int
    records: str
    records_digest: str
    train_split: str
    validation_split: str
    parameters: int
    device: str
    sampling: Mapping[str, Any]
    flags: Mapping[str, Any]
    versions: Mapping[str, str]
    best_epoch: int
    history: tuple[Mapping[str, float], ...]
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loss: str = "cross_entropy"
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    fold: tuple[int, ...] = ()
    pixels: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def input_range(self) -> str:
        """The range of the model's input images, a name of `input_range.RANGES`."""
        return zoo.MODELS[self.model].input_range


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": keras.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "datapipe": _repository_state(),
    }


def _repository_state() -> str:
    """Returns the project's commit, with `-dirty` if files were changed; empty without git."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def flag(name: str, value: Any) -> str:
    """Returns a flag of a run as it is written on a command line."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    listed = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return shlex.quote(f"--{name}={listed}")


def is_finished(run_dir: str) -> bool:
    """Whether a folder holds a finished run."""
    return os.path.exists(os.path.join(run_dir, run_files.RUN))


def save(run: Run, run_dir: str) -> None:
    """Writes `run.json`."""
    text = atomic.json_bytes(dataclasses.asdict(run), indent=1)
    atomic.write_whole(os.path.join(run_dir, run_files.RUN), text)


def load(run_dir: str) -> Run:
    """Returns the run in a folder.

    Raises:
        RunError: if there is no readable `run.json`.
    """
    path = os.path.join(run_dir, run_files.RUN)
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        fields["class_names"] = tuple(fields["class_names"])
        fields["history"] = tuple(fields["history"])
        fields["fold"] = tuple(fields.get("fold", ()))
        return Run(**fields)
    except FileNotFoundError:
        inner = sorted(glob.glob("*/" + run_files.RUN, root_dir=run_dir))
        advice = (
            f"its subfolders hold runs, such as {os.path.join(run_dir, os.path.dirname(inner[0]))}"
            if inner
            else "train one with python -m models.train_main"
        )
        raise RunError(
            f"no finished run in {run_dir!r}: {run_files.RUN} is missing ({advice})"
        ) from None
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def load_model(run: Run, run_dir: str) -> keras.Model:
    """Returns the trained model: built by our code, then filled with its best weights.

    Raises:
        RunError: if the model is unknown, or the weights are missing or damaged.
    """
    if run.model not in zoo.MODELS:
        raise RunError(f"unknown model {run.model!r}; known are {', '.join(zoo.MODELS)}")
    shape = (run.image_size, run.image_size, 3)
    model = zoo.build(run.model, len(run.class_names), shape, **run.model_options)
    path = os.path.join(run_dir, run_files.BEST)
    try:
        model.load_weights(path)
    except Exception as error:  # h5py has no error class of its own
        reason = str(error) if os.path.exists(path) else "the file is missing"
        raise RunError(f"cannot read the weights {path}: {reason}") from None
    return model


def records_of(run: Run) -> RecordSet:
    """Returns the records a run was trained on, as a view of its fold if it has one.

    Raises:
        ManifestError: if they are missing or damaged.
    """
    opened = record_set.open_set(run.records)
    if run.fold:
        num_folds, fold, seed = run.fold
        return folds.view(opened, num_folds, fold, seed=seed)
    return opened


@contextlib.contextmanager
def locked(run_dir: str) -> Iterator[None]:
    """Locks a run folder, created if missing, so that no other process trains in it.

    Raises:
        RunError: if another process has locked it.
    """
    os.makedirs(run_dir, exist_ok=True)
    descriptor = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RunError(f"{run_dir} is locked: another process is training in it") from None
    finally:
        os.close(descriptor)


def num_trained_on(run: Run, evaluated: RecordSet, split: str) -> int | None:
    """Returns how many images of a split the run was trained on, compared by their files' bytes.

    None if unknown, because the training records are missing or were rebuilt. 0 for pooled folds,
    where each image is predicted by a run that was not trained on it.
    """
    if split == folds.POOLED:
        return 0
    try:
        same = evaluated.manifest.digest == run.records_digest  # the folder may have been moved
        trained = evaluated if same else records_of(run)
        if trained.manifest.digest != run.records_digest:
            return None
        seen = {digest.tobytes() for digest in trained.index(run.train_split).source_sha256}
    except manifest.ManifestError:
        return None
    return sum(digest.tobytes() in seen for digest in evaluated.index(split).source_sha256)


def check_fits(run: Run, info: manifest.Manifest) -> None:
    """Checks that a run's model can be evaluated on a record set.

    Raises:
        RunError: if the class names (in order) or the image size differ; it shows the difference.
    """
    if run.class_names != info.class_names:
        only_run = sorted(set(run.class_names) - set(info.class_names))
        only_records = sorted(set(info.class_names) - set(run.class_names))
        raise RunError(
            f"class names differ: only in the model {only_run}, only in the records {only_records}"
            if only_run or only_records
            else f"the order of the classes differs: {', '.join(run.class_names)} in the model,"
            f" {', '.join(info.class_names)} in the records"
        )
    if run.image_size != info.image_size:
        raise RunError(
            f"image sizes differ: {run.image_size} pixels in the model, {info.image_size} in the"
            " records"
        )
