"""The index of a split: where the record of each row is, and what it holds.

Row numbers are positions in the index, in shard order. The file is a NumPy archive of plain arrays.
The index holds the checksum of each record, and the manifest that of the index, so a reader notices
a foreign record by the checksum that it verifies anyway.
"""

import dataclasses
import hashlib
import io
import os
import zipfile
from collections.abc import Sequence

import numpy as np

from records.common import atomic, byte_strings
from records.format import manifest as manifest_lib
from records.format import sharding


@dataclasses.dataclass(frozen=True)
class Index:
    """Columns of equal length, one entry a row.

    Attributes:
        shard: int32, position in the split's shards.
        offset: int64, where the record begins, in bytes.
        length: int64, bytes of the payload.
        checksum: uint32, of the payload, as in the record.
        label, domain: int32, positions in the manifest's classes and domains.
        group: int64, equal for images that belong together; the numbers have no other meaning.
        source_sha256: uint8 [n, 32], digest of the source file.
        keys: names of the images.
    """

    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    checksum: np.ndarray
    label: np.ndarray
    domain: np.ndarray
    group: np.ndarray
    source_sha256: np.ndarray
    keys: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, row: int) -> str:
        """Returns the key of a row as text; bytes that are not UTF-8 become surrogate escapes."""
        return os.fsdecode(self.keys[row])


def to_bytes(index: Index) -> bytes:
    """Returns the index as the bytes of its file, the same for equal indexes."""
    names = [field.name for field in dataclasses.fields(Index) if field.name != "keys"]
    columns = {name: getattr(index, name) for name in names}
    block, columns["key_ends"] = byte_strings.pack(index.keys)
    columns["key_bytes"] = np.frombuffer(block, np.uint8)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in (*names, "key_bytes", "key_ends"):
            # Not `np.savez`, which writes the time of day: equal indexes are equal files.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                array = np.ascontiguousarray(columns[name])
                np.lib.format.write_array(file, array, allow_pickle=False)
    return out.getvalue()


def from_bytes(data: bytes) -> Index:
    """Returns the index that `to_bytes` wrote, or raises a ManifestError if it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.file_size > len(data) for info in archive.infolist()):
                raise manifest_lib.ManifestError("it would unpack to more than its own size")
        with np.load(io.BytesIO(data), allow_pickle=False) as columns:
            fields = {name: columns[name] for name in columns.files}
        block = fields.pop("key_bytes").tobytes()
        keys = byte_strings.unpack(block, fields.pop("key_ends"))
        return Index(keys=keys, **fields)
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise manifest_lib.ManifestError(f"the index is damaged: {error}") from None


def write(
    folder: str, split: str, index: Index, shards: Sequence[manifest_lib.Shard], num_classes: int
) -> manifest_lib.Split:
    """Writes the index of a split to its folder; returns the split's entry for the manifest."""
    file, data = sharding.index_name(split), to_bytes(index)
    sha256 = atomic.write_whole(os.path.join(folder, file), data)
    return manifest_lib.Split(
        class_counts=tuple(np.bincount(index.label, minlength=num_classes).tolist()),
        shards=tuple(shards),
        index=manifest_lib.Shard(file, len(index), len(data), sha256),
    )


def load(folder: str, split: manifest_lib.Split) -> Index:
    """Returns the index of a split, or raises a ManifestError if it differs from the manifest."""
    path = os.path.join(folder, split.index.file)
    try:
        with open(path, "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != split.index.sha256:
            raise manifest_lib.ManifestError("its SHA-256 differs from the manifest's")
        index = from_bytes(data)
    except (OSError, manifest_lib.ManifestError) as error:
        raise manifest_lib.ManifestError(f"{path}: {error}") from None
    if len(index) != split.count:
        message = f"{path}: {len(index)} rows, the manifest says {split.count}"
        raise manifest_lib.ManifestError(message)
    return index
