"""Process-wide settings: devices, precision, seeds, the distribution strategy."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from datapipe.plan.batch_slice import Slice
from models.training.options import PRECISIONS, STRATEGIES
from records.common import checks, errors
from records.common.backend import keras, tf

_CLUSTER = "TF_CONFIG"  # the variable by which TensorFlow's launchers describe a cluster
_RESTARTS = "DATAPIPE_RESTARTS"
_MAX_RESTARTS = 100


class WorkerLostError(errors.DatapipeError, RuntimeError):
    """Other workers were lost too often."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The devices, workers and precision of this process."""

    strategy: tf.distribute.Strategy
    name: str  # of the strategy, one of `STRATEGIES` except `auto`
    precision: str  # name of the Keras policy; variables, heads and losses are float32 in each
    worker: int  # index of this process among those that train together
    num_workers: int
    description: str  # for the screen and the report

    @property
    def num_replicas(self) -> int:
        """Devices that share the global batch, over all processes."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_replicas(self) -> int:
        """Devices of this process."""
        return self.num_replicas // self.num_workers

    @property
    def batch_slice(self) -> Slice:
        """The slice of the global batch that this process trains on."""
        return Slice(self.worker, self.num_workers, self.local_replicas)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and prints."""
        return self.worker == 0

    def broadcast(self, values: Sequence[float]) -> np.ndarray:
        """Returns the chief's values, float64, on every worker; all must call it."""
        array = np.asarray(values, np.float64)
        if self.num_workers == 1:
            return array

        def chief_only(value: tf.Tensor) -> tf.Tensor:
            # A sum over all replicas, to which only the first contributes: a broadcast.
            mine = tf.identity(value) if replica_number() == 0 else tf.zeros_like(value)
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        run = tf.function(lambda value: self.strategy.run(chief_only, (value,)), autograph=False)
        return self.strategy.experimental_local_results(run(tf.constant(array)))[0].numpy()


def configure(
    *,
    strategy: str,
    precision: str,
    seed: int,
    cpu_devices: int = 1,
    workers: Sequence[str] = (),
    worker: int = 0,
) -> Runtime:
    """Sets up this process; call it once, before any tensor is created.

    Args:
        strategy: `one` device, `mirrored` over all GPUs (over the CPU devices without a GPU), or
            `multiworker` over the devices of several processes; `auto` is `multiworker` if there
            are workers, `mirrored` if there are several GPUs, else `one`.
        precision: one of `PRECISIONS`.
        seed: seeds the initial weights.
        cpu_devices: logical devices that the CPU is divided into, to try `mirrored` on it.
        workers: `host:port` of each process; read from the environment variable TF_CONFIG if empty.
        worker: index of this process in `workers`; ignored with TF_CONFIG.

    Raises:
        ValueError: for an unknown name, fewer than one CPU device, workers that are missing or
            unused, or an unreadable TF_CONFIG.
    """
    checks.one_of("strategy", strategy, STRATEGIES)
    checks.one_of("precision", precision, PRECISIONS)
    checks.at_least("cpu_devices", cpu_devices, 1)
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
    """Returns the index of the replica being traced, among those of all processes."""
    context = tf.distribute.get_replica_context()
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def restart_process() -> NoReturn:
    """Restarts this program, because another worker is gone; the training then resumes.

    TensorFlow cannot recover from a failed collective operation within the process.

    Raises:
        WorkerLostError: after 100 restarts.
    """
    restarts = int(os.environ.get(_RESTARTS, "0")) + 1
    if restarts > _MAX_RESTARTS:
        raise WorkerLostError(f"lost a worker {restarts} times; giving up")
    os.environ[_RESTARTS] = str(restarts)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _cluster(strategy: str, workers: Sequence[str], worker: int) -> tuple[list[str], int]:
    """Returns the workers and the index of this one; also sets TF_CONFIG to them."""
    if not workers and os.environ.get(_CLUSTER) and strategy in ("auto", "multiworker"):
        workers, worker = _from_environment(os.environ[_CLUSTER])
    if not workers:
        if strategy == "multiworker":
            raise ValueError(f"strategy multiworker needs workers: host:port,... or {_CLUSTER}")
        return [], 0
    if strategy not in ("auto", "multiworker"):
        raise ValueError(f"workers only apply to strategy multiworker, got {strategy}")
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
            raise ValueError(f"tasks must be chief or worker, got {sorted(cluster)} and {task}")
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
