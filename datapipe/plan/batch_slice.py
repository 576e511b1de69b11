"""Which part of a global batch a process delivers, and in how many elements."""

import dataclasses

from records.common import checks
from records.common.backend import tf

_LAST_STEP = 1 << 40


@dataclasses.dataclass(frozen=True)
class Slice:
    """A process's part of each step.

    A step's global batch is divided into `num_shards` consecutive slices, of which this process
    delivers one, in `local_replicas` equal elements one after the other.

    Attributes:
        shard_index: which slice, 0 to `num_shards` - 1.
        num_shards: processes that share the global batch.
        local_replicas: devices that the process feeds, with an element a step for each.
    """

    shard_index: int = 0
    num_shards: int = 1
    local_replicas: int = 1

    def __post_init__(self) -> None:
        for name in ("num_shards", "local_replicas"):
            checks.at_least(name, getattr(self, name), 1)
        checks.between("shard_index", self.shard_index, 0, self.num_shards - 1)

    def size(self, batch_size: int) -> int:
        """Returns the rows of an element.

        Raises:
            ValueError: if the global batch does not divide evenly.
        """
        elements = self.num_shards * self.local_replicas
        if batch_size % elements:
            raise ValueError(f"batch_size must divide by {elements} replicas, got {batch_size}")
        return batch_size // elements

    def first_element(self, start_step: int) -> int:
        """Returns the number of the first element of a step.

        Raises:
            ValueError: if the step is negative, or so late that positions leave 64 bits.
        """
        if not 0 <= start_step < _LAST_STEP:
            raise ValueError(f"start_step must lie in 0..2^40, got {start_step}")
        return start_step * self.local_replicas

    def first_position(self, element: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Returns the position in the stream where an element of this process begins; int64."""
        step, replica = element // self.local_replicas, element % self.local_replicas
        size = self.size(batch_size)
        return step * batch_size + (self.shard_index * self.local_replicas + replica) * size

    def has(self, number: tf.Tensor) -> tf.Tensor:
        """Whether an element is of this process, if those of all processes are counted."""
        return (
            number % (self.num_shards * self.local_replicas) // self.local_replicas
            == self.shard_index
        )


WHOLE = Slice()
