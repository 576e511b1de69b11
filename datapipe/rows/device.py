"""The rows of a split in the memory of the accelerators; a batch carries no pixels at all."""

import dataclasses

from datapipe.plan.batch_slice import WHOLE, Slice
from datapipe.plan.sampling import SamplingPlan
from datapipe.rows.host import ResidentRows
from records.common.backend import tf


@dataclasses.dataclass(frozen=True)
class DeviceRows:
    """The pixels of a split on each device, the labels on the host.

    The datasets carry rows and random numbers; `pixels` belongs into the compiled step. It gives
    what `ResidentRows.pixels` gives.

    Attributes:
        table: uint8 [rows, size, size, 3], a variable with a copy on every device.
        host: the rows without their pixels.
    """

    table: tf.Variable
    host: ResidentRows

    def __len__(self) -> int:
        return len(self.host)

    @property
    def labels(self) -> tf.Tensor:
        """int32 [rows], on the host."""
        return self.host.labels

    @property
    def image_size(self) -> int:
        """Height and width, in pixels."""
        return self.table.shape[1]

    def batches(
        self, plan: SamplingPlan, *, start_step: int = 0, part: Slice = WHOLE
    ) -> tf.data.Dataset:
        """Returns the stream of draws, as `ResidentRows.batches`."""
        return self.host.batches(plan, start_step=start_step, part=part)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """Returns every row once, as `ResidentRows.in_order`."""
        return self.host.in_order(batch_size)

    def pixels(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Returns the stored images of a batch, from the copy of the device that computes."""
        return _gathered(self.table.read_value(), batch["row"])


def moved(rows: ResidentRows) -> DeviceRows:
    """Returns the rows with their pixels on the devices of the current strategy.

    Raises:
        tf.errors.ResourceExhaustedError: if the memory of a device does not suffice.
    """
    table = tf.Variable(rows.images, trainable=False, name="rows")
    # One pixel stands in the place of the pictures, so that the host can let go of them.
    return DeviceRows(table, ResidentRows(rows.images[:, :1, :1], rows.labels))


@tf.function(jit_compile=True)
def _gathered(table: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    return tf.gather(table, row)
