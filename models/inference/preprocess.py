"""Image files to the very pixels that a run would have been trained and evaluated on.

The recipe is that of the build of the run's records. `run.json` holds it, so the records may be
gone; runs of older versions do not say it, and need theirs.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models import run_folder
from models.inference.inputs import GivenFile
from records.format import manifest
from records.image import decode

# Of the settings of a build: what the pixels depend on beside the size and the encoding.
_SETTINGS = ("resize", "box_margin", "memory_limit", "filter", "boxes", *decode.VERSIONS)
_POLICY = ("resize", "box_margin", "memory_limit")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the bytes of a file become the pixels that a model is given.

    Attributes:
        policy: decoding and resizing.
        encoding: how the pixels stood in the records, one of `images.ENCODINGS`. Those of `jpeg`
            have lost a little, and so must the pixels of a file.
        notes: what may be otherwise than it was in the training, a sentence each.
    """

    policy: decode.ImagePolicy
    encoding: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.encoding not in decode.ENCODINGS:
            raise ValueError(f"encoding must be one of {decode.ENCODINGS}, got {self.encoding!r}")


@dataclasses.dataclass(frozen=True)
class Part:
    """Some files in order.

    Attributes:
        files: the files.
        errors: of each why it cannot be used, as `reason: detail`; empty if it can.
        pixels: uint8 [n, size, size, 3], of the n files without an error.
    """

    files: Sequence[GivenFile]
    errors: Sequence[str]
    pixels: np.ndarray


def facts(info: manifest.Manifest) -> dict[str, Any]:
    """Returns what `run.json` keeps of a record set: all that pixels depend on, as plain values."""
    settings = {name: info.settings[name] for name in _SETTINGS if name in info.settings}
    return {"image_size": info.image_size, "encoding": info.encoding, **settings}


def recipe_of(run: run_folder.Run) -> Recipe:
    """Returns the recipe of the pictures that a run was trained on.

    Raises:
        RunError: if neither `run.json` nor the records of the training say it, or it is one that
            this version does not know.
    """
    known = run.pixels or facts(_records_of(run))
    try:
        policy = {name: known[name] for name in _POLICY if name in known}
        if known["filter"] != decode.FILTER.name.lower():
            raise ValueError(f"filter must be {decode.FILTER.name.lower()}, got {known['filter']}")
        made = decode.ImagePolicy(size=known["image_size"], **policy)
        return Recipe(made, known["encoding"], tuple(_notes(known)))
    except KeyError as error:
        raise run_folder.RunError(f"what the run says of its pictures lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise run_folder.RunError(
            f"the run's pictures cannot be made by this version: {error}"
        ) from None


def pixels(data: bytes, recipe: Recipe) -> np.ndarray:
    """Returns the pixels of an encoded image as they would stand in the records of the run.

    Args:
        data: the bytes of the file.
        recipe: how.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        ImageError: as `images.read`.
    """
    made = decode.preprocess(data, recipe.policy)
    if recipe.encoding != "jpeg":  # the others lose nothing
        return made
    return decode.decode(decode.encode(made, "jpeg"), "jpeg", recipe.policy.size)


def read_all(files: Sequence[GivenFile], recipe: Recipe, *, at_once: int) -> Iterator[Part]:
    """Yields all files in order, `at_once` at a time, read and decoded by several threads.

    Raises:
        OSError: if one cannot be read for a reason that is not its own, such as a lack of memory.
    """

    def made(file: GivenFile) -> np.ndarray | decode.ImageError:
        try:
            return pixels(file.read(), recipe)
        except decode.ImageError as error:
            return error

    size = recipe.policy.size
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # here, because decoding in threads does it out of turn
        for start in range(0, len(files), at_once):
            part = files[start : start + at_once]
            with _nothing_on_screen():
                results = list(pool.map(made, part))
            good = [found for found in results if isinstance(found, np.ndarray)]
            errors = ["" if isinstance(found, np.ndarray) else str(found) for found in results]
            stacked = np.array(good, np.uint8).reshape(-1, size, size, 3)
            yield Part(part, errors, stacked)


@contextlib.contextmanager
def _nothing_on_screen() -> Iterator[None]:
    """Lets native decoders write about damaged files to nowhere; their errors name the file."""
    sys.stderr.flush()
    screen, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


def _records_of(run: run_folder.Run) -> manifest.Manifest:
    """Returns what the records of a training are, of a run that does not say it itself."""
    lacking = "run.json does not say how the pictures were made, as older versions did not, and"
    try:
        info = run_folder.records_of(run).manifest
    except (manifest.ManifestError, ValueError) as error:
        raise run_folder.RunError(f"{lacking} the records cannot be asked: {error}") from None
    if info.digest != run.records_digest:
        raise run_folder.RunError(
            f"{lacking} {run.records} holds other records than those of the run"
        )
    return info


def _notes(known: Mapping[str, Any]) -> list[str]:
    notes = [
        f"the pictures of the training were made with {name} {known[name]}, here is {version}:"
        " pixels may differ in places"
        for name, version in decode.VERSIONS.items()
        if known.get(name, version) != version
    ]
    if known.get("boxes"):
        notes.append("the run was trained on parts of pictures, cut out by boxes; files are whole")
    return notes
