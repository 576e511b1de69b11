import pytest

from records.format import sharding


@pytest.mark.parametrize(
    ("num_examples", "num_shards", "ends"),
    [
        (1, 1, [1]),
        (7, 3, [2, 4, 7]),
        (8, 4, [2, 4, 6, 8]),
        (10, 10, list(range(1, 11))),
    ],
)
def test_boundaries(num_examples, num_shards, ends):
    assert sharding.boundaries(num_examples, num_shards) == ends


@pytest.mark.parametrize(("num_examples", "num_shards"), [(3, 4), (3, 0), (0, 1)])
def test_empty_shards_are_refused(num_examples, num_shards):
    with pytest.raises(ValueError, match=f"got {num_shards}"):
        sharding.boundaries(num_examples, num_shards)


@pytest.mark.parametrize(
    ("num_examples", "example_bytes", "expected"),
    [
        (1, 12288, 1),
        (255, 12288, 1),
        (704, 12288, 5),
        (2000, 12288, 8),  # small sets are divided so that they can be read in parallel
        (129_600, 12288, 24),  # 1.59 GB in shards of 64 MiB
        (3, 1 << 30, 3),  # never more shards than images
    ],
)
def test_num_shards(num_examples, example_bytes, expected):
    assert sharding.num_shards(num_examples, example_bytes) == expected


def test_order_is_pinned():
    # Another order here moves every row of every set built so far.
    keys = [b"a", b"b", b"c", b"d", b"e", b"f"]
    order = sorted(keys, key=lambda key: sharding.key_hash(key, "order 0"))
    assert b"".join(order) == b"caedbf"
    assert order != sorted(keys, key=lambda key: sharding.key_hash(key, "order 1"))


def test_names():
    name = sharding.file_name("train", 3, 16)
    assert name == "train-00003-of-00016.tfrecord"
    assert sharding.is_file_name(name)
    assert not sharding.is_file_name("train.tfrecord")
