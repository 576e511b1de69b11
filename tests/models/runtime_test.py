"""How a process computes, each in a process of its own: devices can be set up but once."""

import subprocess
import sys

import pytest

from tests import fakes

DRAWN = """
import sys
from models import runtime
from records.backend import tf
from tensorflow.python.data.ops import multi_device_iterator_ops
multi_device_iterator_ops.OwnedMultiDeviceIterator = None
strategy, replicas = sys.argv[1], int(sys.argv[2])
how = runtime.configure(strategy=strategy, precision="float32", seed=0, cpu_devices=replicas)

def dataset(replica, num_replicas):
    assert num_replicas == how.num_replicas
    return tf.data.Dataset.range(replica, 100, num_replicas).batch(2)

batches = iter(runtime.distributed(how.strategy, dataset))
run = tf.function(lambda batch: how.strategy.run(tf.identity, args=(batch,)))
parts = how.strategy.experimental_local_results(run(next(batches)))
print(how.description, [part.numpy().tolist() for part in parts])
"""


@pytest.mark.parametrize(
    ("strategy", "replicas", "said"),
    [
        ("one", 1, "one, 1 x CPU, float32 [[0, 1]]"),
        ("mirrored", 2, "mirrored, 2 x CPU, float32 [[0, 2], [1, 3]]"),
    ],
)
def test_replicas_read_datasets_of_their_own(strategy, replicas, said):
    # Without the iterator over many devices, in which TensorFlow now and then crashes.
    done = subprocess.run(
        [sys.executable, "-c", DRAWN, strategy, str(replicas)],
        cwd=fakes.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == said
