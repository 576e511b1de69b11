"""Where rows are kept, by choice and by what fits."""

import numpy as np
import pytest

from datapipe.rows import device, host, residency, streaming
from records.split import folds
from tests import fakes

KINDS = {
    "host": host.ResidentRows,
    "device": device.DeviceRows,
    "stream": streaming.StreamedRows,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 250, "b": 150})


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_where_they_were_wanted(records, name):
    opened = residency.open_rows(records, "train", residency=name, show_progress=False)
    assert isinstance(opened.rows, KINDS[name]) and opened.residency == name
    assert len(opened.rows) == 240 and opened.rows.image_size == 16
    np.testing.assert_array_equal(opened.rows.labels, records.index("train").label)
    assert opened.description.startswith("train: 240 rows of 16x16 are 0.2 MB decoded")


@pytest.mark.parametrize(
    ("free", "name", "reason"),
    [
        (10**9, "host", "kept in memory (1.00 GB free)"),
        (
            350 << 20,
            "stream",
            "367.0 MB of memory are free, so they are streamed (windows an epoch: 1)",
        ),
    ],
)
def test_auto_takes_memory_where_there_is_enough(records, monkeypatch, free, name, reason):
    monkeypatch.setattr(host, "free_memory", lambda: free)
    opened = residency.open_rows(records, "train", show_progress=False)
    assert opened.residency == name and reason in opened.description


@pytest.mark.parametrize("name", ["host", "device"])
def test_memory_that_is_not_there_is_refused_before_it_is_taken(records, monkeypatch, name):
    monkeypatch.setattr(host, "free_memory", lambda: 1000)
    monkeypatch.setattr(host, "_read_all", None)
    with pytest.raises(host.MemoryBudgetError, match=r"240 rows of 'train' need 0.00 GB"):
        residency.open_rows(records, "train", residency=name, show_progress=False)


def test_an_unknown_residency_is_refused(records):
    with pytest.raises(ValueError, match="one of auto, host, device, stream, got 'disk'"):
        residency.open_rows(records, "train", residency="disk")


@pytest.mark.parametrize("name", ["auto", "host", "device"])
def test_a_view_is_kept_in_memory_even_where_there_is_little(records, monkeypatch, name):
    monkeypatch.setattr(host, "free_memory", lambda: 350 << 20)
    view = folds.view(records, 5, 0, seed=0)
    opened = residency.open_rows(view, "train", residency=name, show_progress=False)
    assert opened.residency == ("host" if name == "auto" else name)
    np.testing.assert_array_equal(opened.rows.labels, view.index("train").label)


def test_a_view_that_does_not_fit_is_refused_and_not_streamed(records, monkeypatch):
    monkeypatch.setattr(host, "free_memory", lambda: 1000)
    with pytest.raises(host.MemoryBudgetError, match=r"400 rows of 'pooled' need 0.00 GB"):
        residency.open_rows(folds.pooled(records), "pooled", show_progress=False)


def test_a_view_cannot_be_streamed(records):
    with pytest.raises(ValueError, match=r"auto, host or device for a view .* got 'stream'"):
        residency.open_rows(folds.pooled(records), "pooled", residency="stream")
