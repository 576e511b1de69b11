"""A record set as NVIDIA DALI reads it: each shard with an index file.

An index file has a line `offset size` for each record, the start and bytes of its frame, as those
of `tfrecord2idx`.
"""

import os

import numpy as np

from records.common import atomic
from records.format import record_set, tfrecord


def write(opened: record_set.RecordSet, folder: str) -> None:
    """Writes hard links to (or copies of) all shards, each with its index, into a new folder."""
    os.mkdir(folder)
    for name, split in opened.manifest.splits.items():
        index = opened.index(name)
        for number, shard in enumerate(split.shards):
            atomic.link_or_copy(opened.path(shard), os.path.join(folder, shard.file))
            rows = index.shard == number
            lines = np.stack([index.offset, index.length + tfrecord.FRAME_BYTES], axis=1)[rows]
            np.savetxt(os.path.join(folder, index_name(shard.file)), lines, "%d")


def index_name(shard_file: str) -> str:
    """Returns the name of a shard's index file."""
    return shard_file.removesuffix(".tfrecord") + ".idx"
