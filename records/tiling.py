"""A larger record set from a smaller one, for measuring: the same records again under new keys."""

import dataclasses
import os

import numpy as np

from records import files, manifest, schema, sharding, tfrecord
from records import index as index_lib
from records.record_set import RecordSet, open_set


def tile(record_set: RecordSet, split: str, num_rows: int, folder: str) -> RecordSet:
    """Writes the first `num_rows` rows of a split, cycling through it as often as needed.

    The new set has that one split. The copy number is added to each key, so keys stay distinct.

    Args:
        record_set: where the records come from.
        split: which of its splits.
        num_rows: rows to write, at least 1.
        folder: where to, an existing empty folder.

    Raises:
        ManifestError: if there is no such split or it has no rows.
    """
    info, index = record_set.manifest, record_set.index(split)
    if not len(index):
        raise manifest.ManifestError(f"split {split!r} of {record_set.folder} has no rows")
    examples = [record_set.example(split, row) for row in range(min(len(index), num_rows))]
    num_shards = sharding.num_shards(num_rows, info.image_bytes)
    shards, columns, start = [], [], 0
    for number, end in enumerate(sharding.boundaries(num_rows, num_shards)):
        records, offset = [], 0
        for row in range(start, end):
            copy, original = divmod(row, len(examples))
            key = examples[original].key + b"#%d" % copy
            payload = schema.encode(dataclasses.replace(examples[original], key=key))
            records.append(tfrecord.frame(payload))
            checksum = tfrecord.checksum(payload)
            columns.append((number, offset, len(payload), checksum, original, key))
            offset += len(records[-1])
        name = sharding.file_name(split, number, num_shards)
        sha256 = files.write_whole(os.path.join(folder, name), b"".join(records))
        shards.append(manifest.Shard(name, end - start, offset, sha256))
        start = end
    origin = np.array([column[4] for column in columns])
    tiled = index_lib.Index(
        shard=np.array([column[0] for column in columns], np.int32),
        offset=np.array([column[1] for column in columns], np.int64),
        length=np.array([column[2] for column in columns], np.int64),
        checksum=np.array([column[3] for column in columns], np.uint32),
        label=index.label[origin],
        domain=index.domain[origin],
        group=index.group[origin],
        source_sha256=index.source_sha256[origin],
        keys=tuple(column[5] for column in columns),
    )
    data = index_lib.to_bytes(tiled)
    name = index_lib.file_name(split)
    sha256 = files.write_whole(os.path.join(folder, name), data)
    counts = np.bincount(tiled.label, minlength=len(info.class_names)).tolist()
    index_entry = manifest.Shard(name, num_rows, len(data), sha256)
    entry = manifest.Split(tuple(counts), tuple(shards), index_entry)
    sha256 = files.write_whole(os.path.join(folder, manifest.REJECTS_NAME), b"")
    result = dataclasses.replace(
        info,
        splits={split: entry},
        accounting={},
        rejects=manifest.Shard(manifest.REJECTS_NAME, 0, 0, sha256),
        reasons={},
    )
    files.write_whole(os.path.join(folder, manifest.FILE_NAME), manifest.to_json(result))
    return open_set(folder)
