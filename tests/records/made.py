"""Record sets written by hand, right or wrong in any way, with digests that agree with it."""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from records import columns, files, images, index, manifest, record_set, schema, sharding, tfrecord
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
    labels = [row.label for row in every] if labels is None else labels
    groups = {row.key: number for number, row in enumerate(every)}
    entries = {}
    for split in dict.fromkeys(row.split for row in every):
        chosen = [number for number, row in enumerate(every) if row.split == split]
        of_split = [every[number] for number in chosen]
        payloads = [_payload(row, groups[row.key], encoding) for row in of_split]
        data = (shards or {}).get(split, b"".join(map(tfrecord.frame, payloads)))
        lengths = np.array([len(payload) for payload in payloads], np.int64)
        name = sharding.file_name(split, 0, 1)
        shard = manifest.Shard(
            name, len(payloads), len(data), files.write_whole(str(folder / name), data)
        )
        sources = [
            hashlib.sha256(row.key if row.source is None else row.source) for row in of_split
        ]
        found = index.Index(
            shard=np.zeros(len(payloads), np.int32),
            offset=np.cumsum([0, *(lengths[:-1] + tfrecord.FRAME_BYTES)]).astype(np.int64),
            length=lengths,
            checksum=np.array([tfrecord.checksum(p) for p in payloads], np.uint32),
            label=np.array([labels[number] for number in chosen], np.int32),
            domain=np.array([row.domain for row in of_split], np.int32),
            group=np.array(
                [groups[row.key] if row.group is None else row.group for row in of_split], np.int64
            ),
            source_sha256=np.frombuffer(b"".join(s.digest() for s in sources), np.uint8).reshape(
                -1, 32
            ),
            keys=columns.Strings.of(row.key for row in of_split),
        )
        data = index.to_bytes(found)
        counts = np.bincount(np.clip(found.label, 0, 99), minlength=len(class_names))
        entries[split] = manifest.Split(
            class_counts=tuple(counts.tolist()),
            shards=(shard,),
            index=manifest.Shard(
                index.file_name(split),
                len(found),
                len(data),
                files.write_whole(str(folder / index.file_name(split)), data),
            ),
        )
    rejects = files.write_whole(str(folder / manifest.REJECTS_NAME), b"")
    values = {
        "class_names": class_names,
        "domains": ("studio", "길"),
        "image_size": SIZE,
        "encoding": encoding,
        "splits": entries,
        "accounting": {},
        "rejects": manifest.Shard(manifest.REJECTS_NAME, 0, 0, rejects),
        "reasons": {},
        "settings": {"image_size": SIZE, "encoding": encoding},
        "sources_sha256": "",
        **fields,
    }
    info = manifest.Manifest(**values)
    files.write_whole(str(folder / manifest.FILE_NAME), manifest.to_json(info))
    return record_set.RecordSet(str(folder), info)


def image_of(row: Row) -> np.ndarray:
    """Returns the pixels of a row."""
    if row.image is not None:
        return row.image
    return fakes.pixels(int.from_bytes(hashlib.sha256(row.key).digest()[:4], "big"), SIZE)


def _payload(row: Row, group: int, encoding: str) -> bytes:
    if row.payload is not None:
        return row.payload
    return schema.encode(
        schema.Example(
            key=row.key,
            label=row.label,
            image=images.encode(image_of(row), encoding),
            group=b"group %d" % group,
            domain=("studio", "길")[row.domain].encode(),
        )
    )
