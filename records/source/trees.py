"""Where the bytes of source images lie: a folder, a zip or tar archive, or a Python iterator.

A tree lists every file it holds, usable or not, in the order of key bytes, and never opens one to
do so. Nothing of an archive is unpacked: a file in it is a span of the archive's bytes, so a name
like `../../x` can only be a strange key, and it is not even that. A file is read by its location
alone, in any process.
"""

import dataclasses
import errno
import functools
import itertools
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator

from records.common import errors
from records.image import decode

_MAX_RATIO = 1000  # a file of an archive may not unpack to more than this many times its size
_HIDDEN = (b"thumbs.db", b"desktop.ini", b"__macosx")
# RuntimeError: a zip of a version that zipfile does not know.
_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, RuntimeError)
# Errors that belong to the file. Others, such as too many open files, may be gone the next time,
# and a set must not depend on them.
_LASTING = {
    getattr(errno, name)
    for name in ("ENOENT", "EACCES", "EPERM", "ELOOP", "EISDIR", "ENOTDIR", "ENXIO", "EIO")
}
_ZIP_HEADER = 30  # bytes of a zip's local header before name and extra field


class TreeError(errors.DatapipeError, ValueError):
    """The source cannot be listed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Where a file stands inside an archive.

    Attributes:
        offset: of its first byte; of its local header in a zip.
        stored: bytes it takes there.
        size: bytes it has.
        kind: 0 plain bytes, 1 stored in a zip, 2 deflated in a zip.
        crc: CRC-32 of its bytes in a zip, else 0.
    """

    offset: int
    stored: int
    size: int
    kind: int = 0
    crc: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree.

    Attributes:
        key: its path inside the tree with `/` between the parts, raw bytes.
        reason: why it cannot be used, empty if it can.
        stamp: differs when the file was changed: 32 bits of size, times and inode, or of the place
            in the archive. It only tells whether work on the file must be done again.
        span: where it stands in the archive; None in a folder.
    """

    key: bytes
    reason: str
    stamp: int
    span: Span | None = None


@dataclasses.dataclass(frozen=True)
class Tree:
    """Where files lie.

    Attributes:
        path: the folder or archive; for an iterator, its bytes in a temporary file.
        kind: `folder`, `zip`, `tar` or `iterator`.
        held: what must stay open while the tree is read.
        name: what to call it in messages; empty: as its path.
    """

    path: str
    kind: str
    listed: tuple[Entry, ...] = ()
    held: object = None
    name: str = ""

    def entries(self) -> Iterator[Entry]:
        """Yields every file in the order of key bytes."""
        if self.kind == "folder":
            return _walk(os.fsencode(self.path), b"")
        return iter(self.listed)

    def read(self, key: str) -> bytes:
        """Returns the bytes of one file.

        Raises:
            ImageError: `unreadable`, if there is no such file or it cannot be read.
        """
        wanted = os.fsencode(key)
        if self.kind == "folder":
            return read(self.path, wanted, None)
        if wanted not in self._spans:
            raise decode.ImageError("unreadable", f"no such file in {self.path}")
        return read(self.path, wanted, self._spans[wanted])

    @functools.cached_property
    def _spans(self) -> dict[bytes, Span | None]:
        return {entry.key: entry.span for entry in self.listed if not entry.reason}


def open_tree(path: str) -> Tree:
    """Returns the tree in a folder, a zip, or a tar (plain or compressed).

    A compressed tar cannot be read at any place, so its files are copied one after the other into
    one temporary file, which has no name and goes with the process.

    Raises:
        TreeError: if there is nothing at `path` or it is none of these.
    """
    if os.path.isdir(path):
        return Tree(path, "folder")
    if not os.path.isfile(path):
        raise TreeError(f"the source must be a folder, a zip or a tar, got {path!r}")
    try:
        with open(path, "rb") as file:
            is_tar = file.read(512)[257:262] == b"ustar"  # first: its last file may be a zip
        if is_tar:
            return Tree(path, "tar", _sorted(_tar_entries(path), path))
        if zipfile.is_zipfile(path):
            return Tree(path, "zip", _sorted(_zip_entries(path), path))
        with tarfile.open(path, "r|*", tarinfo=_TarInfo) as archive:
            return _spooled(_tar_files(archive, os.path.getsize(path)), path)
    except TreeError:
        raise
    except (*_ARCHIVE_ERRORS, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        raise TreeError(f"{path!r} is no folder, zip or tar that can be read: {error}") from None


class _TarInfo(tarfile.TarInfo):
    """A header that is damaged or cut is an error; tarfile takes it for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_TarInfo":
        """Returns the next member."""
        at = archive.offset
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end marker
            raise
        except tarfile.HeaderError as error:
            if not at:  # no tar at all
                raise
            raise TreeError(
                f"{archive.name!r} is damaged or cut at byte {at} of the tar: {error}"
            ) from None


def from_items(items: Iterable[tuple[str, bytes]]) -> Tree:
    """Returns the tree of an iterator of (key, encoded image), which is read once.

    Raises:
        TreeError: if a key stands twice.
    """
    named = ((os.fsencode(key), data, "") for key, data in items)
    return dataclasses.replace(_spooled(named, "the iterator"), kind="iterator")


def read(path: str, key: bytes, span: Span | None) -> bytes:
    """Returns the bytes of a file by its place.

    Args:
        path: of the tree.
        key: of the file.
        span: where it stands in an archive; None in a folder.

    Raises:
        ImageError: `unreadable`, `not_a_regular_file`, `file_too_large` or `damaged_in_archive`.
    """
    try:
        if span is None:
            return _read_file(os.path.join(os.fsencode(path), key))
        with open(path, "rb") as file:
            return _read_span(file.fileno(), span)
    except OSError as error:
        if error.errno not in _LASTING:
            raise
        raise decode.ImageError("unreadable", error.strerror or str(error)) from None


def file_key(key: str) -> str:
    """Returns the key of the file that a cropped image was cut from: all before its last `#`."""
    return key.rpartition("#")[0]


def _walk(root: bytes, prefix: bytes) -> Iterator[Entry]:
    """Yields the files of a folder and below it.

    Sorted with `/` behind the names of folders, the names of each level give whole keys in the
    order of their bytes, so no list of all keys is needed.
    """
    try:
        with os.scandir(os.path.join(root, prefix)) as found:
            names = [
                entry.name + b"/" * entry.is_dir(follow_symlinks=False)  # no folder: a file or link
                for entry in found
            ]
    except OSError as error:
        folder = os.fsdecode(error.filename)
        raise TreeError(f"cannot list the folder {folder!r}: {error.strerror}") from None
    for name in sorted(names):
        if name.endswith(b"/"):
            yield from _walk(root, prefix + name)
        else:
            yield _file_entry(root, prefix + name)


def _file_entry(root: bytes, key: bytes) -> Entry:
    try:
        found = os.stat(os.path.join(root, key))
    except OSError as error:
        reason = "dangling_link" if error.errno == errno.ENOENT else "unreadable"
        return Entry(key, _hidden(key) or reason, 0)
    stamp = _stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    if stat.S_ISDIR(found.st_mode):  # a link to a folder: followed, it might never end
        reason = "linked_folder"
    else:  # opening a pipe or a device could block or never end
        reason = "" if stat.S_ISREG(found.st_mode) else "not_a_regular_file"
    return Entry(key, _hidden(key) or reason, stamp)


def _stamp(*numbers: int) -> int:
    return hash(numbers) & 0xFFFFFFFF


def _hidden(key: bytes) -> str:
    if b"/." in key or key.startswith(b"."):
        return "hidden"
    lower = key.lower()
    return "hidden" if any(n in lower and n in lower.split(b"/") for n in _HIDDEN) else ""


def _zip_entries(path: str) -> Iterator[Entry]:
    archive_bytes = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            key = _zip_key(info)
            span = Span(
                offset=info.header_offset,
                stored=info.compress_size,
                size=info.file_size,
                kind={zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 2}.get(info.compress_type, 0),
                crc=info.CRC,
            )
            reason = _unsafe(key) or _hidden(key.removeprefix(b"./")) or _bomb(span)
            if max(span.offset, 0) + span.stored > archive_bytes:
                reason = reason or "damaged_in_archive"
            if stat.S_ISLNK(info.external_attr >> 16):
                reason = reason or "link_in_archive"
            if info.flag_bits & 1:
                reason = reason or "encrypted"
            elif span.kind == 0:
                reason = reason or "unsupported_compression"
            yield Entry(key, reason, _span_stamp(path, span), span)


def _zip_key(info: zipfile.ZipInfo) -> bytes:
    """Returns the bytes of a name, which zipfile takes for code page 437 unless it is marked."""
    is_marked = info.flag_bits & 0x800
    return info.filename.encode("utf-8" if is_marked else "cp437")


def _tar_entries(path: str) -> Iterator[Entry]:
    with tarfile.open(path, "r:", tarinfo=_TarInfo) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if not member.isdir():
                span = Span(member.offset_data, member.size, member.size)
                key = os.fsencode(member.name)
                reason = "sparse_in_archive" if member.issparse() else ""
                reason = _member_reason(member, span) or reason
                yield Entry(key, reason, _span_stamp(path, span), span)


def _tar_files(archive: tarfile.TarFile, archive_bytes: int) -> Iterator[tuple[bytes, bytes, str]]:
    """Yields (key, bytes, reason) of the files of a compressed tar."""
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]
        if member.isdir():
            continue
        if member.offset_data + member.size > archive_bytes * _MAX_RATIO:
            raise TreeError(
                f"unpacks to more than {_MAX_RATIO} times its {archive_bytes} bytes, at"
                f" {member.name!r}"
            )
        reason = _member_reason(member, Span(0, member.size, member.size))
        file = None if reason else archive.extractfile(member)
        yield os.fsencode(member.name), file.read() if file else b"", reason


def _member_reason(member: tarfile.TarInfo, span: Span) -> str:
    key = os.fsencode(member.name)
    if member.issym() or member.islnk():
        kind = "link_in_archive"
    else:
        kind = "" if member.isreg() else "not_a_regular_file"
    return _unsafe(key) or _hidden(key.removeprefix(b"./")) or kind or _bomb(span)


def _unsafe(key: bytes) -> str:
    """Names that would leave the folder if the archive were unpacked."""
    unsafe = key.startswith((b"/", b"\\")) or b".." in key.replace(b"\\", b"/").split(b"/")
    return "unsafe_name" if unsafe or not key or b"\0" in key else ""


def _bomb(span: Span) -> str:
    if span.size > decode.MAX_FILE_BYTES:
        return "file_too_large"
    return "bomb" if span.size > _MAX_RATIO * max(span.stored, 1) else ""


def _span_stamp(path: str, span: Span) -> int:
    found = os.stat(path)
    return _stamp(found.st_size, found.st_mtime_ns, found.st_ino, span.offset, span.crc)


def _spooled(files: Iterable[tuple[bytes, bytes, str]], what: str) -> Tree:
    """Copies (key, bytes, reason) into a temporary file; their tree reads from there."""
    held = tempfile.TemporaryFile(prefix="datapipe-")  # noqa: SIM115 - it lives as the tree does
    entries, offset = [], 0
    for key, data, reason in files:
        held.write(data)
        span = Span(offset, len(data), len(data))
        entries.append(Entry(key, reason, _stamp(len(data), zlib.crc32(data)), span))
        offset += len(data)
    held.flush()
    # Without a name, other processes reach it through the one that holds it.
    path = f"/proc/{os.getpid()}/fd/{held.fileno()}"
    return Tree(path, "tar", _sorted(entries, what), held, what)


def _sorted(entries: Iterable[Entry], what: str) -> tuple[Entry, ...]:
    result = sorted(
        (dataclasses.replace(e, key=e.key.removeprefix(b"./")) for e in entries),
        key=lambda entry: entry.key,
    )
    for one, next_one in itertools.pairwise(result):
        if one.key == next_one.key:
            raise TreeError(f"{what} holds {os.fsdecode(one.key)!r} twice; which one is meant?")
    return tuple(result)


def _read_file(path: bytes) -> bytes:
    # O_NONBLOCK: what was a file when it was listed may be a pipe by now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise decode.ImageError("not_a_regular_file", "it was one when it was listed")
        _check_size(found.st_size)
        return _read_all(descriptor, found.st_size)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)  # one more byte: at the end of the file it is not there
    if len(data) == size:
        return data
    pieces = [data]  # it grows, or the kernel gives it in parts
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
        _check_size(sum(map(len, pieces)))
    return b"".join(pieces)


def _check_size(size: int) -> None:
    if size > decode.MAX_FILE_BYTES:
        raise decode.ImageError(
            "file_too_large", f"{size} bytes, the limit is {decode.MAX_FILE_BYTES}"
        )


def _read_span(descriptor: int, span: Span) -> bytes:
    offset = span.offset
    if span.kind:
        header = os.pread(descriptor, _ZIP_HEADER, offset)
        if len(header) < _ZIP_HEADER or header[:4] != b"PK\3\4":
            raise decode.ImageError("damaged_in_archive", "no local header")
        offset += _ZIP_HEADER + sum(int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    data = os.pread(descriptor, span.stored, offset)
    if span.kind == 2:
        try:
            data = zlib.decompressobj(-15).decompress(data, span.size + 1)
        except zlib.error as error:
            raise decode.ImageError("damaged_in_archive", str(error)) from None
    if len(data) != span.size or (span.kind and zlib.crc32(data) != span.crc):
        raise decode.ImageError("damaged_in_archive", "size or checksum differ from the archive's")
    return data
