"""Checkpoints: everything a training needs to go on to the bit, in files that are whole or refused.

A file is a line with the format's name, the length of a JSON header, the header, the bytes of the
arrays one after the other, and the SHA-256 of all that. Nothing in it is ever executed. It appears
under its name when it is on disk, and the one before stays: whatever happens to the newest, there
is another.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from records.common import atomic, errors

_MAGIC = b"datapipe checkpoint 1\n"
_NAME = re.compile(r"checkpoint-(\d{10})")
_KEPT = 2


class CheckpointError(errors.DatapipeError, RuntimeError):
    """There are checkpoints, and none of them can be read."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was saved.

    Attributes:
        step: steps that were done.
        state: plain values, as JSON has them.
        arrays: of any shapes.
    """

    step: int
    state: Mapping[str, Any]
    arrays: Sequence[np.ndarray]


def save(checkpoint: Checkpoint, folder: str) -> None:
    """Writes a checkpoint into an existing folder and removes all but the newest two.

    Raises:
        OSError: if it cannot be written, such as to a full disk; those before are still there.
    """
    path = os.path.join(folder, f"checkpoint-{checkpoint.step:010d}")
    try:
        atomic.write_stream(path, _pieces(checkpoint))
    except OSError:
        with contextlib.suppress(OSError):  # give the room back
            os.remove(os.path.join(folder, f"{atomic.TEMPORARY_PREFIX}{os.path.basename(path)}"))
        raise
    for step in _steps(folder)[_KEPT:]:
        os.remove(os.path.join(folder, f"checkpoint-{step:010d}"))


def newest(folder: str, tell: Callable[[str], None] = print) -> Checkpoint | None:
    """Returns the newest whole checkpoint of a folder; None if there has been none.

    Args:
        folder: existing or not.
        tell: hears of each damaged file that is passed over.

    Raises:
        CheckpointError: if all that there are are damaged.
    """
    steps = _steps(folder)
    for step in steps:
        path = os.path.join(folder, f"checkpoint-{step:010d}")
        try:
            return _read(path)
        except (ValueError, OSError) as error:
            tell(f"warning: {path} is damaged ({error}), so the checkpoint before is taken")
    if steps:
        raise CheckpointError(
            f"none of the {len(steps)} checkpoints in {folder} can be read; begin anew in another"
            " folder, or remove them"
        )
    return None


def at(step: int, folder: str) -> Checkpoint:
    """Returns the checkpoint of a step.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    path = os.path.join(folder, f"checkpoint-{step:010d}")
    try:
        return _read(path)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def remove(folder: str) -> None:
    """Removes all checkpoints of a folder."""
    for step in _steps(folder):
        os.remove(os.path.join(folder, f"checkpoint-{step:010d}"))


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
    arrays = [np.ascontiguousarray(array).reshape(array.shape) for array in checkpoint.arrays]
    header = {
        "step": checkpoint.step,
        "state": checkpoint.state,
        "arrays": [[array.dtype.str, array.shape] for array in arrays],
    }
    text = json.dumps(header).encode()
    yield _MAGIC + len(text).to_bytes(8, "little")
    yield text
    for array in arrays:
        yield array.tobytes()


def _read(path: str) -> Checkpoint:
    with open(path, "rb") as file:
        digest = hashlib.sha256()

        def take(count: int) -> bytes:
            data = _exactly(file, count)
            digest.update(data)
            return data

        if take(len(_MAGIC)) != _MAGIC:
            raise ValueError("it does not begin like one")
        length = int.from_bytes(take(8), "little")
        if length > os.path.getsize(path):
            raise ValueError("its header is longer than the file")
        text = take(length)
        try:
            header = json.loads(text)
            specs = [(np.dtype(kind), tuple(shape)) for kind, shape in header["arrays"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"its header cannot be read: {error}") from None
        if any(kind.hasobject for kind, _ in specs):
            raise ValueError("it holds more than numbers")
        arrays = [_array(take, kind, shape) for kind, shape in specs]
        if _exactly(file, digest.digest_size) != digest.digest() or file.read(1):
            raise ValueError("its checksum is another")
    return Checkpoint(header["step"], header["state"], arrays)


def _array(take: Callable[[int], bytes], kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    return np.frombuffer(take(size), kind).reshape(shape)


def _exactly(file: BinaryIO, count: int) -> bytes:
    # Asked for in parts, so that a damaged length does not ask for the memory at once.
    parts, missing = [], count
    while missing:
        part = file.read(min(missing, 64 << 20))
        if not part:
            raise ValueError(f"it ends {missing:,} bytes early")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
