import numpy as np
import pytest

from records.builder import replicate
from records.image import decode
from records.inspect import verify
from tests import fakes


def test_rows_repeat_under_new_keys(tmp_path):
    records = fakes.built(tmp_path, {"a": 20, "b": 10})
    (tmp_path / "tiled").mkdir()
    tiled = replicate.tile(records, "train", 700, str(tmp_path / "tiled"))
    before, after = records.index("train"), tiled.index("train")
    assert len(after) == 700 == len(set(after.keys)) and verify.verify(tiled.folder) == []
    assert len(tiled.manifest.split("train").shards) > 1
    for row in (0, 17, 18, 350, 699):
        original = row % len(before)
        np.testing.assert_array_equal(tiled.pixels("train", row), records.pixels("train", original))
        assert after.label[row] == before.label[original]
        assert after.keys[row].startswith(before.keys[original] + b"#")


@pytest.mark.parametrize("wanted", ["", *decode.ENCODINGS])
@pytest.mark.parametrize("given", decode.ENCODINGS)
def test_pixels_keep_their_look_in_another_encoding(tmp_path, given, wanted):
    records = fakes.built(tmp_path, {"a": 3, "b": 3}, ratios={"train": 1.0}, encoding=given)
    (tmp_path / "tiled").mkdir()
    tiled = replicate.tile(records, "train", 9, str(tmp_path / "tiled"), encoding=wanted)
    assert tiled.manifest.encoding == (wanted or given) and verify.verify(tiled.folder) == []
    before, after = records.pixels("train", 2), tiled.pixels("train", 8)
    lossy = wanted == "jpeg" != given
    np.testing.assert_allclose(after.astype(int), before, atol=16 if lossy else 0)


def test_an_unknown_encoding_is_refused(tmp_path):
    records = fakes.built(tmp_path, {"a": 3}, ratios={"train": 1.0})
    with pytest.raises(ValueError, match=r"encoding must be one of .*, got 'webp'"):
        replicate.tile(records, "train", 3, str(tmp_path), encoding="webp")
