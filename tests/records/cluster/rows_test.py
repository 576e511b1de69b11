"""Rows of some splits and classes, with their own pixels, and groups that propose exclusions."""

import numpy as np
import pytest

from records.cluster import clustering, features, rows, separation
from tests.records import made, pictures

NAMES = ("a", "쓴 b")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Returns a set with drawings in both classes and photographs in the first."""
    images = pictures.stacked(60, 20)
    every = [
        made.Row(
            b"%d.png" % at,
            label=int(20 <= at < 60),
            split=("train", "test")[at % 4 == 0],
            image=image,
        )
        for at, image in enumerate(images)
    ]
    folder = tmp_path_factory.mktemp("rows") / "set"
    return made.record_set_of(folder, every, class_names=NAMES, image_size=pictures.SIDE)


@pytest.mark.parametrize(
    ("splits", "labels", "count"),
    [(["train", "test"], None, 80), (["test"], None, 20), (["train"], [1], 30), (["test"], [], 0)],
)
def test_splits_and_classes_are_chosen(opened, splits, labels, count):
    found = rows.rows_of(opened, splits, labels)
    assert len(found) == len(found.keys) == count
    assert {splits[at] for at in found.split} <= set(splits)
    assert labels is None or set(found.label) <= set(labels)


def test_each_row_has_its_own_key_and_pixels(opened):
    found = rows.rows_of(opened, ["test", "train"], [0])
    assert found.keys[0] == "0.png" and found.raw_keys[0] == b"0.png"
    at = found.keys.index("61.png")
    np.testing.assert_array_equal(found.pixels(at), pictures.stacked(60, 20)[61])


def test_features_are_those_of_the_rows_in_their_order(opened):
    found, read = rows.rows_of(opened, ["train", "test"], [1]), []
    images = np.stack([found.pixels(at) for at in range(len(found))])
    expected = features.extract([images])
    np.testing.assert_array_equal(
        rows.features_of(found, read.append).statistics, expected.statistics
    )
    assert sum(read) == len(found)


def test_groups_are_classes_or_all_rows(opened):
    found = rows.rows_of(opened, ["train"])
    groups = rows.groups_of(found, within_class=True)
    assert {name: len(members) for name, members in groups.items()} == {"a": 30, "쓴 b": 30}
    assert list(rows.groups_of(found, within_class=False)) == [rows.ALL]


def test_a_class_of_two_kinds_proposes_its_stray_images(opened):
    found = rows.rows_of(opened, ["train", "test"])
    groups = rows.groups_of(found, within_class=True)
    options = clustering.ClusterOptions()
    one, other = rows.cluster_groups(found, rows.features_of(found), groups, options, "photos")
    assert one.separation.verdict == separation.TWO_KINDS
    stray = {found.keys[at] for at in one.rows[one.stray]}
    assert stray == {f"{number}.png" for number in range(60, 80)}
    assert other.separation.verdict == separation.ONE_KIND and not other.stray.any()
