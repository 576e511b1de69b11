"""A record set as NVIDIA DALI reads it: each shard beside an index file.

An index file has a line `offset size` for each record, as `tfrecord2idx` writes them: where its
frame begins and how many bytes the whole frame has.
"""

import os

import numpy as np

from records.common import outputs
from records.format import record_set, tfrecord


def write(opened: record_set.RecordSet, folder: str) -> None:
    """Writes links to (or copies of) all shards into a new folder, and `<shard>.idx` beside each.

    Raises:
        ManifestError: if an index of the set cannot be read.
    """
    os.mkdir(folder)
    for name, split in opened.manifest.splits.items():
        index = opened.index(name)
        for number, shard in enumerate(split.shards):
            outputs.link_or_copy(opened.path(shard), os.path.join(folder, shard.file))
            rows = np.flatnonzero(index.shard == number)
            frames = index.length[rows] + tfrecord.FRAME_BYTES
            lines = zip(index.offset[rows].tolist(), frames.tolist(), strict=True)
            path = os.path.join(folder, index_name(shard.file))
            with open(path, "w", encoding="ascii") as file:
                file.writelines(f"{offset} {size}\n" for offset, size in lines)


def index_name(shard_file: str) -> str:
    """Returns the name of a shard's index file."""
    return shard_file.removesuffix(".tfrecord") + ".idx"
