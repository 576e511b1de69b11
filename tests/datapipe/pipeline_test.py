"""The batch contract, and that a batch follows from (seed, step) alone."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from datapipe import pipeline
from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS
from datapipe.plan import sampling
from datapipe.rows import device, host, streaming
from records.common.backend import tf
from records.common.targets import Target
from tests import fakes

BATCH = 12


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 50, "b": 20})


@pytest.fixture(scope="module")
def rows(records):
    return host.load(records, "train", show_progress=False)


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


@pytest.fixture(scope="module", params=["host", "device", "stream"])
def any_rows(request, records, rows):
    if request.param == "stream":
        return streaming.open_stream(records, "train", window_bytes=1)
    return device.moved(rows) if request.param == "device" else rows


MIXES = AugmentOptions(rotation_range=20, mixup_alpha=0.4, cutmix_alpha=1.0)


def test_both_recipes_keep_the_contract(records, any_rows):
    spec = pipeline.element_spec(BATCH, 16)
    training = pipeline.training_dataset(any_rows, plan(records), PRESETS["photo"])
    assert training.element_spec == spec
    assert pipeline.evaluation_dataset(any_rows, batch_size=BATCH).element_spec == spec
    mixed = pipeline.training_dataset(any_rows, plan(records), MIXES)
    assert mixed.element_spec == pipeline.element_spec(BATCH, 16, num_classes=2)


def test_an_epoch_of_balanced_has_equal_counts(records, rows):
    wanted = plan(records)
    dataset = pipeline.training_dataset(rows, wanted, PRESETS["none"])
    labels = np.concatenate([b["label"] for b in batches(dataset, wanted.steps_per_epoch)])
    counts = np.bincount(labels[: wanted.epoch_length])
    assert counts.tolist() == [21, 21] == wanted.draws.tolist()


def test_labels_and_pixels_belong_to_the_row(records, any_rows):
    dataset = pipeline.training_dataset(any_rows, plan(records), PRESETS["none"])
    for batch in batches(dataset, 6):
        for image, label, row in zip(batch["image"], batch["label"], batch["row"], strict=True):
            np.testing.assert_allclose(image * 255, records.pixels("train", row), atol=1e-3)
            assert label == records.index("train").label[row]
        assert (batch["weight"] == 1).all()


@pytest.mark.slow
def test_a_stream_begun_later_is_the_rest_of_the_whole(records, any_rows):
    whole = batches(pipeline.training_dataset(any_rows, plan(records), MIXES), 9)
    for start in range(9):  # two epochs and a half
        rest = pipeline.training_dataset(any_rows, plan(records), MIXES, start_step=start)
        assert_equal(whole[start:], batches(rest, 9 - start))


@pytest.mark.slow
@pytest.mark.parametrize(("num_shards", "pieces"), [(1, 2), (2, 1), (2, 2), (3, 1), (1, 4)])
def test_replicas_share_the_global_batch(records, any_rows, num_shards, pieces):
    rows = any_rows
    whole = batches(pipeline.training_dataset(rows, plan(records), PRESETS["photo"]), 5)
    parts = []
    for replica in range(num_shards):
        dataset = pipeline.training_dataset(
            rows,
            plan(records),
            PRESETS["photo"],
            shard_index=replica,
            num_shards=num_shards,
            local_replicas=pieces,
        )
        parts.append(batches(dataset, 5 * pieces))
    for step, batch in enumerate(whole):
        slices = [part[step * pieces + piece] for part in parts for piece in range(pieces)]
        for name in batch:
            np.testing.assert_array_equal(np.concatenate([s[name] for s in slices]), batch[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_shards": 5}, "must divide by 5 replicas, got 12"),
        ({"num_shards": 2, "shard_index": 2}, r"shard_index must lie in 0\.\.1, got 2"),
        ({"start_step": -1}, r"start_step must lie in 0\.\.2\^40, got -1"),
        ({"class_weights": np.ones(3)}, r"one finite number for each of 2 classes, got \[1"),
        ({"class_weights": np.array([1, np.nan])}, "one finite number for each of 2 classes"),
        ({"class_weights": np.array([1.0, -1])}, "one finite number for each of 2 classes"),
        ({"local_replicas": 0}, "local_replicas must be at least 1, got 0"),
        ({"local_replicas": 4, "options": MIXES}, "must be even, got 3 of batch_size 12"),
        ({"options": dataclasses.replace(MIXES, strength={"c": 1})}, "strength names 'c'"),
        ({"input_range": "0..2"}, "must be one of 0..1, -1..1, 0..255, got '0..2'"),
    ],
)
def test_what_does_not_fit_is_refused(records, any_rows, arguments, message):
    arguments = {"options": PRESETS["none"], **arguments}
    with pytest.raises(ValueError, match=message):
        pipeline.training_dataset(any_rows, plan(records), **arguments)


def test_a_plan_over_other_rows_is_refused(records, any_rows):
    labels = records.index("train").label
    for others in (np.array([0, 1, 1]), 1 - labels):
        other = sampling.plan(others, ["a", "b"], Target(), seed=0, batch_size=2)
        with pytest.raises(ValueError, match="the plan must be over"):
            pipeline.training_dataset(any_rows, other, PRESETS["none"])


@pytest.mark.slow
@pytest.mark.parametrize("options", [PRESETS["photo"], MIXES], ids=["photo", "mixes"])
@pytest.mark.parametrize("kind", ["host", "device"])
@pytest.mark.parametrize("compiled", [False, True])
def test_images_made_in_the_step_are_those_of_the_dataset(records, rows, options, kind, compiled):
    wanted = plan(records)
    whole = batches(pipeline.training_dataset(rows, wanted, options, input_range="-1..1"), 3)
    there = device.moved(rows) if kind == "device" else rows
    later = pipeline.training_dataset(there, wanted, options, augment_on_device=True)
    make = pipeline.image_maker(there, wanted, options, input_range="-1..1")
    step = tf.function(lambda batch: make(batch["row"], batch["numbers"]), jit_compile=compiled)
    for small, full in zip(later.take(3), whole, strict=True):
        # In one compiled step XLA may fuse what is rounded in between otherwise.
        bound = 2e-6 if compiled else 0
        np.testing.assert_allclose(step(small), full["image"], rtol=0, atol=bound)
        for name in ("label", "weight", "row"):
            np.testing.assert_array_equal(small[name], full[name])
        assert "image" not in small


def test_class_weights_come_with_the_rows(records, any_rows):
    weights = np.array([0.5, 2.0], np.float32)
    dataset = pipeline.training_dataset(
        any_rows, plan(records), PRESETS["none"], class_weights=weights
    )
    for batch in batches(dataset, 3):
        np.testing.assert_array_equal(batch["weight"], weights[batch["label"]])


def test_other_seeds_and_steps_augment_otherwise(records, rows):
    alike = dataclasses.replace(rows, images=tf.tile(rows.images[:1], [42, 1, 1, 1]))
    rows, one = alike, plan(records)
    images = batches(pipeline.training_dataset(rows, one, PRESETS["photo"]), 1)[0]["image"]
    other = dataclasses.replace(one, seed=6)
    others = batches(pipeline.training_dataset(rows, other, PRESETS["photo"]), 1)[0]["image"]
    differences = [np.abs(a - b).max() for a in images for b in others]
    assert min(differences) > 0.001


@pytest.mark.parametrize("batch_size", [1, 5, 42, 64])
def test_evaluation_sees_every_row_once_and_in_order(records, any_rows, batch_size):
    seen, last = [], None
    for last in batches(pipeline.evaluation_dataset(any_rows, batch_size=batch_size), 99):
        real = last["weight"] > 0
        seen += last["row"][real].tolist()
        for image, row in zip(last["image"][real], last["row"][real], strict=True):
            np.testing.assert_allclose(image * 255, records.pixels("train", row), atol=1e-3)
    assert seen == list(range(42))
    assert len(last["row"]) == batch_size and np.isfinite(last["image"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("num_shards", "pieces"), [(1, 4), (2, 2), (4, 1)])
def test_replicas_share_the_evaluation(any_rows, num_shards, pieces):
    whole = batches(pipeline.evaluation_dataset(any_rows, batch_size=16), 9)
    parts = [
        batches(
            pipeline.evaluation_dataset(
                any_rows, batch_size=16, shard_index=r, num_shards=num_shards, local_replicas=pieces
            ),
            99,
        )
        for r in range(num_shards)
    ]
    for step, batch in enumerate(whole):
        slices = [part[step * pieces + piece] for part in parts for piece in range(pieces)]
        for name in batch:
            np.testing.assert_array_equal(np.concatenate([s[name] for s in slices]), batch[name])
    # The last batch has 10 rows, so the last slice of 4 holds padding only.
    assert slices[-1]["weight"].tolist() == [0, 0, 0, 0]
    assert {len(part) for part in parts} == {3 * pieces}


def test_evaluation_cannot_be_shuffled():
    with pytest.raises(TypeError, match="shuffle"):
        pipeline.evaluation_dataset(None, batch_size=1, shuffle=True)


STREAM = """
import hashlib, sys
from models.training import distribution
from records.common.backend import tf
threads, replicas, folder, residency = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
tf.config.threading.set_inter_op_parallelism_threads(threads)
tf.config.threading.set_intra_op_parallelism_threads(threads)
how = distribution.configure(
    strategy="mirrored" if replicas > 1 else "one",
    precision="float32", seed=0, cpu_devices=replicas
)
from datapipe.augment import presets
from datapipe import pipeline
from datapipe.rows import residency as where
from datapipe.plan import sampling
from records.format import record_set
from records.common import targets
records = record_set.open_set(folder)
with how.strategy.scope():
    rows = where.open_rows(
        records, "train", residency=residency, window_bytes=1, show_progress=False
    ).rows
plan = sampling.plan(records.index("train").label, records.manifest.class_names,
                     targets.Target("balanced"), seed=5, batch_size=12)
later, photo = residency == "device", presets.PRESETS["photo"]
dataset = pipeline.training_dataset(
    rows, plan, photo, augment_on_device=later, local_replicas=replicas)
make = pipeline.image_maker(rows, plan, photo)
def step(pieces):
    batch = pieces[distribution.replica_number()]
    image = make(batch["row"], batch["numbers"]) if later else batch["image"]
    return batch["row"], batch["label"], batch["weight"], image
run = tf.function(lambda pieces: how.strategy.run(step, args=(pieces,)))
digest, iterator = hashlib.sha256(), iter(dataset)
for _ in range(8):
    for made in run(tuple(next(iterator) for _ in range(replicas))):
        for part in how.strategy.experimental_local_results(made):
            digest.update(part.numpy().tobytes())
print(replicas, digest.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("residency", "threads_and_replicas"),
    [
        ("host", ((1, 1), (2, 1), (16, 2), (2, 4))),
        ("device", ((1, 1), (16, 2))),
        ("stream", ((1, 1), (16, 4))),
    ],
)
def test_bit_equal_in_new_processes(records, rows, residency, threads_and_replicas):
    if residency == "stream":
        rows = streaming.open_stream(records, "train", window_bytes=1)
    expected = hashlib.sha256()
    dataset = pipeline.training_dataset(rows, plan(records), PRESETS["photo"])
    for batch in batches(dataset, 8):
        for name in ("row", "label", "weight", "image"):
            expected.update(batch[name].tobytes())
    for threads, replicas in threads_and_replicas:
        done = subprocess.run(
            [sys.executable, "-c", STREAM, str(threads), str(replicas), records.folder, residency],
            cwd=fakes.ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(replicas), expected.hexdigest()], threads


NINE = """
import json, sys
import numpy as np
from models.training import distribution
replicas, folder = int(sys.argv[1]), sys.argv[2]
how = distribution.configure(strategy="mirrored" if replicas > 1 else "one",
                        precision="float32", seed=0, cpu_devices=replicas)
from records.common.backend import keras, tf
from datapipe import pipeline
from datapipe.rows import host
from records.format import record_set
rows = host.load(record_set.open_set(folder), "train", show_progress=False)
with how.strategy.scope():
    layers = keras.layers
    model = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3),
                              layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, weighted_metrics=["accuracy"])
# As Keras would have it, but for the iterator over devices, which may crash when it goes.
data = how.strategy.distribute_datasets_from_function(
    lambda context: pipeline.evaluation_dataset(
        rows, batch_size=4, shard_index=context.input_pipeline_id,
        num_shards=context.num_input_pipelines,
    ).map(lambda batch: (batch["image"], batch["label"], batch["weight"])),
    tf.distribute.InputOptions(
        experimental_fetch_to_device=False,
        experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA))
before = model.evaluate(data, steps=3, verbose=0)
model.fit(data, steps_per_epoch=3, verbose=0)
finite = all(np.isfinite(weights).all() for weights in model.get_weights())
print(json.dumps([before, model.evaluate(data, steps=3, verbose=0), bool(finite)]))
"""


@pytest.mark.slow
def test_a_last_batch_smaller_than_the_replicas_stays_finite(tmp_path):
    # Nine rows in batches of four leave one: three of four replicas get padding only.
    nine = fakes.built(tmp_path, {"a": 6, "b": 3}, ratios={"train": 1.0})
    found = []
    for replicas in (1, 2, 4):
        done = subprocess.run(
            [sys.executable, "-c", NINE, str(replicas), nine.folder],
            cwd=fakes.ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        before, after, finite = json.loads(done.stdout)
        assert finite and np.isfinite(after).all()
        found.append(before)
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-5)


def test_handed_over_to_numpy_and_to_a_plain_loop(records, rows):
    dataset = pipeline.training_dataset(rows, plan(records), MIXES)
    arrays = dataset.as_numpy_iterator()
    for batch, _ in zip(dataset, range(2), strict=False):
        array = next(arrays)
        assert {name: type(value) for name, value in array.items()} == dict.fromkeys(
            batch, np.ndarray
        )
        for name in batch:
            np.testing.assert_array_equal(batch[name], array[name])


def test_tensors_stay_on_the_host(rows):
    assert "CPU" in rows.images.device and isinstance(rows.images, tf.Tensor)
