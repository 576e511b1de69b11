"""Deterministic agglomerative clustering of images.

scikit-learn clusters and measures, because a bug of ours would look like a finding. Importing it
takes a second and most commands never cluster, so only the functions that need it import it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from records.cluster import features as cluster_features
from records.cluster.features import Features
from records.common import checks
from records.format import sharding

LINKAGES = ("ward", "average", "complete")
SCALINGS = ("standard", "robust", "none")
FEATURE_SETS = ("all", "statistics", "histogram")

_MIN_ROWS = 8  # for clustering
_MAX_DEVIATION = 4.0  # scaled values are clipped to it
_SILHOUETTE_MIB = 64  # of distances in memory while silhouettes are computed
TINY = 1e-9


# The evidence for the defaults: 20 classes of illustrations with 510 tagged photographs in three of
# them; mean adjusted Rand index of the two sides and the tags over these three classes.
#
#   features                     ward    average   complete
#   all, standard               0.984     -0.003      0.332
#   all, robust                 0.977      0.984      0.980
#   all, none                   0.984      0.984      0.822
#   statistics, standard        0.988     -0.003      0.332
#   histogram, standard         0.854      0.001      0.001
#
# By class the defaults have 1.000, 1.000 and 0.953; the unscaled histogram alone, the first idea,
# has 1.000, 0.953 and 0.580. Ward is the only linkage that is good with each scaling. The colour
# space of the histogram matters little (HLS 0.984, L*a*b* 0.989, RGB 0.981, HSV 0.974), so it is
# not an option.
@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """How images are clustered.

    Attributes:
        num_clusters: at least 2. More find rarer kinds: the clusters then form two sides, divided
            at the largest step in photo-likeness.
        linkage: of agglomerative clustering, one of `LINKAGES`.
        scaling: of each feature: `standard` by mean and standard deviation, `robust` by median and
            quartiles, `none`.
        features: `statistics` of texture and colour, the `histogram` of hue, lightness and
            saturation, or `all`, in which texture has half of the scaled variance.
        seed: of the sample, and of the reference for silhouettes.
        max_rows: rows clustered exactly, with memory for each pair of them: 154 MB for 6,206 rows.
            Of more rows a sample is clustered and the others are assigned to the nearest centroid.
    """

    num_clusters: int = 2
    linkage: str = "ward"
    scaling: str = "standard"
    features: str = "all"
    seed: int = 0
    max_rows: int = 7000

    def __post_init__(self) -> None:
        checks.between("num_clusters", self.num_clusters, 2, 100)
        checks.at_least("max_rows", self.max_rows, self.min_rows)
        checks.at_least("seed", self.seed, 0)
        checks.one_of("linkage", self.linkage, LINKAGES)
        checks.one_of("scaling", self.scaling, SCALINGS)
        checks.one_of("features", self.features, FEATURE_SETS)

    @property
    def min_rows(self) -> int:
        """The number of rows below which there is only one cluster."""
        return max(_MIN_ROWS, 2 * self.num_clusters)


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Images by cluster; number 0 is the cluster with the highest median photo-likeness.

    Attributes:
        cluster: int64 [n].
        distance: float64 [n], from the centroid of its cluster, in units of the scaled features.
        margin: float64 [n], in -1..1: how much nearer its centroid is than the next, relative to
            the larger distance; the simplified silhouette of Vendramin, Campello and Hruschka 2010.
            0 is on the boundary.
        is_photo: bool [n], whether its cluster is on the more photo-like side.
        sample: int64 [m], the rows that were clustered exactly, ascending.
    """

    cluster: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    is_photo: np.ndarray
    sample: np.ndarray


def cluster(features: Features, keys: Sequence[bytes], options: ClusterOptions) -> Clusters:
    """Returns images by cluster, only one if there are fewer than `options.min_rows`.

    `keys`, of the n images, decide which are sampled where there are too many.
    """
    if len(features) < options.min_rows:
        zeros = np.zeros(len(features))
        rows = np.arange(len(features))
        return Clusters(zeros.astype(np.int64), zeros, zeros, zeros.astype(bool), rows)
    values = scaled(features, options)
    sample = _sample(keys, options)
    likeness = features.photo_likeness()[sample]
    labels = agglomerate(values[sample], options.linkage, options.num_clusters)
    labels = _by_photo_likeness(labels, likeness)
    centroids = [values[sample][labels == label].mean(0) for label in range(labels.max() + 1)]
    distances = np.stack([np.sqrt(((values - c) ** 2).sum(1)) for c in centroids], axis=1)
    nearest = distances.argmin(1)
    nearest[sample] = labels
    distance, margin = _margins(distances, nearest)
    is_photo = _photo_clusters(labels, likeness)[nearest]
    return Clusters(nearest, distance, margin, is_photo, sample)


# --- scikit-learn ---


def agglomerate(values: np.ndarray, linkage: str, num_clusters: int) -> np.ndarray:
    """Returns int64 [n], the cluster of each row of float64 [n, columns], by Euclidean distance."""
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(num_clusters, linkage=linkage).fit_predict(values)


def silhouette(values: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean silhouette (Rousseeuw 1987) of rows of at least two labels, in -1..1."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_score

    with config_context(working_memory=_SILHOUETTE_MIB):
        return float(silhouette_score(values, labels))


def adjusted_rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Returns how well two partitions agree (Hubert and Arabie 1985): 1 fully, 0 as by chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first, second))


# --- features on one scale ---


def scaled(features: Features, options: ClusterOptions) -> np.ndarray:
    """Returns float64 [n, columns]: the features of the options, scaled."""
    texture = len(cluster_features.TEXTURE)
    statistics = features.statistics
    blocks = [(1.0, statistics[:, :texture]), (0.5, statistics[:, texture:])]
    histogram = [(0.5, features.histogram)]
    chosen = {"all": blocks + histogram, "statistics": blocks, "histogram": histogram}
    parts = [
        _scaled(columns, options.scaling, weight) for weight, columns in chosen[options.features]
    ]
    return np.concatenate(parts, axis=1)


def _scaled(columns: np.ndarray, scaling: str, weight: float) -> np.ndarray:
    """Returns columns scaled alike, with a total variance of `weight`."""
    values = columns.astype(np.float64)
    if scaling == "none":
        return values
    deviation = values.std(0)
    middle, spread = values.mean(0), deviation
    if scaling == "robust":
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
        spread = (high - low) / 1.349  # the standard deviation of a normal distribution
        # A bin that is empty for most images has equal quartiles.
        spread = np.where(spread > TINY, spread, deviation)
    values = (values - middle) / np.where(spread > TINY, spread, 1)
    if scaling == "robust":
        values = np.clip(values, -_MAX_DEVIATION, _MAX_DEVIATION)
    return values * np.sqrt(weight / values.shape[1])


def _sample(keys: Sequence[bytes], options: ClusterOptions) -> np.ndarray:
    """Returns the rows to cluster exactly, ascending: all, or those of the lowest key hashes."""
    if len(keys) <= options.max_rows:
        return np.arange(len(keys))
    hashes = [sharding.key_hash(key, f"cluster {options.seed}") for key in keys]
    return np.array(sorted(sorted(range(len(keys)), key=hashes.__getitem__)[: options.max_rows]))


# --- an order of clusters, and distances ---


def _by_photo_likeness(labels: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """Returns labels renumbered in descending order of median photo-likeness; ties by first row."""
    numbers, firsts = np.unique(labels, return_index=True)
    medians = [np.median(likeness[labels == number]) for number in numbers]
    order = np.lexsort((firsts, -np.array(medians)))
    return np.argsort(order)[labels]


def _photo_clusters(labels: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """Returns bool [clusters]: which are above the largest step of the medians."""
    medians = [np.median(likeness[labels == label]) for label in range(labels.max() + 1)]
    steps = -np.diff(medians)
    return np.arange(len(medians)) <= steps.argmax()


def _margins(distances: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(nearest))
    own = distances[rows, nearest]
    others = distances.copy()
    others[rows, nearest] = np.inf
    other = others.min(1)
    return own, (other - own) / np.maximum(np.maximum(own, other), TINY)
