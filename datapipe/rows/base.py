"""What the stream asks of rows, wherever they are kept."""

from typing import Any, Protocol

from datapipe.plan.batch_slice import WHOLE, Slice
from datapipe.plan.sampling import SamplingPlan
from records.common.backend import tf


class Rows(Protocol):
    """The rows of a split, wherever they are: on the host, on devices, or on disk."""

    def __len__(self) -> int: ...

    @property
    def image_size(self) -> int:
        """Height and width, in pixels."""

    def batches(
        self, plan: SamplingPlan, *, start_step: int = 0, part: Slice = WHOLE
    ) -> tf.data.Dataset:
        """Returns the endless stream of draws: `label`, `row`, `position`, perhaps `image`."""

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """Returns every row once: `label`, `row`, perhaps `image`; the last batch may be short."""

    def pixels(self, batch: Any) -> tf.Tensor:
        """Returns the stored images of a batch of either, uint8."""
