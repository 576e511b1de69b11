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

from records.builder.shard_writer import BuildError
from records.common import atomic
from records.format import manifest

SUFFIX = ".building"
SET, CHUNKS, JOURNAL = "set", "chunks", "journal"
_CONTENT = (SET, CHUNKS, JOURNAL)
_HOLDER, _SETTINGS = "holder.json", "build.json"
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
def held(output: str) -> Iterator[str]:
    """Gives the working folder of `output`, held by this process alone.

    It stays as long as there are chunks in it: if the build fails or is killed.

    Raises:
        BuildError: if another process holds it, or it belongs to something else.
        OSError: if it cannot be made.
    """
    folder = output + SUFFIX
    descriptor = _locked(folder)
    try:
        _check_ours(folder)
        mine = {"pid": os.getpid(), "host": socket.gethostname()}
        atomic.write_unsynced(os.path.join(folder, _HOLDER), atomic.json_bytes(mine))
        try:
            yield folder
        finally:
            if os.path.isdir(folder) and not _has_chunks(folder):  # nothing that is worth keeping
                clear(folder)
    finally:
        os.close(descriptor)  # and with it the lock


def begin(folder: str, settings: Mapping[str, Any], *, restart: bool) -> None:
    """Prepares the working folder for a build, keeping what a build before has left.

    Args:
        folder: from `held`.
        settings: of the build; under `pixels` what the chunks depend on.
        restart: throw away what is left.

    Raises:
        BuildError: if an unfinished build with other settings of pixels is in it.
    """
    left = settings_of_left(folder)
    if restart:
        for name in _CONTENT:
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    elif left and _has_chunks(folder):
        differing = difference(left["pixels"], settings["pixels"])
        if differing:
            raise BuildError(
                f"{folder} holds an unfinished build with other settings ({'; '.join(differing)});"
                " go on with those, or begin anew with --restart"
            )
    atomic.write_unsynced(os.path.join(folder, _SETTINGS), atomic.json_bytes(settings))
    for name in _CONTENT:
        os.makedirs(os.path.join(folder, name), exist_ok=True)


def settings_of_left(folder: str) -> Mapping[str, Any] | None:
    """Returns the settings of the build that has left something in the folder, None if none has."""
    try:
        with open(os.path.join(folder, _SETTINGS), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def clear(folder: str) -> None:
    """Removes the working folder, what tells that it is ours last."""
    for name in _CONTENT:
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    shutil.rmtree(folder)


def switch(folder: str, output: str, *, replace: bool) -> None:
    """Gives the finished set in the working folder its name.

    Args:
        folder: from `held`.
        output: the name.
        replace: let it change places with the set that has the name.

    Raises:
        BuildError: if something has come to stand there that is not to be replaced, or the file
            system cannot let two folders change places.
    """
    check_output(output, replace=replace)
    finished = os.path.join(folder, SET)
    atomic.sync(finished)
    if not os.path.isdir(output) or not os.listdir(output):
        os.rename(finished, output)
    elif replace:
        _exchange(finished, output)
    else:
        raise BuildError(f"another set has come to stand in {output}; choose another --output")
    atomic.sync(os.path.dirname(os.path.abspath(output)))


def _locked(folder: str) -> int:
    """Returns a descriptor of the folder that holds its lock, which ends with the process."""
    while True:
        try:
            os.makedirs(folder, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, FileExistsError):
            if os.path.lexists(folder) and not os.path.isdir(folder):
                raise
            if not os.path.isdir(os.path.dirname(folder)):
                raise
            continue  # the one who held it has taken it away just now
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have ended and taken the folder away before we had the lock.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(folder), os.fstat(descriptor)):
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


def _check_ours(folder: str) -> None:
    names = sorted(os.listdir(folder))
    marks = {_HOLDER, _SETTINGS, *(atomic.TEMPORARY_PREFIX + n for n in (_HOLDER, _SETTINGS))}
    foreign = [name for name in names if name not in marks.union(_CONTENT)]
    if foreign or (names and not marks.intersection(names)):
        raise BuildError(
            f"{folder} holds {(foreign or names)[0]!r} and was not left by a build; move it away"
        )


def _has_chunks(folder: str) -> bool:
    chunks = os.path.join(folder, CHUNKS)
    return os.path.isdir(chunks) and bool(os.listdir(chunks))


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
