"""A split that is not in memory: exact draws and restarts, pixels as stored, faults by name."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

from datapipe.plan import sampling
from datapipe.plan.batch_slice import Slice
from datapipe.rows import streaming
from records.common.backend import tf
from records.common.targets import Target
from records.format import manifest, record_set, sharding, tfrecord
from tests import fakes

COUNTS = {"a": 90, "b": 40, "c": 17}
NAMES = tuple(COUNTS)
NUM_SHARDS = 8
TARGETS = [
    *(Target(name) for name in ("natural", "undersample", "oversample", "balanced", "sqrt")),
    Target("effective", beta=0.9),
    Target("band", low=20, high=50),
    Target("shares", shares={"a": 1, "c": 3}, epoch_draws=61),
]


def built(folder, counts=COUNTS, **options):
    """Builds a set of eight shards, whose rows differ in number by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "_MIN_ROWS_OF_A_SHARD", 8)
        return fakes.built(folder, counts, ratios={"train": 0.9, "test": 0.1}, **options)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return built(tmp_path_factory.mktemp("set"))


@pytest.fixture
def copied(records, tmp_path):
    """The set in a folder of its own, to be damaged."""
    return record_set.open_set(shutil.copytree(records.folder, tmp_path / "records"))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    # 8 rows of 16x16: some of the shards have 16 rows and some 17, so a piece is full or nearly
    # empty, and the last is not the only one.
    monkeypatch.setattr(streaming, "_PIECE_BYTES", 8 * 16 * 16 * 3)


def opened(records, shards=3):
    """Opens `train` with windows of so many shards."""
    rows = streaming.open_stream(records, "train", window_bytes=1)
    return dataclasses.replace(rows, shards_per_window=shards)


def planned(records, target=None, batch_size=8, seed=0, **options):
    labels, target = records.index("train").label, target or Target()
    return sampling.plan(labels, NAMES, target, seed=seed, batch_size=batch_size, **options)


def drained(dataset, elements=None):
    """Returns the elements put together, or the first so many."""
    taken = list(dataset.take(-1 if elements is None else elements).as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in taken]) for name in taken[0]}


def epochs_of(rows, plan, epochs):
    """Returns the rows drawn in each of the first epochs; int64 [epochs, draws]."""
    steps = -(-epochs * plan.epoch_length // plan.batch_size)
    drawn = drained(rows.batches(plan), steps)["row"]
    return drawn[: epochs * plan.epoch_length].reshape(epochs, -1)


def test_a_set_of_several_uneven_shards(records):
    rows = opened(records)
    assert len(rows.paths) == NUM_SHARDS and rows.windows_per_epoch == 3
    assert set(rows.rows_per_shard) == {16, 17}  # else these tests would show less than they say
    assert len(rows) == len(records.index("train")) == rows.class_counts.sum()


@pytest.mark.parametrize("shards", [1, NUM_SHARDS])
def test_natural_epochs_hold_every_row_once_in_another_order(records, shards):
    epochs = epochs_of(opened(records, shards), planned(records), 2)
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(epochs.shape[1])] * 2)
    assert (epochs[0] != epochs[1]).mean() > 0.9


def test_batches_hold_the_rows_as_stored_in_the_order_of_positions(records):
    got = drained(opened(records).batches(planned(records, Target("balanced"))), 20)
    np.testing.assert_array_equal(got["position"], np.arange(160))
    np.testing.assert_array_equal(got["label"], records.index("train").label[got["row"]])
    for row, image in zip(got["row"], got["image"], strict=True):
        np.testing.assert_array_equal(image, records.pixels("train", int(row)))


def test_the_contract_of_a_batch(records):
    spec = opened(records).batches(planned(records), part=Slice(local_replicas=2)).element_spec
    assert spec == {
        "image": tf.TensorSpec([4, 16, 16, 3], tf.uint8),
        "label": tf.TensorSpec([4], tf.int32),
        "row": tf.TensorSpec([4], tf.int64),
        "position": tf.TensorSpec([4], tf.int64),
    }


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_encoded_rows_are_decoded_as_everywhere(tmp_path, encoding):
    records = built(tmp_path, {"a": 20, "b": 12, "c": 6}, encoding=encoding)
    rows = opened(records)
    for dataset in (rows.batches(planned(records)).take(6), rows.in_order(7)):
        for batch in dataset.as_numpy_iterator():
            for row, image in zip(batch["row"], batch["image"], strict=True):
                np.testing.assert_array_equal(image, records.pixels("train", int(row)))


@pytest.mark.slow
def test_a_stream_can_begin_at_every_step_of_two_epochs(records):
    plan = planned(records, Target("balanced", epoch_draws=20))
    rows = opened(records)  # three windows of six or seven draws an epoch; a batch has eight
    whole = drained(rows.batches(plan), 6)
    for step in range(5):
        rest = drained(rows.batches(plan, start_step=step), 6 - step)
        for name in ("row", "position", "image"):
            np.testing.assert_array_equal(rest[name], whole[name][step * 8 :])


@pytest.mark.parametrize(("num_shards", "pieces"), [(2, 2)])
def test_replicas_and_pieces_slice_the_same_batches(records, num_shards, pieces):
    plan, rows, size = planned(records), opened(records), 8 // num_shards // pieces
    whole = drained(rows.batches(plan, start_step=3), 20)["row"].reshape(20, num_shards, -1)
    for replica in range(num_shards):
        dataset = rows.batches(plan, start_step=3, part=Slice(replica, num_shards, pieces))
        parts = [batch["row"] for batch in dataset.take(20 * pieces).as_numpy_iterator()]
        assert {part.shape for part in parts} == {(size,)}
        np.testing.assert_array_equal(np.concatenate(parts), whole[:, replica].reshape(-1))


@pytest.mark.parametrize("draws", [1, 20])
def test_batches_may_be_larger_than_windows_and_epochs(records, draws):
    plan = planned(records, Target("balanced", epoch_draws=draws), batch_size=16)
    labels = records.index("train").label
    rows = drained(opened(records, 1).batches(plan), 6)["row"]
    whole = rows[: len(rows) // draws * draws].reshape(-1, draws)
    for epoch in whole:
        np.testing.assert_array_equal(np.bincount(labels[epoch], minlength=3), plan.draws)


def test_a_window_mixes_its_shards_and_no_others(records):
    rows, plan = opened(records, 2), planned(records)
    shard = records.index("train").shard
    windows = []
    for epoch in epochs_of(rows, plan, 3):
        while len(epoch):
            shards = np.unique(shard[epoch[:30]])
            assert len(shards) == 2
            size = rows.rows_per_shard[shards].sum()
            assert set(shard[epoch[:size]]) == set(shards)
            windows.append(tuple(shards))
            epoch = epoch[size:]
    assert len(windows) == 12 and len(set(windows)) > 6  # each epoch pairs the shards anew


def test_seeds_give_unrelated_streams():
    first, other = (
        next(drawn_by(small([20, 7, 3], 2, seed), LABELS, SIZES, 20)) for seed in (0, 1)
    )
    assert (first == other).mean() < 0.2


def test_threads_change_nothing(records):
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    dataset = opened(records).batches(planned(records))
    alone = drained(dataset.with_options(options), 30)["row"]
    np.testing.assert_array_equal(alone, drained(dataset, 30)["row"])


def drawn_by(of_windows, labels, sizes, epochs):
    """Returns the rows that windows draw and their windows, without any pixel; int64 [n] each."""
    starts, sizes = tf.constant(sizes.cumsum() - sizes), tf.constant(sizes)

    def rows(window):
        shards = window["shards"]
        row = tf.ragged.range(tf.gather(starts, shards), tf.gather(starts + sizes, shards)).values
        drawn = tf.gather(row, of_windows.order(window, row, tf.gather(labels, row)))
        return drawn, tf.fill(tf.shape(drawn), window["number"])

    dataset = tf.data.Dataset.range(epochs).flat_map(of_windows.windows).map(rows)
    return map(np.concatenate, zip(*dataset.as_numpy_iterator(), strict=True))


# 30 rows of three classes, unlike in each shard: shard 0 has no row of class 2.
LABELS = np.array([0] * 6 + [1] + [0, 0, 0, 1, 1, 1, 2, 2] + [0, 1, 2, 0, 1] + [0] * 9 + [1])
SIZES = np.array([7, 8, 5, 10])


def small(draws, num_windows, seed=0):
    """Returns how so many draws of each class fall to windows of the shards above."""
    plan = sampling.plan(LABELS, NAMES, Target(), seed=seed, batch_size=4)
    plan = dataclasses.replace(plan, draws=np.array(draws))
    shards = np.split(LABELS, SIZES.cumsum()[:-1])
    counts = np.stack([np.bincount(shard, minlength=3) for shard in shards])
    return streaming.WindowDraws(plan, tf.constant(counts), num_windows)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_epochs_hold_exactly_their_draws_and_treat_rows_alike(records, target):
    plan, labels = planned(records, target), records.index("train").label
    rows = opened(records)
    of_windows = streaming.WindowDraws(plan, tf.constant(rows.class_counts), rows.windows_per_epoch)
    drawn, _ = drawn_by(of_windows, labels, rows.rows_per_shard, 4)
    rate = (plan.draws / plan.counts)[labels]
    for epoch in drawn.reshape(4, -1):
        np.testing.assert_array_equal(np.bincount(labels[epoch], minlength=3), plan.draws)
        uses = np.bincount(epoch, minlength=len(labels))
        assert ((uses == np.floor(rate)) | (uses == np.ceil(rate))).all()


def test_a_window_has_its_share_of_the_draws_to_within_one():
    draws, rows_of = np.array([50, 11, 2]), np.bincount(LABELS)
    of_windows = small(draws, 2)
    for window in tf.data.Dataset.range(50).flat_map(of_windows.windows).as_numpy_iterator():
        there = of_windows.counts.numpy()[window["shards"]].sum(axis=0)
        assert (np.abs(window["draws"] - draws * there / rows_of) < 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draws", "num_windows"),
    [([7, 3, 1], 1), ([7, 3, 1], 4), ([20, 7, 3], 3), ([20, 20, 20], 2), ([45, 4, 0], 3)],
)
def test_rows_of_a_class_are_drawn_equally_often(draws, num_windows):
    # In an epoch a row is drawn q_c / n_c times, rounded up or down, so with a variance of at most
    # 1/4 and a mean over 400 epochs with a standard deviation of at most 0.025. Six are 0.15.
    rows, _ = drawn_by(small(draws, num_windows), LABELS, SIZES, 400)
    rate = np.array(draws) / np.bincount(LABELS)
    uses = np.bincount(rows, minlength=30) / 400
    np.testing.assert_array_less(np.abs(uses - rate[LABELS]), 0.15)


def test_the_window_of_every_position_is_found():
    of_windows = small([7, 3, 1], 3)
    windows = list(tf.data.Dataset.range(3).flat_map(of_windows.windows).as_numpy_iterator())
    found = [window["number"] % 3 for window in windows for _ in range(window["draws"].sum())]
    assert [of_windows.first_window(position) for position in range(33)] == found


def test_every_row_is_equally_likely_at_every_place_of_a_window():
    # 400 epochs of one window of 30 rows: 13.3 times each row at each place on average; chi-square
    # with 30 * 29 degrees of freedom, of which 5 standard deviations are 5 sqrt(2 * 870) = 209.
    rows, _ = drawn_by(small([20, 7, 3], 1), LABELS, SIZES, 400)
    counts = np.stack([np.bincount(column, minlength=30) for column in rows.reshape(400, 30).T])
    mean = 400 / 30
    assert 870 - 209 < ((counts - mean) ** 2 / mean).sum() < 870 + 209


def test_the_order_is_pinned():
    # A change of these rows means that runs made before can be neither resumed nor repeated.
    rows, windows = drawn_by(small([5, 4, 3], 2, seed=7), LABELS, SIZES, 2)
    assert windows.tolist() == [0] * 6 + [1] * 6 + [2] * 5 + [3] * 7
    assert rows[windows == 0].tolist() == [18, 14, 12, 13, 11, 17]
    assert rows[windows == 1].tolist() == [29, 22, 0, 1, 3, 6]
    assert rows[windows == 2].tolist() == [24, 26, 17, 19, 28]
    assert rows[windows == 3].tolist() == [12, 10, 13, 11, 4, 9, 14]


def test_nothing_is_read_before_the_window_where_a_stream_begins(copied):
    rows, plan = opened(copied, 1), planned(copied)
    whole = epochs_of(rows, plan, 1)[0]
    step = plan.steps_per_epoch - 2
    needed = {rows.paths[n] for n in copied.index("train").shard[whole[step * 8 :]]}
    begun = rows.batches(plan, start_step=step)
    for path in set(rows.paths) - needed:
        os.remove(path)
    np.testing.assert_array_equal(drained(begun, 1)["row"], whole[step * 8 : step * 8 + 8])


def test_windows_without_draws_are_not_read(copied):
    # One draw an epoch: seven of the eight windows of each have nothing to give.
    plan = planned(copied, Target("balanced", epoch_draws=1), batch_size=1)
    rows = opened(copied, 1)
    drawn = epochs_of(rows, plan, 3)[:, 0]
    needed = {rows.paths[shard] for shard in copied.index("train").shard[drawn]}
    for path in set(rows.paths) - needed:
        os.remove(path)
    np.testing.assert_array_equal(drained(rows.batches(plan), 3)["row"], drawn)


def test_memory_does_not_grow_with_the_set(records):
    rows = streaming.open_stream(records, "train", window_bytes=2 * 17 * 768)
    assert (rows.shards_per_window, rows.windows_per_epoch) == (2, 4)
    twice = dataclasses.replace(
        rows, paths=rows.paths * 2, rows_per_shard=np.tile(rows.rows_per_shard, 2)
    )
    assert twice.windows_per_epoch == 8
    # Three windows of two shards of three pieces of 8 rows: one in use, one that waits and, before
    # it waits, is there twice.
    assert twice.memory_bytes == rows.memory_bytes == 3 * 2 * 3 * 8 * 768
    graph = graph_of(rows.batches(planned(records)))
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    waiting = [node.input[1] for node in graph.node if node.op == "PrefetchDataset"]
    assert [constants[name].int64_val[0] for name in waiting] == [1]


@pytest.mark.parametrize(("window_bytes", "shards"), [(1, 1), (1 << 30, NUM_SHARDS)])
def test_a_window_has_a_shard_at_least_and_all_at_most(records, window_bytes, shards):
    rows = streaming.open_stream(records, "train", window_bytes=window_bytes)
    assert rows.shards_per_window == shards


def flip(path, index, row):
    with open(path, "r+b") as file:
        file.seek(int(index.offset[row]) + 200)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 8]))


FAULTS = {
    "flipped": (lambda path, index: flip(path, index, 4), "4 records can be read"),
    "cut at a record": (lambda path, index: os.truncate(path, index.offset[9]), "9 records can"),
    "cut in a record": (lambda path, index: os.truncate(path, index.offset[9] + 50), "9 records"),
    "empty": (lambda path, index: os.truncate(path, 0), "0 records can be read"),
    "longer": (lambda path, index: append(path, 1), "17 records can be read"),
    "much longer": (lambda path, index: append(path, 50), "24 records can be read"),
}


def append(path, copies):
    """Writes the last record once more, so many times."""
    with open(path, "r+b") as file:
        payloads = [payload for _, payload in tfrecord.scan(file.read())]
        file.write(tfrecord.frame(payloads[-1]) * copies)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_shard_is_named(copied, fault):
    rows, index = opened(copied, NUM_SHARDS), copied.index("train")
    damage, said = FAULTS[fault]
    damage(rows.paths[0], index)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        drained(rows.in_order(8))
    assert f"{rows.paths[0]}: {said}" in str(caught.value)
    assert f"the manifest says {rows.rows_per_shard[0]}; python -m" in str(caught.value)
    assert f"--records={copied.folder} tells more" in str(caught.value)


def test_training_stops_at_the_shard_that_is_damaged(copied):
    rows = opened(copied)
    flip(rows.paths[5], copied.index("train"), int(rows.rows_per_shard[:5].sum()))
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{rows.paths[5]}: 0 records"):
        drained(rows.batches(planned(copied)), 20)


def test_a_missing_shard_is_named(copied):
    rows = opened(copied)
    os.remove(rows.paths[5])
    for dataset in (rows.batches(planned(copied)), rows.in_order(8)):
        with pytest.raises(tf.errors.NotFoundError, match=rows.paths[5]):
            drained(dataset, 20)


def test_in_order_gives_every_row_once(records):
    batches = list(opened(records).in_order(50).as_numpy_iterator())
    index = records.index("train")
    assert [len(batch["row"]) for batch in batches] == [50, 50, len(index) - 100]
    np.testing.assert_array_equal(np.concatenate([b["row"] for b in batches]), range(len(index)))
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), index.label)
    pixels = np.concatenate(list(records.pixel_batches("train")))
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), pixels)


def graph_of(dataset):
    return tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())


def operations(dataset):
    graph = graph_of(dataset)
    functions = [node for function in graph.library.function for node in function.node_def]
    return {node.op for node in (*graph.node, *functions)}


def test_the_stream_holds_tensorflow_operations_alone(records):
    rows = opened(records)
    for dataset in (rows.batches(planned(records)), rows.in_order(8)):
        used = operations(dataset)
        assert "TFRecordDatasetV2" in used or "TFRecordDataset" in used  # it sees inner functions
        assert not {name for name in used if "PyFunc" in name or "Generator" in name}


def test_a_tf_data_service_can_run_it(records):
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address=address)
    )
    dataset = opened(records).batches(planned(records))
    elsewhere = dataset.apply(
        tf.data.experimental.service.distribute("parallel_epochs", dispatcher.target)
    )
    np.testing.assert_array_equal(drained(elsewhere, 5)["row"], drained(dataset, 5)["row"])
    worker.stop()
    dispatcher.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": Slice(0, 3)}, "batch_size must divide by 3 replicas, got 8"),
        ({"part": Slice(0, 4, 4)}, "batch_size must divide by 16 replicas, got 8"),
        ({"start_step": -1}, r"start_step must lie in 0\.\.2\^40, got -1"),
    ],
)
def test_wrong_slices_are_refused(records, options, message):
    with pytest.raises(ValueError, match=message):
        opened(records).batches(planned(records), **options)


@pytest.mark.parametrize(
    ("options", "what"),
    [({"strata": True}, "strata"), ({"stratified_batches": True}, "stratified batches")],
)
def test_plans_of_more_than_class_targets_are_refused(records, options, what):
    if "strata" in options:
        options = {"strata": np.arange(len(records.index("train"))) % 5}
    with pytest.raises(ValueError, match=f"class targets only, got a plan with {what}"):
        opened(records).batches(planned(records, **options))


def test_a_plan_over_other_rows_is_refused(records):
    plan = sampling.plan(np.array([0, 0, 1]), NAMES, Target(), seed=0, batch_size=8)
    with pytest.raises(ValueError, match=r"must be over the rows of this split"):
        opened(records).batches(plan)


@pytest.mark.parametrize("number", [0, -1])
def test_batches_and_windows_of_nothing_are_refused(records, number):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {number}"):
        opened(records).in_order(number)
    with pytest.raises(ValueError, match=f"window_bytes must be at least 1, got {number}"):
        streaming.open_stream(records, "train", window_bytes=number)


def test_an_empty_split_is_refused(tmp_path):
    records = fakes.built(tmp_path, {"a": 1, "b": 1}, ratios={"train": 0.98, "test": 0.02})
    with pytest.raises(manifest.ManifestError, match=r"split 'test' .* has no rows"):
        streaming.open_stream(records, "test")
    with pytest.raises(manifest.ManifestError, match="no split 'val'"):
        streaming.open_stream(records, "val")
