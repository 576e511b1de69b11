"""Files that are whole or not there, even after a power cut."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

TEMPORARY_PREFIX = ".tmp-"


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Returns a value as one JSON text in UTF-8, ending in a newline.

    A surrogate escape (a byte of a file name that is not UTF-8) cannot stand in UTF-8; written as
    `\\udc80` it is JSON of the same text.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent) + "\n"
    return text.encode("utf-8", "backslashreplace")


def write_whole(path: str, data: bytes) -> str:
    """Writes `data` as `write_stream` does and returns its SHA-256 in hexadecimal."""
    return write_stream(path, [data])


def write_stream(path: str, pieces: Iterable[bytes], *, sync_folder: bool = True) -> str:
    """Writes pieces under a temporary name, syncs them, renames that to `path`, syncs the folder.

    Args:
        path: of the file.
        pieces: its bytes.
        sync_folder: False where the caller will do it once for many files.

    Returns:
        The SHA-256 of all pieces together in hexadecimal.

    Raises:
        OSError: if they cannot be written; it names `path` and how many bytes were there.
    """
    temporary = _temporary(path)
    digest, size = hashlib.sha256(), 0
    try:
        with open(temporary, "wb", buffering=0) as file:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                _write_all(file, piece)
        commit(temporary, path, sync_folder=sync_folder)
    except OSError as error:
        what = f"{error.strerror} (after {size:,} bytes)" if size else error.strerror
        raise OSError(error.errno, what, path) from None
    return digest.hexdigest()


@contextlib.contextmanager
def whole(path: str) -> Iterator[BinaryIO]:
    """Gives a file to write to, which gets the name `path` at the end, as with `write_stream`."""
    temporary = _temporary(path)
    with naming(path):
        with open(temporary, "wb") as file:
            yield file
        commit(temporary, path)


def write_unsynced(path: str, data: bytes) -> None:
    """Writes a file that is whole or not there while the machine runs; a power cut may take it."""
    temporary = _temporary(path)
    with naming(path):
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Lets an OSError that names no file, as of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None


def _temporary(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f"{TEMPORARY_PREFIX}{name}")


def _write_all(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def commit(temporary: str, path: str, *, sync_folder: bool = True) -> None:
    """Gives a finished file its name, so that even after a power cut it is whole or not there."""
    sync(temporary)
    os.replace(temporary, path)
    if sync_folder:
        sync(os.path.dirname(path) or ".")


def sync(path: str) -> None:
    """Waits until a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: str) -> str:
    """Returns the SHA-256 of a file in hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
