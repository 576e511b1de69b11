"""Photographs and drawings are parted, in a stable order, from all rows or from a sample."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from records.cluster import clustering
from records.cluster import features as cluster_features
from tests.records import pictures

DRAWINGS, PHOTOS = 60, 40


@pytest.fixture(scope="module")
def mixed():
    return cluster_features.extract([pictures.stacked(DRAWINGS, PHOTOS)])


def names(features):
    return [b"%d" % row for row in range(len(features))]


def parted(of, **options):
    return clustering.cluster(of, names(of), clustering.ClusterOptions(**options))


def truth(features):
    return np.arange(len(features)) >= DRAWINGS


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"linkage": "average"},
        {"linkage": "complete"},
        {"scaling": "robust"},
        {"scaling": "none"},
        {"features": "statistics"},
        {"num_clusters": 4},
        {"max_rows": 50},
    ],
)
def test_a_mixture_is_parted_into_its_two_kinds(mixed, options):
    found = parted(mixed, **options)
    assert adjusted_rand_score(truth(mixed), found.is_photo) >= 0.95
    if "num_clusters" not in options:
        np.testing.assert_array_equal(found.is_photo, found.cluster == 0)


def test_the_most_photo_like_cluster_comes_first(mixed):
    found = parted(mixed, num_clusters=5)
    likeness = mixed.photo_likeness()
    medians = [np.median(likeness[found.cluster == number]) for number in range(5)]
    assert medians == sorted(medians, reverse=True)


def test_margins_are_high_at_the_centre_and_low_at_the_border(mixed):
    found = parted(mixed)
    values = clustering.scaled(mixed, clustering.ClusterOptions())
    own, other = (values[found.cluster == number].mean(0) for number in (0, 1))
    row = int(np.flatnonzero(found.cluster == 0)[0])
    near, far = (np.linalg.norm(values[row] - centre) for centre in (own, other))
    assert found.distance[row] == pytest.approx(near)
    assert found.margin[row] == pytest.approx((far - near) / max(near, far))
    assert (np.abs(found.margin) <= 1).all()


def test_equal_input_gives_equal_clusters(mixed):
    first, second = parted(mixed, num_clusters=3), parted(mixed, num_clusters=3)
    np.testing.assert_array_equal(first.cluster, second.cluster)
    np.testing.assert_array_equal(first.margin, second.margin)


def test_a_sample_is_drawn_by_keys_not_by_order(mixed):
    options = clustering.ClusterOptions(max_rows=30)
    keys = names(mixed)
    forward = clustering.cluster(mixed, keys, options)
    backward = clustering.cluster(mixed.take(np.arange(len(keys))[::-1]), keys[::-1], options)
    assert len(forward.sample) == 30 and (np.diff(forward.sample) > 0).all()
    np.testing.assert_array_equal(forward.sample, np.sort(len(keys) - 1 - backward.sample))
    np.testing.assert_array_equal(forward.cluster, backward.cluster[::-1])
    other = clustering.cluster(mixed, keys, clustering.ClusterOptions(max_rows=30, seed=1))
    assert forward.sample.tolist() != other.sample.tolist()


def test_rows_beyond_the_sample_go_to_the_nearest_centre(mixed):
    found = parted(mixed, max_rows=30)
    values = clustering.scaled(mixed, clustering.ClusterOptions())
    sampled = found.cluster[found.sample]
    centres = [values[found.sample][sampled == number].mean(0) for number in (0, 1)]
    rest = np.setdiff1d(np.arange(len(mixed)), found.sample)
    nearest = np.argmin([np.linalg.norm(values[rest] - centre, axis=1) for centre in centres], 0)
    np.testing.assert_array_equal(found.cluster[rest], nearest)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_are_one_cluster(mixed, count):
    found = parted(mixed.take(np.arange(count)))
    assert found.cluster.tolist() == [0] * count and not found.is_photo.any()


def test_half_of_the_scaled_variance_is_texture(mixed):
    texture = len(cluster_features.TEXTURE)
    spread = clustering.scaled(mixed, clustering.ClusterOptions()).var(0)
    assert spread[:texture].sum() == pytest.approx(1)
    assert spread[texture:].sum() < 1.001  # less where a bin of the histogram is never used
    raw = clustering.scaled(mixed, clustering.ClusterOptions(scaling="none", features="histogram"))
    np.testing.assert_array_equal(raw, mixed.histogram)


def test_robust_scaling_bears_what_lies_far_out(mixed):
    statistics = mixed.statistics.copy()
    statistics[0, 0] = 1e6
    odd = cluster_features.Features(statistics, mixed.histogram)
    robust = clustering.ClusterOptions(scaling="robust", features="statistics")
    plain = clustering.scaled(mixed, robust)[1:, 0]
    np.testing.assert_allclose(clustering.scaled(odd, robust)[1:, 0], plain, atol=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_clusters": 1}, r"num_clusters must lie in 2..100, got 1"),
        ({"num_clusters": 20, "max_rows": 30}, "max_rows must be at least 40, got 30"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"linkage": "single"}, "linkage must be one of ward, .*'single'"),
        ({"scaling": "minmax"}, "scaling must be one of .*'minmax'"),
        ({"features": "none"}, "features must be one of .*'none'"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        clustering.ClusterOptions(**options)
