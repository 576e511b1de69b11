"""Agreement with tags, worked out by hand."""

import numpy as np
import pytest

from records.cluster import agreement

KEYS = ["a", "b", "c", "d", "e", "f"]
BY_KEY = {"a": "photo", "b": "photo", "c": "drawing", "d": "drawing", "e": "drawing", "g": "photo"}
CLASSES = {"x": np.array([0, 2, 3]), "y": np.array([1, 4, 5]), "z": np.array([], np.int64)}


def tags(by_key=BY_KEY, **options):
    return agreement.tags_of(KEYS, by_key, present=[*KEYS, "h"], **options)


def test_tags_are_joined_by_key_and_what_is_left_over_is_named():
    found = tags({**BY_KEY, "h": "photo", "\udcff": "photo"})
    assert found.of_row.tolist() == ["photo", "photo", "drawing", "drawing", "drawing", ""]
    assert found.not_in_set == ("g", "\udcff")  # h is in the set, but not looked at
    assert found.stray == ("photo",)  # the rarest
    assert found.given == {"drawing": 3, "photo": 2}


def test_figures_are_those_worked_out_by_hand():
    proposed = np.array([True, False, True, False, False, True])
    said = agreement.agreement(tags(), proposed.astype(int), proposed, CLASSES)
    assert said["proposed"] == 2  # f has no tag
    assert (said["stray"], said["both"], said["without_tag"]) == (2, 1, 1)
    assert (said["precision"], said["recall"]) == (0.5, 0.5)
    # x: {a, c} against {d}, tags {a} against {c, d}: of 3 pairs 0 are together in both, 1 in each.
    assert said["classes"]["x"] == {"ari": pytest.approx(-0.5), "images": 3, "stray": 1}
    assert said["classes"]["y"] == {"ari": 0.0, "images": 2, "stray": 1}  # b and e in one side
    assert said["mean_ari"] == pytest.approx(-0.25)
    # Of 10 pairs 1 is together in both, 4 in each; by chance it would be 1.6.
    assert said["overall_ari"] == pytest.approx((1 - 1.6) / (4 - 1.6))


def test_where_nothing_is_proposed_there_is_no_precision():
    none = np.zeros(6, bool)
    said = agreement.agreement(tags(), none, none, {"x": np.array([2, 3])})
    assert said["precision"] is None and said["recall"] == 0
    assert said["classes"] == {} and said["mean_ari"] is None


def test_ignored_tags_count_for_nothing():
    found = tags({**BY_KEY, "f": "cut out"}, ignored=["cut out"])
    assert not found.is_known[5] and found.given["cut out"] == 1
    said = agreement.agreement(found, np.ones(6), np.ones(6, bool), CLASSES)
    assert said["proposed"] == 5 and said["without_tag"] == 0


@pytest.mark.parametrize(
    ("by_key", "options", "said"),
    [
        ({"g": "photo"}, {}, "at least one image must have a tag, got 1"),
        (BY_KEY, {"stray": ["painting"]}, "no image has the tag 'painting'; .*'drawing', 'photo'"),
        (BY_KEY, {"ignored": ["photo"]}, r"at least two tags must remain .*\['drawing'\]"),
        (BY_KEY, {"stray": ["photo"], "ignored": ["photo"]}, "'photo' cannot be both"),
    ],
)
def test_tags_that_compare_nothing_are_refused(by_key, options, said):
    with pytest.raises(ValueError, match=said):
        tags(by_key, **options)
