"""Memory stays where it is, epoch after epoch, wherever the rows are."""

import subprocess
import sys

import pytest

from tests import fakes

pytestmark = pytest.mark.slow

EPOCHS = """
import sys
from datapipe.augment import presets
from datapipe import pipeline
from datapipe.rows import residency
from datapipe.plan import sampling
from records.format import record_set
from records.common import targets
records = record_set.open_set(sys.argv[1])
rows = residency.open_rows(
    records, "train", residency=sys.argv[2], window_bytes=1, show_progress=False
).rows
plan = sampling.plan(records.index("train").label, records.manifest.class_names,
                     targets.Target("balanced"), seed=0, batch_size=64)
dataset = pipeline.training_dataset(rows, plan, presets.PRESETS["photo"])

def resident_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

for epoch in range(25):  # an iterator for each, as a loop over epochs makes them
    for _ in zip(range(150), dataset):
        pass
    print(resident_kib())
"""


@pytest.mark.parametrize("residency", ["host", "stream"])
def test_memory_is_flat(tmp_path, residency):
    records = fakes.built(tmp_path, {"a": 200, "b": 100}, size=32, ratios={"train": 1.0})
    done = subprocess.run(
        [sys.executable, "-c", EPOCHS, records.folder, residency],
        cwd=fakes.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    mebibytes = [int(line) / 1024 for line in done.stdout.split()]
    # A batch of these is 0.8 MB: one kept in each of the later epochs would be 12 MB. The first ten
    # fill the buffers of as many threads as happen to be free.
    assert mebibytes[-1] - mebibytes[9] < 9, mebibytes


ITERATORS = """
import numpy as np
from datapipe.augment import presets
from datapipe import pipeline
from datapipe.rows import host
from datapipe.plan import sampling
from records.common import targets
from records.common.backend import tf
labels = np.zeros(1 << 14, np.int32)
rows = host.ResidentRows(tf.ones([1 << 14, 64, 64, 3], tf.uint8), tf.constant(labels))
plan = sampling.plan(labels, ["a"], targets.Target(), seed=0, batch_size=8)

def peak_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

for dataset in (
    pipeline.training_dataset(rows, plan, presets.PRESETS["none"]),
    pipeline.evaluation_dataset(rows, batch_size=8),
):
    before = peak_kib()
    next(iter(dataset))
    print(peak_kib() - before)
"""


def test_an_iterator_does_not_copy_the_rows():
    done = subprocess.run(
        [sys.executable, "-c", ITERATORS], cwd=fakes.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    mebibytes = [int(line) / 1024 for line in done.stdout.split()]
    assert max(mebibytes) < 140, mebibytes  # the rows are 192
