"""Pictures parted into clusters by agglomerative clustering, the same for equal input."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from records.cluster import features as cluster_features
from records.cluster import scikit
from records.cluster.features import Features
from records.format import sharding

LINKAGES = ("ward", "average", "complete")
SCALINGS = ("standard", "robust", "none")
FEATURE_SETS = ("all", "statistics", "histogram")

_LEAST_ROWS = 8  # to be clustered
_MOST_SPREADS = 4.0  # a value further out, in units of its column, counts as this far
TINY = 1e-9


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """How pictures are clustered.

    Attributes:
        num_clusters: at least 2. With more than 2, rarer kinds are found: two sides are made of
            them, parted where photo-likeness makes its largest step.
        linkage: of agglomerative clustering, one of `LINKAGES`.
        scaling: of each feature: `standard` by mean and deviation, `robust` by median and
            quartiles, `none` leaves them.
        features: `histogram` is that of the colour space alone, `statistics` texture and looks,
            `all` both. Scaled, texture makes up half of all variance in `all`.
        seed: of the sample, and of the reference that clusters are compared with.
        most_rows: how many are clustered exactly. It takes memory for each pair of rows: 154 MB for
            6,206 rows. Of more, a sample is clustered and the others go to the nearest centre.
    """

    num_clusters: int = 2
    linkage: str = "ward"
    scaling: str = "standard"
    features: str = "all"
    seed: int = 0
    most_rows: int = 7000

    def __post_init__(self) -> None:
        if not 2 <= self.num_clusters <= 100:
            raise ValueError(f"num_clusters must lie in 2..100, got {self.num_clusters}")
        if self.most_rows < self.least_rows:
            raise ValueError(f"most_rows must be at least {self.least_rows}, got {self.most_rows}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")

    @property
    def least_rows(self) -> int:
        """How many rows it takes to be clustered at all."""
        return max(_LEAST_ROWS, 2 * self.num_clusters)


_CHOICES = {"linkage": LINKAGES, "scaling": SCALINGS, "features": FEATURE_SETS}


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Pictures by cluster; number 0 is the cluster with the highest median of photo-likeness.

    Attributes:
        cluster: int64 [n].
        distance: float64 [n], from the centre of its cluster, in units of the scaled features.
        margin: float64 [n], -1 to 1: how much nearer its centre is than the next, as a share of the
            larger distance; a simplified silhouette (Vendramin, Campello and Hruschka 2010). 0 is
            on the border.
        is_photo: bool [n], whether its cluster is on the more photo-like side.
        sample: int64 [m], the rows that were clustered exactly, rising.
    """

    cluster: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    is_photo: np.ndarray
    sample: np.ndarray


def parted(features: Features, keys: Sequence[bytes], options: ClusterOptions) -> Clusters:
    """Returns pictures by cluster; all are one if there are too few.

    Args:
        features: of n pictures.
        keys: n names, by which a sample is drawn where there are too many rows.
        options: how.
    """
    if len(features) < options.least_rows:
        return _one_cluster(len(features))
    values = scaled(features, options)
    sample = _sample(keys, options)
    labels = scikit.linked(values[sample], options.linkage, options.num_clusters)
    likeness = features.photo_likeness()[sample]
    labels = _in_order(labels, likeness)
    centres = np.stack([values[sample][labels == at].mean(0) for at in range(labels.max() + 1)])
    distances = _distances(values, centres)
    cluster = distances.argmin(1)
    cluster[sample] = labels
    distance, margin = _margins(distances, cluster)
    is_photo = _photo_clusters(labels, likeness)[cluster]
    return Clusters(cluster, distance, margin, is_photo, sample)


def _one_cluster(count: int) -> Clusters:
    return Clusters(
        cluster=np.zeros(count, np.int64),
        distance=np.zeros(count),
        margin=np.zeros(count),
        is_photo=np.zeros(count, bool),
        sample=np.arange(count),
    )


def scaled(features: Features, options: ClusterOptions) -> np.ndarray:
    """Returns float64 [n, columns]: the features to cluster by, each brought to one scale."""
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
    """Returns columns on one scale, whose variances together make up `weight`."""
    values = columns.astype(np.float64)
    if scaling == "none":
        return values
    deviation = values.std(0)
    middle, spread = values.mean(0), deviation
    if scaling == "robust":
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
        spread = (high - low) / 1.349  # the deviation, if it were normal
        # A bin that is empty for most pictures has no quartiles.
        spread = np.where(spread > TINY, spread, deviation)
    values = (values - middle) / np.where(spread > TINY, spread, 1)
    if scaling == "robust":
        values = np.clip(values, -_MOST_SPREADS, _MOST_SPREADS)
    return values * np.sqrt(weight / values.shape[1])


def _sample(keys: Sequence[bytes], options: ClusterOptions) -> np.ndarray:
    """Returns the rows to cluster exactly, rising: all, or those whose keys have the least hash."""
    if len(keys) <= options.most_rows:
        return np.arange(len(keys))
    hashes = [sharding.key_hash(key, f"cluster {options.seed}") for key in keys]
    return np.array(sorted(sorted(range(len(keys)), key=hashes.__getitem__)[: options.most_rows]))


def _in_order(labels: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """Returns labels numbered by falling median of photo-likeness; of equal ones by first row."""
    numbers, firsts = np.unique(labels, return_index=True)
    medians = [np.median(likeness[labels == number]) for number in numbers]
    order = np.lexsort((firsts, -np.array(medians)))
    return np.argsort(order)[labels]


def _photo_clusters(labels: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """Returns bool [clusters], which are above the largest step of the medians."""
    medians = [np.median(likeness[labels == at]) for at in range(labels.max() + 1)]
    steps = -np.diff(medians)
    return np.arange(len(medians)) <= steps.argmax()


def _distances(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns float64 [n, centres], Euclidean."""
    return np.stack([np.sqrt(((values - centre) ** 2).sum(1)) for centre in centres], axis=1)


def _margins(distances: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(cluster))
    own = distances[rows, cluster]
    others = distances.copy()
    others[rows, cluster] = np.inf
    other = others.min(1)
    return own, (other - own) / np.maximum(np.maximum(own, other), TINY)
