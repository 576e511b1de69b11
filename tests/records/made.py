"""Record sets written by hand, right or wrong in any way, with digests that agree with it."""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from records.common import atomic
from records.format import example, index, manifest, record_set, sharding, tfrecord
from records.image import decode
from tests import fakes

SIZE = 8
ODD_KEYS = (  # file names that are hard on whoever writes them elsewhere
    unicodedata.normalize("NFC", "한글/사진.png").encode(),
    unicodedata.normalize("NFD", "한글/사진.png").encode(),  # the same to the eye
    b'a\nb/c\rd,"e".png',
    b"\xff\xfe/\x80.jpg",
    b"a/b",
    b"a%2Fb",
    b"../../etc/passwd",
    b".hidden",
    b"a/" + b"n" * 255,
    b"a/" + b"n" * 254 + b"m",
    b"a/" + "긴".encode() * 85,
    b"a/b.png",
    b"a\\b.png",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row; what is not given follows from its key."""

    key: bytes
    label: int = 0
    split: str = "train"
    image: np.ndarray | None = None  # uint8 [SIZE, SIZE, 3]
    group: int | None = None
    domain: int = 0
    source: bytes | None = None  # the bytes of the source file
    payload: bytes | None = None  # of the record, instead of the right one


def rows(keys: Sequence[bytes]) -> list[Row]:
    """Returns different rows of two classes and two splits, domains and groups."""
    return [
        Row(key, label=number % 2, split=("train", "test")[number % 3 == 2], domain=number % 2)
        for number, key in enumerate(keys)
    ]


def record_set_of(
    folder: Path,
    every: Sequence[Row],
    *,
    encoding: str = "raw",
    class_names: tuple[str, ...] = ("a", "쓴 b"),
    shards: Mapping[str, bytes] | None = None,
    labels: Sequence[int] | None = None,
    **fields: Any,
) -> record_set.RecordSet:
    """Writes a set with one shard for each split; digests and checksums agree with what it holds.

    Args:
        folder: a new folder.
        every: the rows.
        encoding: of the images.
        class_names: of the manifest.
        shards: bytes of the shards of some splits, instead of the right ones.
        labels: of the index, instead of those of the rows.
        **fields: of the manifest, instead of the right ones.
    """
    folder.mkdir(parents=True)
    groups = {row.key: number for number, row in enumerate(every)}
    numbered = list(zip(every, labels or [row.label for row in every], strict=True))
    entries = {}
    for split in dict.fromkeys(row.split for row in every):
        of_split = [(row, label) for row, label in numbered if row.split == split]
        payloads = [_payload(row, groups[row.key], encoding) for row, _ in of_split]
        data = (shards or {}).get(split, b"".join(map(tfrecord.frame, payloads)))
        shard = _written(folder, sharding.file_name(split, 0, 1), data, len(payloads))
        found = _index(of_split, payloads, groups)
        counts = np.bincount(np.clip(found.label, 0, 99), minlength=len(class_names))
        file = _written(folder, sharding.index_name(split), index.to_bytes(found), len(found))
        entries[split] = manifest.Split(tuple(counts.tolist()), (shard,), file)
    values = {
        "class_names": class_names,
        "domains": ("studio", "길"),
        "image_size": SIZE,
        "encoding": encoding,
        "splits": entries,
        "accounting": {},
        "rejects": _written(folder, manifest.REJECTS_NAME, b"", 0),
        "reasons": {},
        "settings": {"image_size": SIZE, "encoding": encoding},
        "sources_sha256": "",
        **fields,
    }
    info = manifest.Manifest(**values)
    atomic.write_whole(str(folder / manifest.FILE_NAME), manifest.to_json(info))
    return record_set.RecordSet(str(folder), info)


def _written(folder: Path, name: str, data: bytes, count: int) -> manifest.Shard:
    return manifest.Shard(name, count, len(data), atomic.write_whole(str(folder / name), data))


def _index(
    of_split: Sequence[tuple[Row, int]], payloads: Sequence[bytes], groups: Mapping[bytes, int]
) -> index.Index:
    rows = [row for row, _ in of_split]
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    sources = [hashlib.sha256(row.key if row.source is None else row.source) for row in rows]
    digests = b"".join(source.digest() for source in sources)
    numbers = [groups[row.key] if row.group is None else row.group for row in rows]
    return index.Index(
        shard=np.zeros(len(rows), np.int32),
        offset=np.cumsum([0, *(lengths[:-1] + tfrecord.FRAME_BYTES)]).astype(np.int64),
        length=lengths,
        checksum=np.array([tfrecord.checksum(payload) for payload in payloads], np.uint32),
        label=np.array([label for _, label in of_split], np.int32),
        domain=np.array([row.domain for row in rows], np.int32),
        group=np.array(numbers, np.int64),
        source_sha256=np.frombuffer(digests, np.uint8).reshape(-1, 32),
        keys=[row.key for row in rows],
    )


def image_of(row: Row) -> np.ndarray:
    """Returns the pixels of a row."""
    if row.image is not None:
        return row.image
    return fakes.pixels(int.from_bytes(hashlib.sha256(row.key).digest()[:4], "big"), SIZE)


def _payload(row: Row, group: int, encoding: str) -> bytes:
    if row.payload is not None:
        return row.payload
    return example.encode(
        example.Example(
            key=row.key,
            label=row.label,
            image=decode.encode(image_of(row), encoding),
            group=b"group %d" % group,
            domain=("studio", "길")[row.domain].encode(),
        )
    )
