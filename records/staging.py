"""The folder beside the output in which a build works, and the one switch that ends it.

`photos.records.building` holds chunks, journals and the growing set; nobody reads it. It is kept
when a build is killed, and the next one goes on from it. The finished set gets its name by one
rename; where an older set has that name, the two change places in one step, so at any moment there
is a whole set or none, never a mixture.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from records import files, manifest
from records.writer import BuildError

SUFFIX = ".building"
SET, CHUNKS, JOURNAL = "set", "chunks", "journal"
_HOLDER = "build.json"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def check_output(output: str, *, replace: bool) -> None:
    """Checks, before any work, that a set can be written to `output`.

    Raises:
        BuildError: if it is not a new or empty folder or, to be replaced, a record set.
    """
    if os.path.ismount(output):
        raise BuildError(f"{output} is a mount point and cannot be renamed; name a folder in it")
    if os.path.lexists(output) and not os.path.isdir(output):
        raise BuildError(f"{output} exists and is no folder")
    names = sorted(os.listdir(output)) if os.path.isdir(output) else []
    if names and manifest.FILE_NAME not in names:
        raise BuildError(f"{output} holds {names[0]!r} and is no record set; choose another folder")
    foreign = [name for name in names if not manifest.is_file_name(name)]
    if foreign and replace:
        raise BuildError(f"{output} holds {foreign[0]!r}, which is no part of a record set")


@contextlib.contextmanager
def held(output: str, pixel_settings: Mapping[str, Any], *, restart: bool) -> Iterator[str]:
    """Gives the working folder of `output`, held by this process alone; takes it away at the end.

    It stays if the build fails or is killed.

    Args:
        output: the folder to be written.
        pixel_settings: what the chunks depend on.
        restart: throw away what a build before has left.

    Raises:
        BuildError: if another process holds it, it belongs to something else, or an unfinished
            build with other pixel settings is in it.
        OSError: if it cannot be made.
    """
    folder = output + SUFFIX
    descriptor = _locked(folder)
    try:
        path = os.path.join(folder, _HOLDER)
        _check_left(folder, path, pixel_settings, restart)
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "settings": dict(pixel_settings)}
        files.write_unsynced(path, files.json_bytes(mine))
        for name in (SET, CHUNKS, JOURNAL):
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        try:
            yield folder
        except BaseException:
            if not os.listdir(os.path.join(folder, CHUNKS)):  # nothing that is worth keeping
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)
    finally:
        os.close(descriptor)  # and with it the lock


def switch(folder: str, output: str) -> None:
    """Gives the finished set in the working folder its name.

    Raises:
        BuildError: if the file system cannot let two folders change places.
    """
    finished = os.path.join(folder, SET)
    files.sync(finished)
    if os.path.isdir(output) and os.listdir(output):
        _exchange(finished, output)
    else:
        os.rename(finished, output)
    files.sync(os.path.dirname(os.path.abspath(output)))


def _locked(folder: str) -> int:
    """Returns a descriptor of the folder that holds its lock, which ends with the process."""
    while True:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have ended and taken the folder away before we had the lock.
            if os.path.exists(folder) and os.path.samestat(os.stat(folder), os.fstat(descriptor)):
                return descriptor
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise BuildError(f"another build is writing into {folder}: {_holder(folder)}") from None


def _holder(folder: str) -> str:
    try:
        with open(os.path.join(folder, _HOLDER), encoding="utf-8") as file:
            said = json.load(file)
        return f"process {said['pid']} on {said['host']}"
    except (OSError, ValueError, KeyError):
        return "it has just begun"


def _check_left(folder: str, path: str, settings: Mapping[str, Any], restart: bool) -> None:
    """Deals with what a build before has left."""
    names = sorted(os.listdir(folder))
    marks = {_HOLDER, files.TEMPORARY_PREFIX + _HOLDER}
    foreign = [name for name in names if name not in marks | {SET, CHUNKS, JOURNAL}]
    if foreign or (names and not marks.intersection(names)):
        raise BuildError(
            f"{folder} holds {(foreign or names)[0]!r} and was not left by a build; move it away"
        )
    if restart:
        for name in (SET, CHUNKS, JOURNAL):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        return
    if _HOLDER not in names:
        return
    with contextlib.suppress(ValueError, KeyError), open(path, encoding="utf-8") as file:
        differing = difference(json.load(file)["settings"], settings)
        if differing:
            raise BuildError(
                f"{folder} holds an unfinished build with other settings ({'; '.join(differing)});"
                " go on with those, or begin anew with --restart"
            )


def difference(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each setting that differs."""
    return [
        f"{name} is {_short(existing.get(name))}, wanted {_short(wanted.get(name))}"
        for name in sorted({*existing, *wanted})
        if existing.get(name) != wanted.get(name)
    ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _exchange(one: str, other: str) -> None:
    """Lets two folders change places in one step (renameat2 of Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS):
            raise BuildError(
                f"the file system of {other} cannot replace a folder in one step; remove the old"
                " set, or choose another --output"
            )
        raise OSError(code, os.strerror(code), other)
