"""Whether clusters are two kinds of pictures, photographs and drawings, and what marks them.

Clustering always finds clusters, also where there is one kind of picture only. So they are called
two kinds only if three things hold: the two sides lie far apart in how photo-like they are, all but
their outermost tenths do not overlap in that, and as clusters they are tighter than those that the
same clustering cuts out of one normal cloud of the same spread. Of 289 classes and random parts of
classes of one kind (drawings or photographs, raw and JPEG, 30 to 1,000 pictures of 32 to 128
pixels) that took 4 for two kinds, all of them portraits some of which stand on white.
"""

import dataclasses

import numpy as np

from records.cluster import clustering, scikit
from records.cluster import features as cluster_features
from records.cluster.clustering import ClusterOptions, Clusters
from records.cluster.features import Features

TWO_KINDS, ONE_KIND, TOO_FEW = "two kinds", "one kind", "too few images"
STRAY = ("auto", "photos", "drawings")
LEAST_STEP = 0.25  # between the medians of photo-likeness of the two sides
LEAST_GAP = 0.0  # between the nearest tenths of the two sides
LEAST_GAIN = 0.1  # of the silhouette over that of one cloud

_CLOUDS, _CLOUD_ROWS = 5, 1000
_MINORITY = 1 / 3  # of a class: the smaller side is the stray one, whatever the set is like
_MARKS = 3  # statistics that a description names
_LEAST_SPREAD = 0.01  # of a statistic, so that a constant one does not stand out for nothing


@dataclasses.dataclass(frozen=True)
class Separation:
    """How far two sides are apart, and what that means.

    Attributes:
        verdict: `TWO_KINDS`, `ONE_KIND` or `TOO_FEW`; of too few all numbers are 0.
        silhouette: mean of Rousseeuw (1987), "Silhouettes: a graphical aid", -1 to 1.
        reference: what two clusters cut out of one normal cloud have, of the same covariance.
        step: difference of the two medians of photo-likeness.
        gap: from the 90th percentile of the less photo-like side to the 10th of the other; below 0
            they overlap.
    """

    verdict: str = TOO_FEW
    silhouette: float = 0.0
    reference: float = 0.0
    step: float = 0.0
    gap: float = 0.0


def separation(features: Features, found: Clusters, options: ClusterOptions) -> Separation:
    """Returns how far the two sides of clusters are apart.

    Args:
        features: of the n pictures that were clustered.
        found: their clusters.
        options: by which they were found.
    """
    if len(features) < options.least_rows:
        return Separation()
    values = clustering.scaled(features, options)[found.sample]
    likeness, is_photo = features.photo_likeness()[found.sample], found.is_photo[found.sample]
    high, low = likeness[is_photo], likeness[~is_photo]
    step = float(np.median(high) - np.median(low))
    gap = float(np.quantile(high, 0.1) - np.quantile(low, 0.9))
    silhouette, reference = scikit.silhouette(values, is_photo), _reference(values, options)
    apart = step >= LEAST_STEP and gap >= LEAST_GAP and silhouette - reference >= LEAST_GAIN
    return Separation(TWO_KINDS if apart else ONE_KIND, silhouette, reference, step, gap)


def _reference(values: np.ndarray, options: ClusterOptions) -> float:
    """Returns the mean silhouette of two clusters of normal clouds with the same covariance.

    As the gap statistic compares with a cloud without clusters (Tibshirani, Walther and Hastie
    2001). Distances do not change when a cloud is turned, so its axes may be those of the features.
    """
    spreads = np.linalg.svd(values - values.mean(0), compute_uv=False) / np.sqrt(len(values))
    if spreads.max() <= clustering.TINY:
        return 0.0  # nothing to cut
    draw = np.random.default_rng(options.seed)
    found = []
    for _ in range(_CLOUDS):
        cloud = draw.normal(size=(min(len(values), _CLOUD_ROWS), len(spreads))) * spreads
        found.append(scikit.silhouette(cloud, scikit.linked(cloud, options.linkage, 2)))
    return float(np.mean(found))


# --- in words ---


def described(features: Features, of_cluster: np.ndarray) -> tuple[str, ...]:
    """Returns the three statistics in which some pictures differ most from the others, in words.

    That is the difference of medians in units of the median absolute deviations of the two.

    Args:
        features: of n pictures.
        of_cluster: bool [n]; if all or none are meant there is nothing to say.
    """
    if of_cluster.all() or not of_cluster.any():
        return ()
    inside, outside = features.statistics[of_cluster], features.statistics[~of_cluster]
    here, there = np.median(inside, axis=0), np.median(outside, axis=0)
    spread = np.median(np.abs(inside - here), axis=0) + np.median(np.abs(outside - there), axis=0)
    effects = (here - there) / np.maximum(spread, _LEAST_SPREAD)
    words = list(cluster_features.STATISTICS.values())
    return tuple(
        f"{words[at]} {here[at] * 100:.0f} % (others {there[at] * 100:.0f} %)"
        for at in np.argsort(-np.abs(effects), kind="stable")[:_MARKS]
        if effects[at]
    )


def is_stray(
    found: Clusters, verdict: str, likeness: np.ndarray, *, usual: float, stray: str
) -> np.ndarray:
    """Returns bool [n]: pictures proposed to be left out; none where there is one kind.

    Args:
        found: the clusters of n pictures of a class.
        verdict: on them, as of `Separation`.
        likeness: float64 [n], their photo-likeness.
        usual: median of the photo-likeness of the whole set.
        stray: `photos`, `drawings`, or `auto`: the side that holds less than a third of the
            pictures; if neither does, the one whose median is further from the usual one.
    """
    if verdict != TWO_KINDS:
        return np.zeros(len(likeness), bool)
    photos = found.is_photo
    if stray == "auto":
        share = float(photos.mean())
        high, low = np.median(likeness[photos]), np.median(likeness[~photos])
        unusual = abs(high - usual) > abs(low - usual)
        are_photos = unusual if _MINORITY <= share <= 1 - _MINORITY else share < _MINORITY
        stray = "photos" if are_photos else "drawings"
    return photos if stray == "photos" else ~photos
