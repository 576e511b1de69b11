"""Checkpoints: what a training needs to resume to the bit, in files with a checksum.

A file is a line with the format's name, the length of a JSON header, the header, the bytes of the
arrays one after the other, and the SHA-256 of everything before it. Nothing in it is ever executed.
The newest two are kept, in case the newest is damaged. (`tf.train.Checkpoint` writes several files
that can disagree and does not detect damage; an `.npz` has only a CRC-32 of each array.)
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from records.common import atomic, errors

_MAGIC = b"datapipe checkpoint 1\n"
_LENGTH = 8  # bytes of the header's length
_NAME = re.compile(r"checkpoint-(\d{10})")
_KEPT = 2


class CheckpointError(errors.DatapipeError, RuntimeError):
    """There are checkpoints, but all of them are damaged."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint."""

    step: int  # number of steps made
    state: Mapping[str, Any]  # JSON values
    arrays: Sequence[np.ndarray]  # any shapes and numeric types


def save(checkpoint: Checkpoint, folder: str) -> None:
    """Writes a checkpoint into an existing folder and removes all but the newest two.

    Raises:
        OSError: if it cannot be written, such as to a full disk; earlier checkpoints are kept.
    """
    path = _path(checkpoint.step, folder)
    try:
        atomic.write_stream(path, _pieces(checkpoint))
    except OSError:
        with contextlib.suppress(OSError):  # frees the space
            os.remove(os.path.join(folder, f"{atomic.TEMPORARY_PREFIX}{os.path.basename(path)}"))
        raise
    for step in _steps(folder)[_KEPT:]:
        os.remove(_path(step, folder))


def newest(folder: str, tell: Callable[[str], None] = print) -> Checkpoint | None:
    """Returns the newest undamaged checkpoint of a folder; None if it has no checkpoints.

    Args:
        folder: may be missing.
        tell: called with a warning for each damaged file.

    Raises:
        CheckpointError: if all of them are damaged.
    """
    steps = _steps(folder)
    for step in steps:
        try:
            return at(step, folder)
        except CheckpointError as error:
            tell(f"warning: {error}; trying the checkpoint before it")
    if steps:
        raise CheckpointError(
            f"all {len(steps)} checkpoints in {folder} are damaged; remove them, or train in"
            " another run folder"
        )
    return None


def at(step: int, folder: str) -> Checkpoint:
    """Returns the checkpoint of a step.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    path = _path(step, folder)
    try:
        with open(path, "rb") as file:
            return _parsed(memoryview(file.read()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {error}") from None


def remove(folder: str) -> None:
    """Removes all checkpoints of a folder."""
    for step in _steps(folder):
        os.remove(_path(step, folder))


def _path(step: int, folder: str) -> str:
    return os.path.join(folder, f"checkpoint-{step:010d}")


def _steps(folder: str) -> list[int]:
    """Returns the steps of the checkpoints in a folder, the newest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted((int(m[1]) for m in map(_NAME.fullmatch, names) if m), reverse=True)


def _pieces(checkpoint: Checkpoint) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in _content(checkpoint):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _content(checkpoint: Checkpoint) -> Iterator[bytes]:
    header = {
        "step": checkpoint.step,
        "state": checkpoint.state,
        "arrays": [[array.dtype.str, array.shape] for array in checkpoint.arrays],
    }
    text = json.dumps(header).encode()
    yield _MAGIC + len(text).to_bytes(_LENGTH, "little") + text
    for array in checkpoint.arrays:
        yield array.tobytes()


def _parsed(data: memoryview) -> Checkpoint:
    """Returns the checkpoint in a file's bytes, its arrays not copied; ValueError if damaged."""
    # The checksum comes first, so that the rest may trust lengths and shapes.
    content, digest = data[: -hashlib.sha256().digest_size], data[-hashlib.sha256().digest_size :]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(content).digest() != digest:
        raise ValueError("its SHA-256 does not match its content")
    start = len(_MAGIC) + _LENGTH
    end = start + int.from_bytes(content[len(_MAGIC) : start], "little")
    header = json.loads(content[start:end].tobytes())
    arrays = []
    for kind, shape in header["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        # `frombuffer` refuses the object dtype, whose values would be pointers.
        arrays.append(np.frombuffer(content, kind, count, end).reshape(shape))
        end += arrays[-1].nbytes
    return Checkpoint(header["step"], header["state"], arrays)
