"""Sharding arithmetic: the order of keys, the number of shards, their boundaries and names."""

import hashlib
import re

TARGET_SHARD_BYTES = 64 << 20  # 64 MiB
# Small sets get a few shards too, so that building and loading run in parallel. The number never
# depends on the machine: the same input gives the same files everywhere.
_MIN_ROWS_OF_A_SHARD = 128
_MIN_SHARDS = 8

_FILE_NAME = re.compile(r"[A-Za-z0-9_]+(-\d{5}-of-\d{5}\.tfrecord|\.index\.npz)")


def key_hash(key: bytes, salt: str) -> bytes:
    """Returns the 16 bytes by which rows are ordered, from the SHA-256 of salt and key.

    So listing order, locale and clock play no part, and another salt gives an unrelated order.
    """
    return hashlib.sha256(salt.encode() + b"\0" + key).digest()[:16]


def num_shards(num_examples: int, example_bytes: int) -> int:
    """Returns how many shards to write for examples of about `example_bytes` each: at least 1."""
    by_size = -(-num_examples * example_bytes // TARGET_SHARD_BYTES)
    by_rows = min(_MIN_SHARDS, num_examples // _MIN_ROWS_OF_A_SHARD)
    return max(1, min(max(by_size, by_rows), num_examples))


def boundaries(num_examples: int, num_shards: int) -> list[int]:
    """Returns the end offset of each shard, in examples; shards are as even as possible."""
    if not 1 <= num_shards <= num_examples:
        raise ValueError(f"num_shards must lie in 1..{num_examples} examples, got {num_shards}")
    return [num_examples * (index + 1) // num_shards for index in range(num_shards)]


def file_name(split: str, shard_index: int, num_shards: int) -> str:
    """Returns the name of a shard, such as `train-00003-of-00016.tfrecord`."""
    return f"{split}-{shard_index:05d}-of-{num_shards:05d}.tfrecord"


def index_name(split: str) -> str:
    """Returns the name of a split's index file."""
    return f"{split}.index.npz"


def is_file_name(name: str) -> bool:
    """Whether `name` can be a result of `file_name` or `index_name`."""
    return _FILE_NAME.fullmatch(name) is not None
