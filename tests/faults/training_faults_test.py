"""Trainings that are killed, and resume: real processes, SIGKILL, two workers."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from records.common import atomic
from tests import fakes

pytestmark = pytest.mark.slow

FLAGS = (
    *("--model=lenet", "--augment=photo", "--target=balanced", "--batch_size=12", "--epochs=4"),
    *("--checkpoint_seconds=0", "--steps_per_execution=1"),
)
SECONDS = 240  # no part of these tests takes so long; a hang ends here


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    counts = {"dark": 80, "light": 40}
    return fakes.built(tmp_path_factory.mktemp("set"), counts, size=32).folder


def started(records, run_dir, *more, log=subprocess.PIPE):
    command = [sys.executable, "-m", "models.train_main", *FLAGS, *more]
    command += [f"--records={records}", f"--run_dir={run_dir}"]
    return subprocess.Popen(
        command, cwd=fakes.ROOT, stdout=log, stderr=subprocess.STDOUT, text=True
    )


def finished(process):
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said


def arrays(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, part: found.update({name: part[()]}) if hasattr(part, "shape") else None
        )
    return found


def assert_same(one, other):
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()
    for name in ("best.weights.h5", "last.weights.h5"):
        first, second = arrays(one / name), arrays(other / name)
        assert first.keys() == second.keys() and len(first) > 8
        for key, array in first.items():
            np.testing.assert_array_equal(array, second[key])


def saved(run_dir):
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(run_dir / "checkpoints")
    return []


def wait_for(condition, process):
    end = time.monotonic() + SECONDS
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_training_that_is_killed_ends_as_one_that_is_not(records, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    finished(started(records, calm))
    moments, in_a_save = random.Random(0), 0
    for kill in range(4):
        before = set(saved(killed))
        process = started(records, killed)
        wait_for(lambda before=before: set(saved(killed)) - before, process)
        if kill % 2:  # in the middle of a save
            mark = atomic.TEMPORARY_PREFIX
            wait_for(lambda mark=mark: any(n.startswith(mark) for n in saved(killed)), process)
        else:
            time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        in_a_save += any(name.startswith(atomic.TEMPORARY_PREFIX) for name in saved(killed))
    said = finished(started(records, killed))
    assert "resuming at step" in said or in_a_save
    assert_same(calm, killed)
    assert saved(killed) == []


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def workers(records, run_dir, logs):
    """Returns what starts worker 0 or 1 of two."""
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))

    def start(number):
        with open(logs / f"worker{number}", "a", encoding="utf-8") as log:
            given = (f"--workers={addresses}", f"--worker={number}", "--optimizer=sgd")
            return started(records, run_dir, *given, "--learning_rate=0.01", log=log)

    return start


def ended(processes):
    for process in processes:
        assert process.wait(SECONDS) == 0


def losses(run_dir):
    table = np.genfromtxt(run_dir / "history.csv", delimiter=",", names=True)
    return np.array([table["loss"], table["val_loss"]])


def test_two_workers_are_two_replicas_and_those_that_are_killed_come_back(records, tmp_path):
    calm, killed, mirrored = tmp_path / "calm", tmp_path / "killed", tmp_path / "mirrored"
    start = workers(records, calm, tmp_path)
    ended([start(0), start(1)])
    sgd = ("--optimizer=sgd", "--learning_rate=0.01", "--cpu_devices=2")
    finished(started(records, mirrored, *sgd))
    np.testing.assert_allclose(losses(calm), losses(mirrored), rtol=2e-3)
    start = workers(records, killed, tmp_path)
    processes = [start(0), start(1)]
    for victim in (1, 0):
        before = set(saved(killed))
        wait_for(lambda before=before: len(set(saved(killed)) - before) >= 2, processes[0])
        assert processes[victim].poll() is None
        processes[victim].kill()
        processes[victim].wait()
        processes[victim] = start(victim)
    ended(processes)
    assert_same(calm, killed)
    said = (tmp_path / "worker0").read_text() + (tmp_path / "worker1").read_text()
    assert "lost a worker" in said and "resuming at step" in said
