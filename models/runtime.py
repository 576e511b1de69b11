"""What is set once for the whole process: devices, precision, seeds, the distribution strategy."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from records.backend import keras, tf

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("one", "mirrored")


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How this process computes.

    Attributes:
        strategy: the distribution strategy.
        precision: name of the Keras policy; variables, heads and losses are float32 in each.
        description: for the screen and the report.
    """

    strategy: tf.distribute.Strategy
    precision: str
    description: str

    @property
    def num_replicas(self) -> int:
        """Devices that share the global batch."""
        return self.strategy.num_replicas_in_sync


def configure(*, strategy: str, precision: str, seed: int, cpu_devices: int = 1) -> Runtime:
    """Sets up this process; to be called once, before any tensor is made.

    Args:
        strategy: `one` device, or `mirrored` over all GPUs (over the CPU devices without a GPU).
        precision: one of `PRECISIONS`.
        seed: of the initial weights and of dropout.
        cpu_devices: how many logical devices the CPU is divided into, to try `mirrored` on it.

    Raises:
        ValueError: for a name that is not offered or fewer than one CPU device.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {STRATEGIES}, got {strategy!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if cpu_devices < 1:
        raise ValueError(f"cpu_devices must be at least 1, got {cpu_devices}")
    if cpu_devices > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * cpu_devices,
        )
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy(precision)
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if strategy == "one":
        chosen = tf.distribute.get_strategy()
    else:
        chosen = tf.distribute.MirroredStrategy(devices)
    return Runtime(
        chosen,
        precision,
        f"{strategy}, {chosen.num_replicas_in_sync} x {kind}, {precision}",
    )


def distributed(
    strategy: tf.distribute.Strategy, dataset: Callable[[int, int], tf.data.Dataset]
) -> Iterable[Any]:
    """Returns the batches of all replicas, each read from a dataset of its own.

    TensorFlow's default, one dataset whose batches are dealt out to the devices, now and then ends
    the process with a segmentation fault when an iterator goes while it is being filled (2.21).

    Args:
        strategy: of `configure`.
        dataset: makes the batches of replica r of R: a function of (r, R).
    """
    options = tf.distribute.InputOptions(
        experimental_fetch_to_device=False,
        experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
    )
    return strategy.distribute_datasets_from_function(
        lambda context: dataset(context.input_pipeline_id, context.num_input_pipelines), options
    )
