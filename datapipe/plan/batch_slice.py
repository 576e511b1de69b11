"""Which part of a global batch a process delivers, and in how many pieces."""

import dataclasses

from records.common.backend import tf

_LAST_STEP = 1 << 40


@dataclasses.dataclass(frozen=True)
class Slice:
    """A process's part of each step.

    A step's global batch is divided into `num_replicas` consecutive slices, of which this process
    delivers one, in `pieces` equal elements one after the other.

    Attributes:
        replica: which slice, 0 to `num_replicas` - 1.
        num_replicas: processes that share the global batch.
        pieces: elements a step, one for each device that the process feeds.
    """

    replica: int = 0
    num_replicas: int = 1
    pieces: int = 1

    def __post_init__(self) -> None:
        if self.num_replicas < 1 or self.pieces < 1:
            raise ValueError(
                f"num_replicas and pieces must be at least 1, got {self.num_replicas} and"
                f" {self.pieces}"
            )
        if not 0 <= self.replica < self.num_replicas:
            raise ValueError(f"replica must lie in 0..{self.num_replicas - 1}, got {self.replica}")

    def size(self, batch_size: int) -> int:
        """Returns the rows of an element.

        Raises:
            ValueError: if the global batch does not divide evenly.
        """
        elements = self.num_replicas * self.pieces
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
        return start_step * self.pieces

    def first_position(self, element: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Returns the position in the stream where an element of this process begins; int64."""
        step, piece = element // self.pieces, element % self.pieces
        size = self.size(batch_size)
        return step * batch_size + (self.replica * self.pieces + piece) * size

    def has(self, number: tf.Tensor) -> tf.Tensor:
        """Whether an element is of this process, if those of all processes are counted."""
        return number % (self.num_replicas * self.pieces) // self.pieces == self.replica


WHOLE = Slice()
