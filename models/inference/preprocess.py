"""Preprocesses image files exactly as the build of a run's records did.

It uses the same code, so a file gets bit-identical probabilities to its row in the records.
`run.json` holds the preprocessing recipe, so the records are not needed; runs of older versions
lack it and need their records.
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
from models.inference.inputs import InputFile
from records.common import checks
from records.format import manifest
from records.image import decode

# The settings of a build that affect pixels, in addition to size and encoding.
_SETTINGS = ("resize", "box_margin", "memory_limit", "filter", "boxes", *decode.VERSIONS)
_POLICY = ("resize", "box_margin", "memory_limit")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the bytes of a file become the pixels for a model."""

    policy: decode.ImagePolicy
    encoding: str  # of the records, one of `decode.ENCODINGS`; a lossy one is applied to files too
    notes: tuple[str, ...] = ()  # possible differences from training, one sentence each

    def __post_init__(self) -> None:
        checks.one_of("encoding", self.encoding, decode.ENCODINGS)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Consecutive files."""

    files: Sequence[InputFile]
    errors: Sequence[str]  # for each file `reason: detail`, or empty
    pixels: np.ndarray  # uint8 [n, size, size, 3], of the n files without an error


def facts(info: manifest.Manifest) -> dict[str, Any]:
    """Returns the settings that affect pixels, as plain values for `run.json`."""
    settings = {name: info.settings[name] for name in _SETTINGS if name in info.settings}
    return {"image_size": info.image_size, "encoding": info.encoding, **settings}


def recipe_of(run: run_folder.Run) -> Recipe:
    """Returns the recipe of a run's training images.

    Raises:
        RunError: if neither `run.json` nor the training records have it, or this version does not
            support it.
    """
    known = run.pixels or facts(_records_of(run))
    try:
        policy = {name: known[name] for name in _POLICY if name in known}
        if known["filter"] != decode.FILTER.name.lower():
            raise ValueError(f"filter must be {decode.FILTER.name.lower()}, got {known['filter']}")
        made = decode.ImagePolicy(size=known["image_size"], **policy)
        return Recipe(made, known["encoding"], tuple(_notes(known)))
    except KeyError as error:
        raise run_folder.RunError(f"the run's image recipe lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise run_folder.RunError(f"this version cannot make the run's images: {error}") from None


def pixels(data: bytes, recipe: Recipe) -> np.ndarray:
    """Returns the pixels of an image file as in the records, uint8 [size, size, 3], RGB.

    Raises:
        ImageError: if it cannot be decoded, as `decode.preprocess`.
    """
    result = decode.preprocess(data, recipe.policy)
    if recipe.encoding != "jpeg":  # the others are lossless
        return result
    return decode.decode(decode.encode(result, "jpeg"), "jpeg", recipe.policy.size)


def read_all(files: Sequence[InputFile], recipe: Recipe, *, chunk_size: int) -> Iterator[Chunk]:
    """Yields all files in order, `chunk_size` at a time, read and decoded by several threads.

    Raises:
        OSError: if reading fails for a reason other than the file, such as lack of memory.
    """

    def read(file: InputFile) -> np.ndarray | decode.ImageError:
        try:
            return pixels(file.read(), recipe)
        except decode.ImageError as error:
            return error

    size = recipe.policy.size
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # In this thread: filters are global, and the workers would race.
        warnings.simplefilter("ignore")
        for start in range(0, len(files), chunk_size):
            chunk = files[start : start + chunk_size]
            with _native_stderr_discarded():
                results = list(pool.map(read, chunk))
            decoded = [each for each in results if isinstance(each, np.ndarray)]
            errors = ["" if isinstance(each, np.ndarray) else str(each) for each in results]
            stacked = np.array(decoded, np.uint8).reshape(-1, size, size, 3)
            yield Chunk(chunk, errors, stacked)


@contextlib.contextmanager
def _native_stderr_discarded() -> Iterator[None]:
    """Discards what native decoders print about damaged files; our errors report them by name."""
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _records_of(run: run_folder.Run) -> manifest.Manifest:
    """Returns the training records' manifest, for a run that lacks its own recipe."""
    lacking = "run.json has no image recipe (older versions did not write one), and"
    try:
        info = run_folder.records_of(run).manifest
    except (manifest.ManifestError, ValueError) as error:
        raise run_folder.RunError(f"{lacking} the records cannot be read: {error}") from None
    if info.digest != run.records_digest:
        raise run_folder.RunError(
            f"{lacking} {run.records} holds records other than those the run was trained on"
        )
    return info


def _notes(known: Mapping[str, Any]) -> list[str]:
    notes = [
        f"training images were made with {name} {known[name]}, this is {version}: some pixels may"
        " differ"
        for name, version in decode.VERSIONS.items()
        if known.get(name, version) != version
    ]
    if known.get("boxes"):
        notes.append("the run was trained on images cropped to boxes; files are not cropped")
    return notes
