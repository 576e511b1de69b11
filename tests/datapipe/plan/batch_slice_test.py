"""The arithmetic of slices: together they are every position once, in the order of the batch."""

import numpy as np
import pytest

from datapipe.plan.batch_slice import Slice


@pytest.mark.parametrize(
    ("num_shards", "local_replicas"), [(1, 1), (1, 3), (2, 1), (2, 3), (6, 1), (3, 4)]
)
def test_slices_are_a_partition_in_order(num_shards, local_replicas):
    batch_size, start_step = 12, 5
    found = {}
    for replica in range(num_shards):
        part = Slice(replica, num_shards, local_replicas)
        size = part.size(batch_size)
        first = part.first_element(start_step)
        for number in range(first, first + 2 * local_replicas):
            position = int(part.first_position(np.int64(number), batch_size))
            found[position] = list(range(position, position + size))
    positions = [position for start in sorted(found) for position in found[start]]
    assert positions == list(range(60, 84))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Slice(2, 2), r"shard_index must lie in 0\.\.1, got 2"),
        (lambda: Slice(-1, 2), r"shard_index must lie in 0\.\.1, got -1"),
        (lambda: Slice(0, 0), "num_shards must be at least 1, got 0"),
        (lambda: Slice(0, 1, 0), "local_replicas must be at least 1, got 0"),
        (lambda: Slice(0, 2, 4).size(12), "batch_size must divide by 8 replicas, got 12"),
        (lambda: Slice().first_element(-3), r"start_step must lie in 0\.\.2\^40, got -3"),
        (lambda: Slice().first_element(2**40), r"0\.\.2\^40, got 1099511627776"),
    ],
)
def test_wrong_slices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
