"""Two kinds are told from one kind that was cut in two, and named by what sets them apart."""

import numpy as np
import pytest

from records.cluster import clustering, separation
from records.cluster import features as cluster_features
from tests.records import pictures


def judged(images, **options):
    features = cluster_features.extract([images])
    chosen = clustering.ClusterOptions(**options)
    keys = [b"%d" % row for row in range(len(features))]
    found = clustering.cluster(features, keys, chosen)
    return features, found, separation.separation(features, found, chosen)


def strays(images, usual, stray):
    features, found, apart = judged(images)
    likeness = features.photo_likeness()
    return separation.is_stray(found, apart.verdict, likeness, usual=usual, stray=stray)


@pytest.mark.parametrize(
    ("drawings", "num_photos", "verdict"),
    [
        (40, 40, separation.TWO_KINDS),
        (80, 8, separation.TWO_KINDS),
        (8, 80, separation.TWO_KINDS),
        (80, 0, separation.ONE_KIND),
        (0, 80, separation.ONE_KIND),
        (3, 4, separation.TOO_FEW),
    ],
)
def test_the_verdict_is_on_kinds_not_on_clusters(drawings, num_photos, verdict):
    _, _, apart = judged(pictures.stacked(drawings, num_photos))
    assert apart.verdict == verdict
    if verdict == separation.TWO_KINDS:
        assert apart.silhouette > apart.reference + 0.1 and apart.gap > 0 and apart.step > 0.25


def test_with_more_clusters_a_single_stray_picture_is_found():
    _, found, apart = judged(pictures.stacked(60, 1), num_clusters=6)
    assert apart.verdict == separation.TWO_KINDS
    assert np.flatnonzero(found.is_photo).tolist() == [60]


def test_equal_pictures_are_one_kind():
    _, _, apart = judged(np.zeros((40, 8, 8, 3), np.uint8))
    assert apart == separation.Separation(separation.ONE_KIND)


def test_the_reference_depends_on_the_seed_alone():
    images = pictures.stacked(20, 20)
    first, again, other = (judged(images, seed=seed)[2].reference for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("drawings", "num_photos", "usual", "stray", "photos_go"),
    [
        (60, 20, 0.6, "auto", True),  # less than a third, though the set is of photographs
        (20, 60, 0.1, "auto", False),
        (40, 40, 0.1, "auto", True),  # neither: the set is of drawings
        (40, 40, 0.6, "auto", False),
        (20, 60, 0.1, "photos", True),
        (60, 20, 0.6, "drawings", False),
    ],
)
def test_the_smaller_or_less_usual_side_is_stray(drawings, num_photos, usual, stray, photos_go):
    found = strays(pictures.stacked(drawings, num_photos), usual, stray)
    is_photo = np.arange(drawings + num_photos) >= drawings
    np.testing.assert_array_equal(found, is_photo if photos_go else ~is_photo)


@pytest.mark.parametrize("stray", separation.STRAY)
def test_nothing_of_one_kind_is_stray(stray):
    assert not strays(pictures.stacked(60, 0), 0.6, stray).any()


def test_the_three_largest_differences_are_named():
    statistics = np.full((40, len(cluster_features.STATISTICS)), 0.49)
    statistics[::2] += 0.02
    order = list(cluster_features.STATISTICS)
    for name, by in (("white", 0.4), ("soft", -0.3), ("rare", 0.2)):
        statistics[:10, order.index(name)] += by
    features = cluster_features.Features(statistics, np.zeros((40, 48)))
    said = separation.describe(features, np.arange(40) < 10)
    assert [text.rpartition(" (")[0] for text in said] == [
        "white pixels 90 %",
        "soft differences between neighbours 20 %",
        "pixels beyond the eight commonest colours 70 %",
    ]
    assert said[0].endswith("(others 50 %)")
    assert separation.describe(features, np.ones(40, bool)) == ()
