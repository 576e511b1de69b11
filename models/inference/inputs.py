"""The files that a user names: single ones, folders, and archives, with every file in these."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

from records.image import decode
from records.source import trees

_HEADER = 512  # bytes, of which a tar has its name at 257
# How archives begin that `trees` reads: zip, gzip, bzip2, xz.
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")


@dataclasses.dataclass(frozen=True, slots=True)
class GivenFile:
    """A file, or what cannot be one.

    Attributes:
        source: the folder or archive it is in, as the user wrote it; empty: where we are.
        key: its path inside, `/` between the parts; bytes that are not UTF-8 as surrogate escapes.
            Empty for a folder or archive that cannot be listed.
        tree: where its bytes are, see `trees.read`.
        span: where it stands in an archive.
        error: a code of why it cannot be read; empty if nothing speaks against it.
        detail: of the error.
    """

    source: str
    key: str
    tree: str = ""
    span: trees.Span | None = None
    error: str = ""
    detail: str = ""

    @property
    def name(self) -> str:
        """What the user would call it."""
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
class Given:
    """All that was found.

    Attributes:
        files: in the order of the paths, those of a folder or archive by the bytes of their keys.
        num_hidden: files left out because they are hidden.
        held: what must stay open while the files are read.
    """

    files: tuple[GivenFile, ...]
    num_hidden: int
    held: tuple[trees.Tree, ...]


def find(paths: Sequence[str]) -> Given:
    """Returns the files of some paths.

    A folder or archive that cannot be listed to its end is one line with its error, and nothing of
    it is read: what would be missing could not be named.

    Args:
        paths: each a file, a folder, or a zip or tar; a file is taken for an archive if it begins
            as one, whatever its name.
    """
    files: list[GivenFile] = []
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
            files.append(GivenFile(path, "", error="unreadable", detail=str(error)))
            continue
        held.append(tree)
        num_hidden += sum(entry.reason == "hidden" for entry in entries)
        files += _of_tree(path, tree, entries)
    return Given(tuple(files), num_hidden, tuple(held))


def _of_tree(path: str, tree: trees.Tree, entries: Sequence[trees.Entry]) -> Iterator[GivenFile]:
    for entry in entries:
        if entry.reason != "hidden":
            key = os.fsdecode(entry.key)
            yield GivenFile(path, key, tree.path, entry.span, entry.reason, "not read")


def _single(path: str) -> GivenFile:
    folder, name = os.path.split(path)
    return GivenFile(folder, name, folder or ".")


def _is_archive(path: str) -> bool:
    if not os.path.isfile(path):  # opening a pipe might never end
        return False
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER)
    except OSError:  # said when it is read as a file
        return False
    return header.startswith(_ARCHIVES) or header[257:262] == b"ustar"
