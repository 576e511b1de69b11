"""Atomic writes: a file or folder is complete or does not exist, even after a power cut."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from records.common import errors

TEMPORARY_PREFIX = ".tmp-"


class OutputError(errors.DatapipeError, RuntimeError):
    """The output path is already in use."""


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Returns a value as one JSON text in UTF-8, ending in a newline.

    A surrogate escape (a byte of a file name that is not UTF-8) cannot be UTF-8; written as
    `\\udc80` it is JSON of the same text.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent) + "\n"
    return text.encode("utf-8", "backslashreplace")


def write_whole(path: str, data: bytes) -> str:
    """Writes `data` as `write_stream` does and returns its SHA-256 in hexadecimal."""
    return write_stream(path, [data])


def write_stream(path: str, pieces: Iterable[bytes], *, sync_folder: bool = True) -> str:
    """Writes pieces to a temporary file, syncs it, renames it to `path` and syncs the folder.

    Args:
        sync_folder: False where the caller will do it once for many files.

    Returns:
        The SHA-256 of all pieces together in hexadecimal.
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


def write_unsynced(path: str, data: bytes) -> None:
    """Writes a file atomically but without syncing it, so a power cut may lose it."""
    temporary = _temporary(path)
    with naming(path):
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Adds `path` to an OSError that names no file, such as that of a full disk."""
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
    """Syncs a finished file and renames it to `path`."""
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


@contextlib.contextmanager
def output(path: str) -> Iterator[str]:
    """Yields a temporary path to write a file or folder to, and renames it to `path` at the end.

    The temporary path (`.tmp-...`) is removed if the work fails. If the process is killed it stays,
    and the next call with the same `path` removes it.

    Args:
        path: a new file, or a new or empty folder; parent folders are created.
    """
    path = os.path.abspath(path)
    if os.path.lexists(path) and not _is_empty_folder(path):
        what = "exists and is not an empty folder" if os.path.isdir(path) else "exists already"
        raise OutputError(f"{path} {what}; choose another name")
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    temporary = _temporary(path)
    _remove(temporary)
    try:
        yield temporary
        os.sync()  # one call; syncing a tree of images file by file would take a minute
        if os.path.isdir(path) and not os.path.isdir(temporary):
            os.rmdir(path)
        os.rename(temporary, path)
        sync(parent)
    finally:
        _remove(temporary)


def link_or_copy(source: str, target: str) -> None:
    """Makes a hard link, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _is_empty_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
