import numpy as np

from records import audit, tiling
from tests import fakes


def test_rows_repeat_under_new_keys(tmp_path):
    records = fakes.built(tmp_path, {"a": 20, "b": 10})
    (tmp_path / "tiled").mkdir()
    tiled = tiling.tile(records, "train", 700, str(tmp_path / "tiled"))
    before, after = records.index("train"), tiled.index("train")
    assert len(after) == 700 == len(set(after.keys)) and audit.verify(tiled.folder) == []
    assert len(tiled.manifest.split("train").shards) > 1
    for row in (0, 17, 18, 350, 699):
        original = row % len(before)
        np.testing.assert_array_equal(tiled.pixels("train", row), records.pixels("train", original))
        assert after.label[row] == before.label[original]
        assert after.keys[row].startswith(before.keys[original] + b"#")
