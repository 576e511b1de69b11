"""The files of a source: a folder, a zip or tar archive, or a Python iterator.

A tree lists all its files, usable or not, in the order of key bytes, without opening any. Archives
are not unpacked: a file in one is a span of the archive's bytes, so a name like `../../x` cannot
write outside a folder, and is excluded anyway. Any process can read a file by its location.
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

_MAX_RATIO = 1000  # of the unpacked to the packed size of a file in an archive
_HIDDEN = (b"thumbs.db", b"desktop.ini", b"__macosx")
# RuntimeError: a zip of a version unknown to zipfile.
_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, RuntimeError)
# Errors of the file itself. Others, such as too many open files, may not recur, and a set must not
# depend on them.
_PERMANENT = {
    getattr(errno, name)
    for name in ("ENOENT", "EACCES", "EPERM", "ELOOP", "EISDIR", "ENOTDIR", "ENXIO", "EIO")
}
_ZIP_HEADER = 30  # bytes of a zip's local header before name and extra field


class TreeError(errors.DatapipeError, ValueError):
    """The source cannot be listed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """The location of a file inside an archive.

    Attributes:
        offset: of its first byte; of its local header in a zip.
        stored, size: its bytes in the archive, and unpacked.
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
        stamp: changes with the file: 32 bits of a hash of size, times and inode, or of the span in
            the archive. It only decides whether cached work on the file is reused.
        span: its location in the archive; None in a folder.
    """

    key: bytes
    reason: str
    stamp: int
    span: Span | None = None


@dataclasses.dataclass(frozen=True)
class Tree:
    """A folder, an archive or an iterator of files.

    Attributes:
        path: the folder or archive; for an iterator, a temporary file of its bytes.
        kind: `folder`, `zip`, `tar` or `iterator`.
        resource: kept open while the tree is read.
        name: for messages; empty for the path.
    """

    path: str
    kind: str
    listed: tuple[Entry, ...] = ()
    resource: object = None
    name: str = ""

    def entries(self) -> Iterator[Entry]:
        """Yields every file in the order of key bytes."""
        if self.kind == "folder":
            return _walk(os.fsencode(self.path), b"")
        return iter(self.listed)

    def read(self, key: str) -> bytes:
        """Returns the bytes of one file; raises as the function `read`."""
        raw = os.fsencode(key)
        if self.kind != "folder" and raw not in self._spans:
            raise decode.ImageError("unreadable", f"no such file in {self.path}")
        return read(self.path, raw, self._spans.get(raw))

    @functools.cached_property
    def _spans(self) -> dict[bytes, Span | None]:
        return {entry.key: entry.span for entry in self.listed if not entry.reason}


def open_tree(path: str) -> Tree:
    """Returns the tree in a folder, a zip, or a tar (plain or compressed).

    A compressed tar has no random access, so its files are copied into a temporary file, which has
    no name and vanishes with the process.
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
            return _copied(_tar_files(archive, os.path.getsize(path)), path)
    except TreeError:
        raise
    except (*_ARCHIVE_ERRORS, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        raise TreeError(f"{path!r} is not a readable folder, zip or tar: {error}") from None


class _TarInfo(tarfile.TarInfo):
    """Makes a damaged or truncated header an error; tarfile takes it for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_TarInfo":
        """Returns the next member."""
        at = archive.offset
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end marker
            raise
        except tarfile.HeaderError as error:
            if not at:  # not a tar at all
                raise
            raise TreeError(
                f"{archive.name!r} is damaged or cut at byte {at} of the tar: {error}"
            ) from None


def from_items(items: Iterable[tuple[str, bytes]]) -> Tree:
    """Returns the tree of an iterator of (distinct key, encoded image), which is read once."""
    named = ((os.fsencode(key), data, "") for key, data in items)
    return dataclasses.replace(_copied(named, "the iterator"), kind="iterator")


def read(path: str, key: bytes, span: Span | None) -> bytes:
    """Returns the bytes of a file.

    Raises:
        ImageError: `unreadable`, `not_a_regular_file`, `file_too_large` or `damaged_in_archive`.
    """
    try:
        if span is None:
            return _read_file(os.path.join(os.fsencode(path), key))
        with open(path, "rb") as file:
            return _read_span(file.fileno(), span)
    except OSError as error:
        if error.errno not in _PERMANENT:
            raise
        raise decode.ImageError("unreadable", error.strerror or str(error)) from None


def file_key(key: str) -> str:
    """Returns the key of the file of a cropped image: all before the last `#`."""
    return key.rpartition("#")[0]


def _walk(root: bytes, prefix: bytes) -> Iterator[Entry]:
    """Yields the files in and below a folder.

    The names of a level are sorted with `/` appended to those of folders: so keys come in the order
    of their bytes without a list of all keys.
    """
    try:
        with os.scandir(os.path.join(root, prefix)) as scanned:
            names = [e.name + b"/" * e.is_dir(follow_symlinks=False) for e in scanned]
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
        status = os.stat(os.path.join(root, key))
    except OSError as error:
        reason = "dangling_link" if error.errno == errno.ENOENT else "unreadable"
        return Entry(key, _hidden(key) or reason, 0)
    stamp = _stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    if stat.S_ISDIR(status.st_mode):  # a link to a folder: following it might never end
        reason = "linked_folder"
    else:  # opening a pipe or a device could block or never end
        reason = "" if stat.S_ISREG(status.st_mode) else "not_a_regular_file"
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
            # zipfile decodes names as code page 437 unless they are marked as UTF-8.
            key = info.filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
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


def _tar_entries(path: str) -> Iterator[Entry]:
    with tarfile.open(path, "r:", tarinfo=_TarInfo) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # keeps memory bounded
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
                f"{archive.name!r} unpacks to more than {_MAX_RATIO} times its {archive_bytes}"
                f" bytes, at {member.name!r}"
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
    """Returns a reason for names that lead outside the folder when unpacked."""
    unsafe = key.startswith((b"/", b"\\")) or b".." in key.replace(b"\\", b"/").split(b"/")
    return "unsafe_name" if unsafe or not key or b"\0" in key else ""


def _bomb(span: Span) -> str:
    if span.size > decode.MAX_FILE_BYTES:
        return "file_too_large"
    return "bomb" if span.size > _MAX_RATIO * max(span.stored, 1) else ""


def _span_stamp(path: str, span: Span) -> int:
    status = os.stat(path)
    return _stamp(status.st_size, status.st_mtime_ns, status.st_ino, span.offset, span.crc)


def _copied(files: Iterable[tuple[bytes, bytes, str]], what: str) -> Tree:
    """Copies (key, bytes, reason) into a temporary file; returns its tree."""
    copy = tempfile.TemporaryFile(prefix="datapipe-")  # noqa: SIM115 - it lives as the tree does
    entries, offset = [], 0
    for key, data, reason in files:
        copy.write(data)
        span = Span(offset, len(data), len(data))
        entries.append(Entry(key, reason, _stamp(len(data), zlib.crc32(data)), span))
        offset += len(data)
    copy.flush()
    # It has no name; other processes reach it through this one, which has it open.
    path = f"/proc/{os.getpid()}/fd/{copy.fileno()}"
    return Tree(path, "tar", _sorted(entries, what), copy, what)


def _sorted(entries: Iterable[Entry], what: str) -> tuple[Entry, ...]:
    result = sorted(
        (dataclasses.replace(e, key=e.key.removeprefix(b"./")) for e in entries),
        key=lambda entry: entry.key,
    )
    for one, next_one in itertools.pairwise(result):
        if one.key == next_one.key:
            raise TreeError(f"{what} holds {os.fsdecode(one.key)!r} twice; keys must be distinct")
    return tuple(result)


def _read_file(path: bytes) -> bytes:
    # O_NONBLOCK: what was a file when it was listed may be a pipe by now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise decode.ImageError("not_a_regular_file", "it was one when it was listed")
        _check_size(status.st_size)
        return _read_all(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)  # one more byte, to notice a file that grows
    if len(data) == size:
        return data
    pieces = [data]  # the file grows, or the kernel returns it in pieces
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
