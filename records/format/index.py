"""The sidecar of a split: for each row where its record stands, and what it is.

Row numbers are positions in the index, in shard order. The file is a NumPy archive of plain arrays
(`allow_pickle` stays off), so a million rows load in a blink.
"""

import dataclasses
import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

import numpy as np

from records.common import atomic
from records.common.byte_strings import Strings
from records.format import manifest as manifest_lib
from records.format import sharding


@dataclasses.dataclass(frozen=True)
class Index:
    """Columns of equal length, one entry a row.

    Attributes:
        shard: int32, position in the split's shards.
        offset: int64, where the record begins, in bytes.
        length: int64, bytes of the payload.
        checksum: uint32, of the payload as in the record, so that no other record can pass for it.
        label: int32.
        domain: int32, position in the manifest's domains.
        group: int64, equal for images that belong together; only equality means something.
        source_sha256: uint8 [n, 32], digest of the source file.
        keys: bytes.
    """

    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    checksum: np.ndarray
    label: np.ndarray
    domain: np.ndarray
    group: np.ndarray
    source_sha256: np.ndarray
    keys: Strings

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, row: int) -> str:
        """Returns the key of a row as text; bytes that are not UTF-8 become surrogate escapes."""
        return os.fsdecode(self.keys[row])


Columns = Mapping[str, Callable[[], np.ndarray]]


def to_bytes(index: Index) -> bytes:
    """Returns the index as the bytes of its file, the same for equal indexes."""
    out = io.BytesIO()
    _write_columns(out, columns(index))
    return out.getvalue()


def columns(index: Index) -> Columns:
    """Returns what makes each column of the file."""
    names = [field.name for field in dataclasses.fields(Index) if field.name != "keys"]
    return {
        **{name: functools.partial(getattr, index, name) for name in names},
        "key_bytes": lambda: np.frombuffer(index.keys.blob, np.uint8),
        "key_ends": lambda: index.keys.ends.astype(np.int64),
    }


def _write_columns(out: BinaryIO, made: Columns) -> None:
    """Writes a NumPy archive, holding one column at a time."""
    with zipfile.ZipFile(out, "w") as archive:
        for name, make in made.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(make()), allow_pickle=False)


def from_bytes(data: bytes) -> Index:
    """Returns the index that `to_bytes` wrote.

    Raises:
        ManifestError: if the bytes are damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.file_size > len(data) for info in archive.infolist()):
                raise manifest_lib.ManifestError("it would unpack to more than it is")
        with np.load(io.BytesIO(data), allow_pickle=False) as columns:
            fields = {name: columns[name] for name in columns.files}
        keys = Strings(fields.pop("key_bytes").tobytes(), fields.pop("key_ends"))
        return Index(keys=keys, **fields)
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise manifest_lib.ManifestError(f"the index is damaged: {error}") from None


def write(
    folder: str,
    name: str,
    made: Columns,
    shards: Sequence[manifest_lib.Shard],
    num_classes: int,
) -> manifest_lib.Split:
    """Writes the index of a split and returns the split as it stands in the manifest.

    Args:
        folder: of the record set.
        name: of the split.
        made: what makes each column, as from `columns`.
        shards: of the split.
        num_classes: of the record set.
    """
    file = sharding.index_name(name)
    path = os.path.join(folder, file)
    with atomic.whole(path) as out:  # straight to the file: in memory it would be there twice
        _write_columns(out, made)
    size, sha256 = os.path.getsize(path), atomic.sha256_of(path)
    label = made["label"]()
    counts = np.bincount(label, minlength=num_classes)
    return manifest_lib.Split(
        class_counts=tuple(counts.tolist()),
        shards=tuple(shards),
        index=manifest_lib.Shard(file, len(label), size, sha256),
    )


def load(folder: str, split: manifest_lib.Split) -> Index:
    """Returns the index of a split.

    Raises:
        ManifestError: if the file is missing, damaged, or has another number of rows than the
            manifest says.
    """
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
        raise manifest_lib.ManifestError(
            f"{path}: {len(index)} rows, the manifest says {split.count}"
        )
    return index
