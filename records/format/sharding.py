"""Pure arithmetic of shards: the order of keys, how many, where they end, how they are named."""

import hashlib
import re

TARGET_SHARD_BYTES = 64 << 20  # 64 MiB
# Small sets still get a few shards, so that building and loading them can run in parallel. The
# number never depends on the machine: the same input gives the same files everywhere.
_MIN_ROWS_OF_A_SHARD = 128
_MIN_SHARDS = 8

_INDEX_NAME = re.compile(r"[A-Za-z0-9_]+\.index\.npz")
_NAME = re.compile(r"[A-Za-z0-9_]+-\d{5}-of-\d{5}\.tfrecord")


def key_hash(key: bytes, salt: str) -> bytes:
    """Returns the 16 bytes by which rows are ordered.

    They come from the SHA-256 of salt and key, so listing order, locale and clock play no part, and
    another salt gives an unrelated order.
    """
    return hashlib.sha256(salt.encode() + b"\0" + key).digest()[:16]


def num_shards(num_examples: int, example_bytes: int) -> int:
    """Returns how many shards to write for `num_examples` of about `example_bytes` each.

    At least 1, never more than there are examples.
    """
    by_size = -(-num_examples * example_bytes // TARGET_SHARD_BYTES)
    by_rows = min(_MIN_SHARDS, num_examples // _MIN_ROWS_OF_A_SHARD)
    return max(1, min(max(by_size, by_rows), num_examples))


def boundaries(num_examples: int, num_shards: int) -> list[int]:
    """Returns where each shard ends, shards being as even as possible.

    Args:
        num_examples: examples in the split, at least `num_shards`.
        num_shards: shards to write, at least 1.

    Returns:
        `num_shards` end offsets, rising, the last equal to `num_examples`.

    Raises:
        ValueError: if a shard would be empty.
    """
    if not 1 <= num_shards <= num_examples:
        raise ValueError(f"num_shards must lie in 1..{num_examples} examples, got {num_shards}")
    return [num_examples * (index + 1) // num_shards for index in range(num_shards)]


def file_name(split: str, shard_index: int, num_shards: int) -> str:
    """Returns the name of a shard, such as `train-00003-of-00016.tfrecord`."""
    return f"{split}-{shard_index:05d}-of-{num_shards:05d}.tfrecord"


def is_shard_name(name: str) -> bool:
    """Whether `name` is one that `file_name` gives."""
    return _NAME.fullmatch(name) is not None


def index_name(split: str) -> str:
    """Returns the name of a split's index file."""
    return f"{split}.index.npz"


def is_file_name(name: str) -> bool:
    """Whether `name` is one that `file_name` or `index_name` gives."""
    return is_shard_name(name) or _INDEX_NAME.fullmatch(name) is not None
