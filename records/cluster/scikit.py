"""What is taken from scikit-learn, which is imported when it is first needed.

Importing it takes a second, and most commands of a binary that could cluster never do.
"""

import numpy as np

_MEMORY = 64  # MiB, of distances held while silhouettes are taken


def linked(values: np.ndarray, linkage: str, num_clusters: int) -> np.ndarray:
    """Returns int64 [n], the clusters of a tree of merges, cut where so many are left.

    Args:
        values: float64 [n, columns].
        linkage: `ward`, `average` or `complete`; distances are Euclidean.
        num_clusters: at most n.
    """
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(num_clusters, linkage=linkage).fit_predict(values)


def silhouette(values: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean silhouette (Rousseeuw 1987) of rows of at least two labels, -1 to 1."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_score

    with config_context(working_memory=_MEMORY):
        return float(silhouette_score(values, labels))


def adjusted_rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Returns how well two partitions agree (Hubert and Arabie 1985): 1 fully, 0 as by chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first, second))
