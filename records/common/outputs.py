"""A file or folder of the user's naming, written whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from records.common import atomic, errors


class OutputError(errors.DatapipeError, RuntimeError):
    """There is something already where the output should go."""


@contextlib.contextmanager
def whole(output: str) -> Iterator[str]:
    """Gives a path to write to; what stands there at the end gets its name in one rename.

    If the work fails it is removed. If it is killed the path, which begins with `.tmp-`, stays, and
    the next one with the same output removes it.

    Args:
        output: a new file, or a new or empty folder; folders above it are made.

    Raises:
        OutputError: if there is a file at `output` or a folder that is not empty.
    """
    output = os.path.abspath(output)
    if os.path.lexists(output) and not _is_empty_folder(output):
        raise OutputError(f"{output} exists and is no empty folder; choose another")
    parent, name = os.path.split(output)
    os.makedirs(parent, exist_ok=True)
    temporary = os.path.join(parent, atomic.TEMPORARY_PREFIX + name)
    _remove(temporary)
    try:
        yield temporary
        os.sync()  # one call, where a file at a time would take a minute for a tree of images
        if os.path.isdir(output) and not os.path.isdir(temporary):
            os.rmdir(output)
        os.rename(temporary, output)
        atomic.sync(parent)
    finally:
        _remove(temporary)


def link_or_copy(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where that cannot be."""
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
