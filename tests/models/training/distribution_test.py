"""How a process computes, each in a process of its own: devices can be set up but once."""

import json
import subprocess
import sys

import pytest

from models.training import distribution
from tests import fakes

SET_UP = """
import sys
from tensorflow.python.data.ops import multi_device_iterator_ops
from models.training import distribution
from records.common.backend import tf
# The iterator over many devices, in which TensorFlow now and then crashes, is not for us.
multi_device_iterator_ops.OwnedMultiDeviceIterator = None
how = distribution.configure(strategy=sys.argv[1], precision="float32", seed=0,
                        cpu_devices=int(sys.argv[2]))
numbers = how.strategy.run(lambda: tf.constant(distribution.replica_number()))
print(how.description, how.num_replicas, how.local_replicas, how.is_chief,
      [int(part) for part in how.strategy.experimental_local_results(numbers)],
      how.broadcast([1.5, float("inf")]).tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "devices", "said"),
    [
        ("auto", 1, "one, 1 x CPU, float32 1 1 True [0] [1.5, inf]"),
        ("one", 2, "one, 2 x CPU, float32 1 1 True [0] [1.5, inf]"),
        ("auto", 2, "mirrored, 2 x CPU, float32 2 2 True [0, 1] [1.5, inf]"),
        ("mirrored", 2, "mirrored, 2 x CPU, float32 2 2 True [0, 1] [1.5, inf]"),
    ],
)
def test_strategies_by_flag_and_by_what_is_there(strategy, devices, said):
    command = [sys.executable, "-c", SET_UP, strategy, str(devices)]
    done = subprocess.run(command, cwd=fakes.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == said.replace("one, 2 x CPU", "one, 1 x CPU")


TWO = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
    ("given", "config", "found"),
    [
        ({}, None, ([], 0)),
        ({"workers": ["a:1", "b:2"], "worker": 1}, None, (["a:1", "b:2"], 1)),
        ({}, {"cluster": TWO, "task": {"type": "worker", "index": 1}}, (["a:1", "b:2"], 1)),
        (
            {},
            {"cluster": {"chief": ["c:0"], **TWO}, "task": {"type": "worker", "index": 0}},
            (["c:0", "a:1", "b:2"], 1),
        ),
        ({"strategy": "one"}, {"cluster": TWO, "task": {"type": "worker", "index": 1}}, ([], 0)),
    ],
)
def test_workers_by_flag_and_by_environment(monkeypatch, given, config, found):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config) if config else "")
    assert (
        distribution._cluster(**{"strategy": "auto", "workers": [], "worker": 0, **given}) == found
    )


@pytest.mark.parametrize(
    ("given", "config", "said"),
    [
        ({"strategy": "two"}, "", "strategy must be one of"),
        ({"precision": "float16"}, "", "precision must be one of"),
        ({"cpu_devices": 0}, "", "cpu_devices must be at least 1, got 0"),
        ({"strategy": "multiworker"}, "", "multiworker needs workers: host:port"),
        (
            {"strategy": "one", "workers": ["a:1"]},
            "",
            "workers only apply to strategy multiworker, got one",
        ),
        ({"workers": ["a:1", "a:1"]}, "", "workers must be distinct host:port, got 'a:1,a:1'"),
        ({"workers": ["a"]}, "", "workers must be distinct host:port, got 'a'"),
        ({"workers": ["a:1"], "worker": 1}, "", r"worker must lie in 0\.\.0, got 1"),
        ({}, "{", "TF_CONFIG cannot be used"),
        (
            {},
            '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps"}}',
            "tasks must be chief or worker",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_set_up(monkeypatch, given, config, said):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=said):
        distribution.configure(**{"strategy": "auto", "precision": "float32", "seed": 0, **given})


def test_a_process_is_not_restarted_for_ever(monkeypatch):
    monkeypatch.setenv("DATAPIPE_RESTARTS", "100")
    with pytest.raises(distribution.WorkerLostError, match="lost a worker 101 times"):
        distribution.restart_process()
