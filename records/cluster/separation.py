"""Decides whether clusters are two kinds of images, photographs and drawings.

Clustering finds clusters even where there is only one kind of image. So two sides count as two
kinds only if they are far apart in photo-likeness, do not overlap in it but for their outermost
tenths, and have a silhouette well above that of one normal distribution of the same covariance
clustered in two. Of 289 classes and random parts of classes of one kind (drawings or photographs,
raw and JPEG, 30 to 1,000 images of 32 to 128 pixels) 4 were called two kinds, all of them portraits
of which some are on white.
"""

import dataclasses

import numpy as np

from records.cluster import clustering
from records.cluster import features as cluster_features
from records.cluster.clustering import ClusterOptions, Clusters
from records.cluster.features import Features

TWO_KINDS, ONE_KIND, TOO_FEW = "two kinds", "one kind", "too few images"
STRAY = ("auto", "photos", "drawings")
LIMITS = {  # of two kinds
    "step": 0.25,  # between the median photo-likeness of the two sides
    "gap": 0.0,  # between the nearest tenths of the two sides
    "gain": 0.1,  # of the silhouette over the reference
}

_REFERENCES, _REFERENCE_ROWS = 5, 1000
_MINORITY = 1 / 3  # of a class; a smaller side is the stray one, whatever the rest of the set
_MARKS = 3  # statistics in a description
_MIN_SPREAD = 0.01  # of a statistic, so that a nearly constant one does not stand out


@dataclasses.dataclass(frozen=True)
class Separation:
    """The separation of two sides, and the verdict.

    Attributes:
        verdict: `TWO_KINDS`, `ONE_KIND` or `TOO_FEW`, for which all numbers are 0.
        silhouette: mean of Rousseeuw (1987), "Silhouettes: a graphical aid", -1 to 1.
        reference: mean silhouette of two clusters of one normal distribution, same covariance.
        step: difference of the two medians of photo-likeness.
        gap: from the 90th percentile of the less photo-like side to the 10th of the other;
            negative where they overlap.
    """

    verdict: str = TOO_FEW
    silhouette: float = 0.0
    reference: float = 0.0
    step: float = 0.0
    gap: float = 0.0


def separation(features: Features, clusters: Clusters, options: ClusterOptions) -> Separation:
    """Returns the separation of the two sides of clusters, made from these features and options."""
    if len(features) < options.min_rows:
        return Separation()
    values = clustering.scaled(features, options)[clusters.sample]
    likeness = features.photo_likeness()[clusters.sample]
    is_photo = clusters.is_photo[clusters.sample]
    high, low = likeness[is_photo], likeness[~is_photo]
    step = float(np.median(high) - np.median(low))
    gap = float(np.quantile(high, 0.1) - np.quantile(low, 0.9))
    silhouette, reference = clustering.silhouette(values, is_photo), _reference(values, options)
    measured = {"step": step, "gap": gap, "gain": silhouette - reference}
    apart = all(measured[name] >= limit for name, limit in LIMITS.items())
    return Separation(TWO_KINDS if apart else ONE_KIND, silhouette, reference, step, gap)


def _reference(values: np.ndarray, options: ClusterOptions) -> float:
    """Returns the mean silhouette of two clusters of normal samples with the same covariance.

    A reference without clusters, as in the gap statistic (Tibshirani, Walther and Hastie 2001).
    Rotation preserves distances, so the samples are drawn along the principal axes.
    """
    spreads = np.linalg.svd(values - values.mean(0), compute_uv=False) / np.sqrt(len(values))
    if spreads.max() <= clustering.TINY:
        return 0.0  # all rows are equal
    rng = np.random.default_rng(options.seed)
    silhouettes = []
    for _ in range(_REFERENCES):
        sample = rng.normal(size=(min(len(values), _REFERENCE_ROWS), len(spreads))) * spreads
        labels = clustering.agglomerate(sample, options.linkage, 2)
        silhouettes.append(clustering.silhouette(sample, labels))
    return float(np.mean(silhouettes))


def describe(features: Features, in_cluster: np.ndarray) -> tuple[str, ...]:
    """Describes the three statistics in which a cluster, bool [n], differs most from the others.

    They are ranked by the difference of medians in units of the median absolute deviations.
    """
    if in_cluster.all() or not in_cluster.any():
        return ()
    inside, outside = features.statistics[in_cluster], features.statistics[~in_cluster]
    here, there = np.median(inside, axis=0), np.median(outside, axis=0)
    spread = np.median(np.abs(inside - here), axis=0) + np.median(np.abs(outside - there), axis=0)
    effects = (here - there) / np.maximum(spread, _MIN_SPREAD)
    words = list(cluster_features.STATISTICS.values())
    return tuple(
        f"{words[i]} {here[i] * 100:.0f} % (others {there[i] * 100:.0f} %)"
        for i in np.argsort(-np.abs(effects), kind="stable")[:_MARKS]
        if effects[i]
    )


def is_stray(
    clusters: Clusters, verdict: str, likeness: np.ndarray, *, usual: float, stray: str
) -> np.ndarray:
    """Returns bool [n]: the images proposed for exclusion, none unless there are two kinds.

    Args:
        clusters: of the n images of a class.
        verdict: see `Separation`.
        likeness: float64 [n], their photo-likeness.
        usual: median photo-likeness of the set.
        stray: `photos`, `drawings`, or `auto`: the side with less than a third of the images; if
            there is none, the side whose median is further from the usual one.
    """
    if verdict != TWO_KINDS:
        return np.zeros(len(likeness), bool)
    photos = clusters.is_photo
    if stray == "auto":
        share = float(photos.mean())
        high, low = np.median(likeness[photos]), np.median(likeness[~photos])
        unusual = abs(high - usual) > abs(low - usual)
        are_photos = unusual if _MINORITY <= share <= 1 - _MINORITY else share < _MINORITY
        stray = "photos" if are_photos else "drawings"
    return photos if stray == "photos" else ~photos
