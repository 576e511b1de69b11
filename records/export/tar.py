"""A record set as one tar file, and back.

The tar is uncompressed (POSIX ustar) and holds the files of the set in the order of their names,
without times or owners: equal sets give equal archives.
"""

import os
import shutil
import tarfile

from records.common import errors
from records.format import manifest as manifest_lib
from records.format import record_set
from records.inspect import verify

_MAX_MANIFEST = 64 << 20  # 64 MiB: it is parsed before anything can be checked against it


class ArchiveError(errors.DatapipeError, ValueError):
    """The archive is not exactly one undamaged record set."""


def write(opened: record_set.RecordSet, path: str) -> None:
    """Writes the set as a new tar file, or raises an ArchiveError if a file has another size."""
    info = opened.manifest
    parts = [shard for split in info.splits.values() for shard in (*split.shards, split.index)]
    sizes = {part.file: part.bytes for part in (info.rejects, *parts)}
    sizes[manifest_lib.FILE_NAME] = len(manifest_lib.to_json(info))
    with tarfile.open(path, "x:", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(sizes):
            with open(os.path.join(opened.folder, name), "rb") as file:
                member = tarfile.TarInfo(name)
                member.size = os.fstat(file.fileno()).st_size
                if member.size != sizes[name]:
                    raise ArchiveError(f"{name} has {member.size} bytes, expected {sizes[name]}")
                tar.addfile(member, file)


def read(path: str, folder: str) -> manifest_lib.Manifest:
    """Unpacks the set in a tar file into a new folder and verifies every byte and record.

    Raises:
        ArchiveError, ManifestError: if the archive is not exactly one complete record set.
    """
    os.mkdir(folder)
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                _unpack(tar, member, path, folder)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{path} is not an uncompressed tar: {error}") from None
    if not os.path.exists(os.path.join(folder, manifest_lib.FILE_NAME)):
        raise ArchiveError(f"{path} is not a record set: it has no {manifest_lib.FILE_NAME}")
    try:
        faults = verify.verify(folder)
    except (manifest_lib.ManifestError, RecursionError) as error:
        raise manifest_lib.ManifestError(f"{path}: {error}") from None
    if faults:
        raise ArchiveError(f"{path}: {faults[0]}")
    return manifest_lib.load(folder)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: str, folder: str) -> None:
    """Copies the bytes of a member that can belong to a record set, and refuses any other.

    Names of a record set have no folder, and members of these types are neither links nor sparse.
    This is stricter than `filter="data"` of `tarfile`, which Python 3.10.11 and 3.11.3 do not have.
    """
    name, where = member.name, f"{archive}: member {member.name!r}"
    is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    source = tar.extractfile(member) if is_plain else None
    if source is None:
        raise ArchiveError(f"{where} is not a regular file")
    if not manifest_lib.is_file_name(name):
        raise ArchiveError(f"{where} is not part of a record set")
    limit = _MAX_MANIFEST if name == manifest_lib.FILE_NAME else os.path.getsize(archive)
    if not 0 <= member.size <= limit:
        raise ArchiveError(f"{where} claims {member.size} bytes, at most {limit} are possible")
    path = os.path.join(folder, name)
    if os.path.lexists(path):
        raise ArchiveError(f"{where} occurs twice")
    with source, open(path, "xb") as file:
        shutil.copyfileobj(source, file)
