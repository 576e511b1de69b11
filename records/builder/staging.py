"""The working folder of a build beside its output, and the atomic switch at the end.

`photos.records.building` holds the decode cache, journals and the growing set; no reader opens it.
It stays when a build is killed, and the next one resumes from it. The finished set is renamed to
its output; an older set there is exchanged with it in one step, so at any moment there is a
complete set or none. Renaming shards one by one would show a mixture to readers of `*.tfrecord`.
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
    """Raises a BuildError unless `output` is new, empty or, with `replace`, a record set."""
    if os.path.ismount(output):
        raise BuildError(f"{output} is a mount point and cannot be renamed; choose a folder in it")
    if os.path.lexists(output) and not os.path.isdir(output):
        raise BuildError(f"{output} exists and is not a folder")
    names = sorted(os.listdir(output)) if os.path.isdir(output) else []
    if names and manifest.FILE_NAME not in names:
        raise BuildError(f"{output} is not a record set, it holds {names[0]!r}; choose another")
    foreign = [name for name in names if not manifest.is_file_name(name)]
    if foreign and replace:
        raise BuildError(f"{output} holds {foreign[0]!r}, which does not belong to a record set")


@contextlib.contextmanager
def locked(output: str) -> Iterator[str]:
    """Yields the working folder of `output`, locked by this process.

    It stays if the build fails or is killed and it has chunks.

    Raises:
        BuildError: if another process has locked it, or it was not made by a build.
    """
    folder = output + SUFFIX
    descriptor = _lock(folder)
    try:
        _check_ours(folder)
        mine = {"pid": os.getpid(), "host": socket.gethostname()}
        atomic.write_unsynced(os.path.join(folder, _HOLDER), atomic.json_bytes(mine))
        try:
            yield folder
        finally:
            if os.path.isdir(folder) and not _has_chunks(folder):  # nothing worth keeping
                clear(folder)
    finally:
        os.close(descriptor)  # releases the lock


def begin(folder: str, settings: Mapping[str, Any], *, restart: bool) -> None:
    """Prepares the working folder for a build, which resumes one of equal `settings["pixels"]`.

    Args:
        restart: discard the files of an interrupted build; else other settings are an error.
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
                " resume it with those, or discard it with --restart"
            )
    atomic.write_unsynced(os.path.join(folder, _SETTINGS), atomic.json_bytes(settings))
    for name in _CONTENT:
        os.makedirs(os.path.join(folder, name), exist_ok=True)


def settings_of_left(folder: str) -> Mapping[str, Any] | None:
    """Returns the settings of the interrupted build in the folder, None if there is none."""
    try:
        with open(os.path.join(folder, _SETTINGS), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def clear(folder: str) -> None:
    """Removes the working folder; the files that mark it as one go last."""
    for name in _CONTENT:
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    shutil.rmtree(folder)


def switch(folder: str, output: str, *, replace: bool) -> None:
    """Renames the finished set to `output`, or with `replace` exchanges it with the set there."""
    check_output(output, replace=replace)
    finished = os.path.join(folder, SET)
    atomic.sync(finished)
    if not os.path.isdir(output) or not os.listdir(output):
        os.rename(finished, output)
    elif replace:
        _exchange(finished, output)
    else:
        raise BuildError(f"another set has appeared in {output}; choose another --output")
    atomic.sync(os.path.dirname(os.path.abspath(output)))


def _lock(folder: str) -> int:
    """Returns a descriptor of the folder that holds its lock."""
    while True:
        try:
            os.makedirs(folder, exist_ok=True)  # fails for good where nothing can be made: in /proc
        except FileExistsError:
            if os.path.lexists(folder) and not os.path.isdir(folder):
                raise
            continue  # the build that held the lock has just removed it
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # likewise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The build that held the lock may have removed the folder before we got it.
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
            holder = json.load(file)
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError):
        return "it has just started"


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


def difference(existing: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns a phrase for each setting that differs."""
    return [
        f"{name} is {_short(existing.get(name))}, now {_short(new.get(name))}"
        for name in sorted({*existing, *new})
        if existing.get(name) != new.get(name)
    ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _exchange(one: str, other: str) -> None:
    """Exchanges two folders atomically (Linux renameat2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS):
            raise BuildError(
                f"the file system of {other} cannot exchange two folders atomically; remove the old"
                " set, or choose another --output"
            )
        raise OSError(code, os.strerror(code), other)
