import numpy as np
import pytest

from datapipe.benchmark import scaling as curve
from datapipe.benchmark import systems
from datapipe.profile.timing import Timing
from tests import fakes

TIMING, BATCH = Timing(turns=1, seconds=1e-3), 4


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return fakes.built(folder, {"a": 20, "b": 4}, ratios={"train": 1.0}, encoding="png")


def test_a_point_is_measured_at_both_tasks(records, monkeypatch):
    monkeypatch.setattr(systems, "rates", lambda ways, *_: {way.name: [2.0] for way in ways})
    wanted = curve.Point("rows", 50, 8)
    found = curve.measured(records, "train", TIMING, BATCH, [wanted])
    points = [(point, row.task) for point, row in found.rows if row.system == systems.OURS]
    assert points == [(wanted, "READ"), (wanted, "TRAIN_FEED")]
    line = found.to_json()["rows"][0]
    assert line["num_rows"] == 50 and line["curve"] == "rows" and line["images_per_second"] == 2


def test_a_point_that_does_not_fit_is_left_out_and_said(records, monkeypatch):
    small, large = curve.Point("rows", 10, 8), curve.Point("rows", 1000, 8)
    monkeypatch.setattr(systems, "ours_free_memory", lambda: 2 * large.num_bytes - 1)
    monkeypatch.setattr(curve, "_rows", lambda memory, timing: [])
    found = curve.measured(records, "train", TIMING, BATCH, [small, large])
    assert found.to_json() == {"rows": [], "left_out": ["1,000 rows of 8x8"]}


def test_rows_are_real_images_resized_and_repeated():
    pixels = np.stack([np.full((16, 16, 3), shade, np.uint8) for shade in (10, 20, 30)])
    found = curve._resized(pixels, curve.Point("rows", 7, 5))
    assert found.shape == (7, 5, 5, 3)
    assert found[:, 0, 0, 0].tolist() == [10, 20, 30, 10, 20, 30, 10]


def test_the_points_are_as_promised():
    by_rows = [point.num_rows for point in curve.POINTS if point.curve == "rows"]
    by_size = [point for point in curve.POINTS if point.curve == "image_size"]
    assert by_rows == [1_000, 10_000, 100_000, 1_000_000]
    assert [point.image_size for point in by_size] == [32, 64, 96, 128, 224]
    amounts = [point.num_bytes for point in by_size]
    assert max(amounts) - min(amounts) < 224 * 224 * 3  # but for the last image
    assert by_size[1].num_rows == 32_768
