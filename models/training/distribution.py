"""What is set once for the whole process: devices, precision, seeds, the distribution strategy."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from records.common.backend import keras, tf

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("auto", "one", "mirrored", "multiworker")
_CLUSTER = "TF_CONFIG"  # the variable by which TensorFlow's launchers describe a cluster
_RESTARTS = "DATAPIPE_RESTARTS"
_MAX_RESTARTS = 100


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How this process computes.

    Attributes:
        strategy: the distribution strategy.
        name: of the strategy, one of `STRATEGIES` but `auto`.
        precision: name of the Keras policy; variables, heads and losses are float32 in each.
        worker: number of this process among those that train together.
        num_workers: how many there are.
        description: for the screen and the report.
    """

    strategy: tf.distribute.Strategy
    name: str
    precision: str
    worker: int
    num_workers: int
    description: str

    @property
    def num_replicas(self) -> int:
        """Devices that share the global batch, over all processes."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_replicas(self) -> int:
        """Devices of this process."""
        return self.num_replicas // self.num_workers

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and speaks to the screen."""
        return self.worker == 0

    def agreed(self, values: Sequence[float]) -> np.ndarray:
        """Returns the chief's values, float64; every worker must ask."""
        given = np.asarray(values, np.float64)
        if self.num_workers == 1:
            return given

        def part(value: tf.Tensor) -> tf.Tensor:
            # Every replica of the chief says the same, so the first alone is counted.
            mine = tf.identity(value) if replica_number() == 0 else tf.zeros_like(value)
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        run = tf.function(lambda value: self.strategy.run(part, (value,)), autograph=False)
        return self.strategy.experimental_local_results(run(tf.constant(given)))[0].numpy()


def configure(
    *,
    strategy: str,
    precision: str,
    seed: int,
    cpu_devices: int = 1,
    workers: Sequence[str] = (),
    worker: int = 0,
) -> Runtime:
    """Sets up this process; to be called once, before any tensor is made.

    Args:
        strategy: `one` device, `mirrored` over all GPUs (over the CPU devices without a GPU), or
            `multiworker` over the devices of several processes; `auto` takes `multiworker` where
            workers are given, `mirrored` where there are several GPUs, else `one`.
        precision: one of `PRECISIONS`.
        seed: of the initial weights.
        cpu_devices: how many logical devices the CPU is divided into, to try `mirrored` on it.
        workers: `host:port` of each process; by default those that the environment variable
            TF_CONFIG names.
        worker: which of them this one is; with TF_CONFIG, what that says.

    Raises:
        ValueError: for a name that is not offered, fewer than one CPU device, workers that are
            missing or of no use, or a TF_CONFIG that cannot be read.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {STRATEGIES}, got {strategy!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if cpu_devices < 1:
        raise ValueError(f"cpu_devices must be at least 1, got {cpu_devices}")
    workers, worker = _cluster(strategy, workers, worker)
    if cpu_devices > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * cpu_devices,
        )
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    name = strategy
    if strategy == "auto":
        several = len(gpus) > 1 or cpu_devices > 1
        name = "multiworker" if workers else "mirrored" if several else "one"
    chosen = _strategy(name, "GPU" if gpus else "CPU")
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy(precision)
    replicas, count = chosen.num_replicas_in_sync, max(len(workers), 1)
    shared = f", worker {worker} of {count}" if count > 1 else ""
    description = f"{name}, {replicas} x {'GPU' if gpus else 'CPU'}{shared}, {precision}"
    return Runtime(chosen, name, precision, worker, count, description)


def replica_number() -> int:
    """Returns the number of the replica that is being traced, among those of all processes."""
    context = tf.distribute.get_replica_context()
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def again() -> NoReturn:
    """Begins this program anew in this process, because another worker is gone.

    Collective operations cannot go on after that, but a training can: from its last checkpoint.

    Raises:
        RuntimeError: if that has been done too often.
    """
    restarts = int(os.environ.get(_RESTARTS, "0")) + 1
    if restarts > _MAX_RESTARTS:
        raise RuntimeError(f"another worker was lost {restarts} times")
    os.environ[_RESTARTS] = str(restarts)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _cluster(strategy: str, workers: Sequence[str], worker: int) -> tuple[list[str], int]:
    """Returns the workers and the number of this one; also sets TF_CONFIG to that."""
    if not workers and os.environ.get(_CLUSTER) and strategy in ("auto", "multiworker"):
        workers, worker = _from_environment(os.environ[_CLUSTER])
    if not workers:
        if strategy == "multiworker":
            raise ValueError(f"multiworker needs workers, as host:port,... or by {_CLUSTER}")
        return [], 0
    if strategy not in ("auto", "multiworker"):
        raise ValueError(f"workers belong to strategy multiworker, not to {strategy}")
    if len(set(workers)) < len(workers) or not all(":" in address for address in workers):
        raise ValueError(f"workers must be distinct host:port, got {','.join(workers)!r}")
    if not 0 <= worker < len(workers):
        raise ValueError(f"worker must lie in 0..{len(workers) - 1}, got {worker}")
    task = {"type": "worker", "index": worker}
    os.environ[_CLUSTER] = json.dumps({"cluster": {"worker": list(workers)}, "task": task})
    return list(workers), worker


def _from_environment(text: str) -> tuple[list[str], int]:
    try:
        config: Mapping[str, Any] = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        if not cluster:
            return [], 0
        names = set(cluster) - {"chief", "worker"}
        if names or task.get("type") not in cluster:
            raise ValueError(f"only chief and worker are known, got {sorted(cluster)} and {task}")
        first = list(cluster.get("chief", []))
        offset = len(first) if task["type"] == "worker" else 0
        return [*first, *cluster.get("worker", [])], offset + int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{_CLUSTER} cannot be used ({error}): {text!r}") from None


def _strategy(name: str, kind: str) -> tf.distribute.Strategy:
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.MultiWorkerMirroredStrategy()
