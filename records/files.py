"""Files that are whole or not there, even after a power cut."""

import hashlib
import json
import os
from typing import Any

TEMPORARY_PREFIX = ".tmp-"


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Returns a value as one JSON text in UTF-8, ending in a newline.

    A surrogate escape (a byte of a file name that is not UTF-8) cannot stand in UTF-8; written as
    `\\udc80` it is JSON of the same text.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent) + "\n"
    return text.encode("utf-8", "backslashreplace")


def write_whole(path: str, data: bytes) -> str:
    """Writes `data` under a temporary name, syncs it, renames it to `path`, syncs the folder.

    Returns:
        The SHA-256 of the data in hexadecimal.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{TEMPORARY_PREFIX}{name}")
    with open(temporary, "wb") as file:
        file.write(data)
    commit(temporary, path)
    return hashlib.sha256(data).hexdigest()


def commit(temporary: str, path: str) -> None:
    """Gives a finished file its name, so that even after a power cut it is whole or not there."""
    _sync(temporary)
    os.replace(temporary, path)
    _sync(os.path.dirname(path) or ".")


def _sync(path: str) -> None:
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
