"""Rows of several splits keep their own key, label and pixels, in any order."""

import numpy as np
import pytest

from records.format.manifest import ManifestError
from records.inspect import row_table
from tests.records import made

ROWS = made.rows([b"\xff", b"b", b"c", b"d", b"e", b"f"])  # every third in test


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return made.record_set_of(tmp_path_factory.mktemp("table") / "set", ROWS)


@pytest.mark.parametrize(
    ("splits", "keys"),
    [
        (["train"], ["\udcff", "b", "d", "e"]),
        (["test", "train"], ["c", "f", "\udcff", "b", "d", "e"]),
    ],
)
def test_splits_stand_one_after_the_other(opened, splits, keys):
    found = row_table.rows_of(opened, splits)
    assert found.keys == keys and len(found) == len(keys)
    assert [splits[at] for at in found.split] == sorted(
        (row.split for row in ROWS if row.split in splits), key=splits.index
    )


def test_rows_taken_in_another_order_stay_themselves(opened):
    found = row_table.rows_of(opened, ["train", "test"]).take(np.array([4, 1, 5, 0]))
    assert found.raw_keys == [b"c", b"b", b"f", b"\xff"]
    by_key = {row.key: row for row in ROWS}
    for at, key in enumerate(found.raw_keys):
        assert found.label[at] == by_key[key].label
        assert found.column("domain")[at] == by_key[key].domain
        np.testing.assert_array_equal(found.pixels(at), made.image_of(by_key[key]))


def test_a_split_that_is_not_there_is_named(opened):
    with pytest.raises(ManifestError, match="no split 'validation'; the record set has train"):
        row_table.rows_of(opened, ["validation"])
