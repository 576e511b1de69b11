"""The input files of a prediction: single files, and the contents of folders and archives."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

from records.image import decode
from records.source import trees

_HEADER = 512  # bytes; a tar has its magic number at 257
# The magic numbers of archives that `trees` reads: zip, gzip, bzip2, xz.
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")


@dataclasses.dataclass(frozen=True, slots=True)
class InputFile:
    """A file, or a folder or archive that cannot be listed, whose `key` is empty.

    `source` is its folder or archive, as the user wrote it (empty: the working directory), `key`
    its path inside with `/` separators; bytes that are not UTF-8 are surrogate escapes.
    """

    source: str
    key: str
    tree: str = ""  # the folder or archive to read from, see `trees.read`
    span: trees.Span | None = None  # its position in an archive
    error: str = ""  # code of the reason why it cannot be read, if known
    detail: str = ""  # of the error

    @property
    def name(self) -> str:
        """Its path as the user would write it."""
        return os.path.join(self.source, self.key) if self.key else self.source

    def read(self) -> bytes:
        """Returns its bytes.

        Raises:
            ImageError: `error`, or as `trees.read`.
        """
        if self.error:
            raise decode.ImageError(self.error, self.detail)
        return trees.read(self.tree, os.fsencode(self.key), self.span)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The files found."""

    files: tuple[InputFile, ...]  # in the order of the paths, in folders and archives sorted by key
    num_hidden: int  # hidden files, which are excluded
    held: tuple[trees.Tree, ...]  # trees to keep open while the files are read


def find(paths: Sequence[str]) -> Inputs:
    """Returns the files at the paths.

    A folder or archive that cannot be listed completely is a single entry with its error: its files
    are not read, because the missing ones could not be reported.

    Args:
        paths: each a file, a folder, or a zip or tar archive, recognized by its first bytes.
    """
    files: list[InputFile] = []
    held: list[trees.Tree] = []
    num_hidden = 0
    for path in paths:
        if not os.path.isdir(path) and not _is_archive(path):
            files.append(_single(path))
            continue
        try:
            tree = trees.open_tree(path)
            entries = list(tree.entries())
        except trees.TreeError as error:
            files.append(InputFile(path, "", error="unreadable", detail=str(error)))
            continue
        held.append(tree)
        num_hidden += sum(entry.reason == "hidden" for entry in entries)
        files += _of_tree(path, tree, entries)
    return Inputs(tuple(files), num_hidden, tuple(held))


def _of_tree(path: str, tree: trees.Tree, entries: Sequence[trees.Entry]) -> Iterator[InputFile]:
    for entry in entries:
        if entry.reason != "hidden":
            key = os.fsdecode(entry.key)
            yield InputFile(path, key, tree.path, entry.span, entry.reason, "not read")


def _single(path: str) -> InputFile:
    folder, name = os.path.split(path)
    return InputFile(folder, name, folder or ".")


def _is_archive(path: str) -> bool:
    if not os.path.isfile(path):  # opening a pipe may block forever
        return False
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER)
    except OSError:  # reported when it is read as a file
        return False
    return header.startswith(_ARCHIVES) or header[257:262] == b"ustar"
