"""The batch contract, and that a batch follows from (seed, step) alone."""

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from datapipe import pipeline, resident, sampling
from datapipe.options import PRESETS, Target
from records.backend import tf
from tests import fakes

BATCH = 12


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 50, "b": 20})


@pytest.fixture(scope="module")
def rows(records):
    return resident.load(records, "train", show_progress=False)


def plan(records, seed=5, target="balanced"):
    labels, names = records.index("train").label, records.manifest.class_names
    return sampling.plan(labels, names, Target(target), seed=seed, batch_size=BATCH)


def batches(dataset, count):
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_both_recipes_keep_the_contract(records, rows):
    spec = pipeline.element_spec(BATCH, 16)
    training = pipeline.training_dataset(rows, plan(records), PRESETS["photo"])
    assert training.element_spec == spec
    assert pipeline.evaluation_dataset(rows, batch_size=BATCH).element_spec == spec


def test_an_epoch_of_balanced_has_equal_counts(records, rows):
    wanted = plan(records)
    dataset = pipeline.training_dataset(rows, wanted, PRESETS["none"])
    labels = np.concatenate([b["label"] for b in batches(dataset, wanted.steps_per_epoch)])
    counts = np.bincount(labels[: wanted.epoch_length])
    assert counts.tolist() == [21, 21] == wanted.draws.tolist()


def test_labels_and_pixels_belong_to_the_row(records, rows):
    dataset = pipeline.training_dataset(rows, plan(records), PRESETS["none"])
    for batch in batches(dataset, 6):
        for image, label, row in zip(batch["image"], batch["label"], batch["row"], strict=True):
            np.testing.assert_allclose(image * 255, records.pixels("train", row), atol=1e-3)
            assert label == records.index("train").label[row]
        assert (batch["weight"] == 1).all()


def test_a_stream_begun_later_is_the_rest_of_the_whole(records, rows):
    whole = batches(pipeline.training_dataset(rows, plan(records), PRESETS["photo"]), 9)
    for start in range(9):
        rest = pipeline.training_dataset(rows, plan(records), PRESETS["photo"], start_step=start)
        assert_equal(whole[start:], batches(rest, 9 - start))


@pytest.mark.parametrize(("num_replicas", "pieces"), [(1, 2), (2, 1), (2, 2), (3, 1), (1, 4)])
def test_replicas_share_the_global_batch(records, rows, num_replicas, pieces):
    whole = batches(pipeline.training_dataset(rows, plan(records), PRESETS["photo"]), 5)
    parts = []
    for replica in range(num_replicas):
        dataset = pipeline.training_dataset(
            rows,
            plan(records),
            PRESETS["photo"],
            replica=replica,
            num_replicas=num_replicas,
            pieces=pieces,
        )
        parts.append(batches(dataset, 5 * pieces))
    for step, batch in enumerate(whole):
        slices = [part[step * pieces + piece] for part in parts for piece in range(pieces)]
        for name in batch:
            np.testing.assert_array_equal(np.concatenate([s[name] for s in slices]), batch[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_replicas": 5}, "must divide by 5 replicas, got 12"),
        ({"num_replicas": 2, "replica": 2}, r"must lie in 0\.\.1, got 2"),
    ],
)
def test_uneven_slices_are_refused(records, rows, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline.training_dataset(rows, plan(records), PRESETS["none"], **arguments)


def test_other_seeds_and_steps_augment_otherwise(records, rows):
    one = dataclasses.replace(plan(records), by_class=np.zeros(42, np.int64))  # always row 0
    images = batches(pipeline.training_dataset(rows, one, PRESETS["photo"]), 1)[0]["image"]
    other = dataclasses.replace(one, seed=6)
    others = batches(pipeline.training_dataset(rows, other, PRESETS["photo"]), 1)[0]["image"]
    differences = [np.abs(a - b).max() for a in images for b in others]
    assert min(differences) > 0.001


@pytest.mark.parametrize("batch_size", [1, 5, 42, 64])
def test_evaluation_sees_every_row_once_and_in_order(records, rows, batch_size):
    seen, last = [], None
    for last in batches(pipeline.evaluation_dataset(rows, batch_size=batch_size), 99):
        real = last["weight"] > 0
        seen += last["row"][real].tolist()
        for image, row in zip(last["image"][real], last["row"][real], strict=True):
            np.testing.assert_allclose(image * 255, records.pixels("train", row), atol=1e-3)
    assert seen == list(range(42))
    assert len(last["row"]) == batch_size and np.isfinite(last["image"]).all()


def test_evaluation_cannot_be_shuffled():
    with pytest.raises(TypeError, match="shuffle"):
        pipeline.evaluation_dataset(None, batch_size=1, shuffle=True)


STREAM = """
import hashlib, sys
from models import runtime
from records.backend import tf
threads, replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tf.config.threading.set_inter_op_parallelism_threads(threads)
tf.config.threading.set_intra_op_parallelism_threads(threads)
how = runtime.configure(
    strategy="mirrored" if replicas > 1 else "one",
    precision="float32", seed=0, cpu_devices=replicas
)
from datapipe import options, pipeline, resident, sampling
from records import record_set
records = record_set.open_set(folder)
rows = resident.load(records, "train", show_progress=False)
plan = sampling.plan(records.index("train").label, records.manifest.class_names,
                     options.Target("balanced"), seed=5, batch_size=12)
dataset = how.strategy.distribute_datasets_from_function(
    lambda context: pipeline.training_dataset(
        rows, plan, options.PRESETS["photo"], replica=context.input_pipeline_id,
        num_replicas=context.num_input_pipelines,
        pieces=context.num_replicas_in_sync // context.num_input_pipelines))
digest, iterator = hashlib.sha256(), iter(dataset)
for _ in range(8):
    batch = next(iterator)
    for name in ("row", "label", "weight", "image"):
        for part in how.strategy.experimental_local_results(batch[name]):
            digest.update(part.numpy().tobytes())
print(replicas, digest.hexdigest())
"""


def test_bit_equal_at_any_thread_count_and_under_mirrored(records, rows):
    expected = hashlib.sha256()
    dataset = pipeline.training_dataset(rows, plan(records), PRESETS["photo"])
    for batch in batches(dataset, 8):
        for name in ("row", "label", "weight", "image"):
            expected.update(batch[name].tobytes())
    for threads, replicas in ((1, 1), (2, 1), (16, 1), (2, 2)):
        done = subprocess.run(
            [sys.executable, "-c", STREAM, str(threads), str(replicas), records.folder],
            cwd=fakes.ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(replicas), expected.hexdigest()], (threads, replicas)


def test_tensors_stay_on_the_host(rows):
    assert "CPU" in rows.images.device and isinstance(rows.images, tf.Tensor)
