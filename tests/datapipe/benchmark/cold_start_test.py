import pytest

from datapipe.benchmark import cold_start, systems
from datapipe.benchmark.cold_start import Started
from tests import fakes


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    records = fakes.built(tmp_path_factory.mktemp("set"), {"a": 24}, ratios={"train": 1.0})
    return systems.Inputs(records, "train", 8)


@pytest.mark.slow
def test_a_new_process_says_what_it_took(stage):
    started = cold_start.start(systems.OURS, stage)
    assert started.import_seconds > 0 and started.first_batch_seconds > 0
    assert started.peak_bytes > started.import_bytes > 50 << 20  # TensorFlow alone takes more


def test_a_process_that_fails_is_named(stage, monkeypatch):
    monkeypatch.setattr(cold_start.sys, "executable", "/bin/false")
    with pytest.raises(cold_start.FailedProcessError, match="process for 'x' failed: exit code 1"):
        cold_start.start("x", stage)


def test_one_process_serves_both_tasks(stage, monkeypatch):
    started = []

    def start(name, stage):
        started.append(name)
        return Started(2.0 * len(started), 1.0 * len(started), 1 << 20, (1 + len(started)) << 20)

    monkeypatch.setattr(cold_start, "start", start)
    names = [system.name for system in systems.from_nothing(stage)]
    found = cold_start.rows(stage, ["FIRST_BATCH", "MEMORY"], 3)
    assert started == names * 3  # in turns
    seconds = {row.system: row for row in found["FIRST_BATCH"]}
    first = seconds[systems.OURS]
    assert (first.lowest, first.median, first.highest) == (1.0, 5.0, 9.0)
    assert seconds["tutorial tf.data"].ratio == 1 and first.base == "tutorial tf.data"
    assert seconds["imports alone"].lowest == 2 * (1 + 2 + 3 + 4) / 4
    memory = {row.system: row for row in found["MEMORY"]}
    assert memory[systems.OURS].median == 5.0 and memory[systems.OURS].unit == "mebibytes"
    pixels = memory["the pixels themselves"]
    assert pixels.median == 24 * 16 * 16 * 3 / 2**20 and pixels.ratio == 1
    assert list(cold_start.rows(stage, ["MEMORY"], 1)) == ["MEMORY"]
