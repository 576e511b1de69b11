import itertools

import numpy as np
import pytest

from datapipe.benchmark import numpy_baselines as arrays
from datapipe.benchmark import systems
from records.builder import replicate
from tests import fakes

BATCH, SIZE = 8, 16


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    records = fakes.built(
        tmp_path_factory.mktemp("set"), {"a": 30, "b": 10}, ratios={"train": 1.0}, encoding="png"
    )
    folders = {encoding: tmp_path_factory.mktemp(encoding) for encoding in ("raw", "jpeg")}
    return {
        encoding: systems.Inputs(
            replicate.tile(records, "train", 40, str(folder), encoding=encoding), "train", BATCH
        )
        for encoding, folder in folders.items()
    }


def image_of(batch):
    """Returns the pixels of a batch, whatever the system hands on beside them."""
    if isinstance(batch, dict):
        return np.asarray(batch["image"])
    return np.asarray(batch[0] if isinstance(batch, tuple) else batch)


@pytest.mark.slow
@pytest.mark.parametrize("task", systems.TASKS)
def test_every_system_gives_batches_of_the_task(stages, task):
    task = systems.TASKS[task]
    for system in task.systems(stages[task.encoding]):
        moved = task.systems in (systems.train_feed, systems.balanced)
        batches = system.batches()
        count = system.pass_batches or 2
        for batch in itertools.islice(batches, count):
            image = image_of(batch)
            assert image.shape == (BATCH, SIZE, SIZE, 3), system.name
            assert image.dtype == (np.float32 if moved else np.uint8), system.name
            assert 0 <= image.min() < image.max() <= (1 if moved else 255), system.name
            count -= 1
        assert count == 0, system.name


@pytest.mark.parametrize("missing", [(), ("cv2",), ("cv2", "scipy")])
@pytest.mark.parametrize("task", systems.TASKS)
def test_a_base_is_there_whatever_is_missing(stages, monkeypatch, task, missing):
    optional = arrays.optional
    monkeypatch.setattr(
        arrays, "optional", lambda name: None if name in missing else optional(name)
    )
    task = systems.TASKS[task]
    names = [system.name for system in task.systems(stages[task.encoding])]
    assert systems.OURS in names and len(names) == len(set(names)) >= 2
    assert set(names) & set(task.bases)
    assert not any("cv2" in name for name in names if "cv2" in missing)


def test_arrays_are_told_the_rows_that_ours_draws(stages):
    memory = stages["raw"].in_memory("balanced")
    ours, taken, *_ = (system.batches() for system in systems.read_in_memory(memory))
    for _ in memory.order:
        np.testing.assert_array_equal(image_of(next(ours)), next(taken))
    labels = stages["raw"].labels[memory.order]
    assert labels.shape == (5, BATCH) and labels.sum() == 20  # half of 40 draws, of a quarter


def test_a_list_from_nothing_loads_nothing(stages):
    stage = systems.Inputs(stages["raw"].records, "train", BATCH)
    names = [system.name for system in systems.from_nothing(stage)]
    assert systems.OURS in names and "rows" not in vars(stage)


def test_rows_of_arrays_are_these_arrays():
    pixels = np.stack([fakes.pixels(seed, SIZE) for seed in range(5)])
    rows = systems.ours_of_arrays(pixels, np.arange(5) % 2)
    plan = systems.plan(np.arange(5) % 2, ["a", "b"], "natural", 5)
    memory = systems.InMemory(rows, plan)
    np.testing.assert_array_equal(memory.pixels, pixels)
    assert sorted(memory.order.ravel()) == list(range(5)) and memory.maps.shape == (1, 5, 6)
    assert systems.ours_free_memory() > 1 << 20
