"""Files that are whole or not there, even after a power cut."""

import hashlib
import os

TEMPORARY_PREFIX = ".tmp-"


def write_whole(path: str, data: bytes) -> str:
    """Writes `data` under a temporary name, syncs it, renames it to `path`, syncs the folder.

    Returns:
        The SHA-256 of the data in hexadecimal.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{TEMPORARY_PREFIX}{name}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(folder)
    return hashlib.sha256(data).hexdigest()


def sync_folder(folder: str) -> None:
    """Makes renames and removals in `folder` survive a power cut."""
    descriptor = os.open(folder or ".", os.O_RDONLY)
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
