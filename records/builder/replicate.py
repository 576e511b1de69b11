"""A larger record set from a smaller one, for benchmarks: the same records under new keys."""

import dataclasses
import itertools
import os
from collections.abc import Sequence

import numpy as np

from records.common import atomic
from records.format import example as schema
from records.format import index as index_lib
from records.format import manifest, sharding, tfrecord
from records.format.record_set import RecordSet, open_set
from records.image import decode


def tile(
    record_set: RecordSet, split: str, num_rows: int, folder: str, *, encoding: str = ""
) -> RecordSet:
    """Writes the first `num_rows` rows of a split, cycling through it as often as needed.

    The new set has only that split. The copy number is added to each key, so keys stay distinct.

    Args:
        num_rows: rows to write, at least 1.
        folder: an existing empty folder to write to.
        encoding: of the images in the new records, one of `decode.ENCODINGS`; empty: as they are.

    Raises:
        ManifestError: if there is no such split or it has no rows.
    """
    info, index = record_set.manifest, record_set.index(split)
    if not len(index):
        raise manifest.ManifestError(f"split {split!r} of {record_set.folder} has no rows")
    encoding = encoding or info.encoding
    originals = range(min(len(index), num_rows))
    examples = [_example(record_set, split, row, encoding) for row in originals]
    num_shards = sharding.num_shards(num_rows, info.image_bytes)
    shards, columns, start = [], [], 0
    for number, end in enumerate(sharding.boundaries(num_rows, num_shards)):
        name = sharding.file_name(split, number, num_shards)
        tiles = [_tile(examples, row) for row in range(start, end)]
        shard, offsets = _write_shard(os.path.join(folder, name), tiles)
        shards.append(shard)
        columns += [(number, at, tile) for at, tile in zip(offsets, tiles, strict=True)]
        start = end
    new_index = _index(index, len(examples), columns)
    entry = index_lib.write(folder, split, new_index, shards, len(info.class_names))
    sha256 = atomic.write_whole(os.path.join(folder, manifest.REJECTS_NAME), b"")
    result = dataclasses.replace(
        info,
        encoding=encoding,
        splits={split: entry},
        accounting={},
        rejects=manifest.Shard(manifest.REJECTS_NAME, 0, 0, sha256),
        reasons={},
    )
    atomic.write_whole(os.path.join(folder, manifest.FILE_NAME), manifest.to_json(result))
    return open_set(folder)


def _example(record_set: RecordSet, split: str, row: int, encoding: str) -> schema.Example:
    example = record_set.example(split, row)
    if encoding == record_set.manifest.encoding:
        return example
    pixels = record_set.pixels(split, row)
    return dataclasses.replace(example, image=decode.encode(pixels, encoding))


def _tile(examples: Sequence[schema.Example], row: int) -> tuple[bytes, bytes]:
    copy, original = divmod(row, len(examples))
    key = examples[original].key + b"#%d" % copy
    return key, schema.encode(dataclasses.replace(examples[original], key=key))


def _write_shard(
    path: str, tiles: Sequence[tuple[bytes, bytes]]
) -> tuple[manifest.Shard, list[int]]:
    """Writes a shard; returns its manifest entry and the offsets of its records."""
    records = [tfrecord.frame(payload) for _, payload in tiles]
    ends = list(itertools.accumulate(map(len, records)))
    sha256 = atomic.write_whole(path, b"".join(records))
    shard = manifest.Shard(os.path.basename(path), len(records), ends[-1], sha256)
    return shard, [0, *ends[:-1]]


def _index(
    index: index_lib.Index, num_originals: int, columns: Sequence[tuple[int, int, tuple]]
) -> index_lib.Index:
    origin = np.arange(len(columns)) % num_originals
    payloads = [payload for _, _, (_, payload) in columns]
    return index_lib.Index(
        shard=np.array([number for number, _, _ in columns], np.int32),
        offset=np.array([offset for _, offset, _ in columns], np.int64),
        length=np.array([len(payload) for payload in payloads], np.int64),
        checksum=np.array([tfrecord.checksum(payload) for payload in payloads], np.uint32),
        label=index.label[origin],
        domain=index.domain[origin],
        group=index.group[origin],
        source_sha256=index.source_sha256[origin],
        keys=[key for _, _, (key, _) in columns],
    )
