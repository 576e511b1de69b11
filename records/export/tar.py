"""A record set as one tar file, and back.

The tar is plain (POSIX ustar): the files of the set by name, in order, without times or owners, so
equal sets give equal archives. Reading believes nothing: a name must be one that the manifest says,
a member a regular file of the size that it says, and its bytes must have the digest that it says.
"""

import hashlib
import os
import tarfile
from collections.abc import Mapping
from typing import BinaryIO

from records.common import atomic, errors
from records.format import manifest as manifest_lib
from records.format import record_set

_MOST_MANIFEST = 64 << 20  # 64 MiB
_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20


class ArchiveError(errors.DatapipeError, ValueError):
    """The archive holds no record set, or more than one."""


def write(opened: record_set.RecordSet, path: str) -> None:
    """Writes the whole set as a new tar file.

    Raises:
        ArchiveError: if a file of the set is not as its manifest says.
    """
    sizes = {file: entry.bytes for file, entry in _entries(opened.manifest).items()}
    text = manifest_lib.to_json(opened.manifest)
    with tarfile.open(path, "x:", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted([*sizes, manifest_lib.FILE_NAME]):
            with open(os.path.join(opened.folder, name), "rb") as file:
                member = tarfile.TarInfo(name)
                member.size = os.fstat(file.fileno()).st_size
                if member.size != sizes.get(name, len(text)):
                    raise ArchiveError(f"{name} has {member.size} bytes, not as it was written")
                tar.addfile(member, file)


def read(path: str, folder: str) -> manifest_lib.Manifest:
    """Unpacks the set in a tar file into a new folder and checks every byte.

    Raises:
        ArchiveError: if the archive holds anything but one whole record set; it names the member.
        ManifestError: if the manifest is damaged.
    """
    with open(path, "rb") as file:
        members = _members(file)
        manifest = _manifest(file, members)
        entries = _entries(manifest)
        unknown = sorted(members.keys() - entries.keys() - {manifest_lib.FILE_NAME})
        missing = sorted(entries.keys() - members.keys())
        if unknown or missing:
            said = f"holds {unknown[0]!r}, which is" if unknown else f"lacks {missing[0]!r},"
            raise ArchiveError(f"{path} {said} {'no' if unknown else 'a'} part of its record set")
        os.mkdir(folder)
        for name, entry in entries.items():
            _unpack(file, members[name], os.path.join(folder, name), entry)
    atomic.write_whole(os.path.join(folder, manifest_lib.FILE_NAME), manifest_lib.to_json(manifest))
    return manifest


def _entries(manifest: manifest_lib.Manifest) -> dict[str, manifest_lib.Shard]:
    """Returns the files of a set beside the manifest, by name."""
    entries = [manifest.rejects]
    for split in manifest.splits.values():
        entries += [*split.shards, split.index]
    return {entry.file: entry for entry in entries}


def _members(file: BinaryIO) -> dict[str, tuple[int, int]]:
    """Returns where each member begins and its size, by name.

    Reads the headers alone. Only plain files are understood: no link, device, folder, long name or
    sparse file can be meant.
    """
    size = os.fstat(file.fileno()).st_size
    members: dict[str, tuple[int, int]] = {}
    at = 0
    while at + _BLOCK <= size:
        header = os.pread(file.fileno(), _BLOCK, at)
        if not any(header):  # the end
            break
        try:
            member = tarfile.TarInfo.frombuf(header, "ascii", "backslashreplace")
        except tarfile.HeaderError as error:
            raise ArchiveError(f"{file.name} is no plain tar: {error} at byte {at}") from None
        start = at + _BLOCK
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.name in members:
            raise ArchiveError(
                f"{file.name}: {member.name!r} is no regular file, or stands a second time"
            )
        if not 0 <= member.size <= size - start:
            raise ArchiveError(f"{file.name}: {member.name!r} claims {member.size} bytes")
        members[member.name] = (start, member.size)
        at = start + -(-member.size // _BLOCK) * _BLOCK
    return members


def _manifest(file: BinaryIO, members: Mapping[str, tuple[int, int]]) -> manifest_lib.Manifest:
    if manifest_lib.FILE_NAME not in members:
        raise ArchiveError(f"{file.name} holds no {manifest_lib.FILE_NAME}, so no record set")
    start, size = members[manifest_lib.FILE_NAME]
    if size > _MOST_MANIFEST:
        raise ArchiveError(f"{file.name}: the manifest has {size} bytes, at most {_MOST_MANIFEST}")
    try:
        return manifest_lib.from_json(os.pread(file.fileno(), size, start).decode("utf-8"))
    except (UnicodeDecodeError, RecursionError, manifest_lib.ManifestError) as error:
        raise manifest_lib.ManifestError(f"{file.name}: {error}") from None


def _unpack(file: BinaryIO, member: tuple[int, int], path: str, entry: manifest_lib.Shard) -> None:
    start, size = member
    if size != entry.bytes:
        raise ArchiveError(f"{entry.file} has {size} bytes, the manifest says {entry.bytes}")
    digest = hashlib.sha256()
    with open(path, "xb") as out:
        for at in range(start, start + size, _PIECE):
            piece = os.pread(file.fileno(), min(_PIECE, start + size - at), at)
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != entry.sha256:
        raise ArchiveError(f"{entry.file}: its SHA-256 differs from the manifest's")
