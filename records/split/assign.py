"""Assigns images to splits, stratified by class and by group.

No group and no two files with equal bytes are in two splits; within that, every class keeps its
share of each split as nearly as the groups allow.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from records.common import apportionment, components
from records.format import sharding

_USUAL_NAMES = {"val": "validation", "valid": "validation", "training": "train", "testing": "test"}
DEFAULT_RATIOS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def parse(text: str) -> tuple[bool, dict[str, float]]:
    """Returns whether the source gives the splits, and the shares, from the text of a flag.

    `train=0.7,validation=0.15,test=0.15` are shares; `folds=10` are ten equal ones; `given` takes
    the splits of the source, and `given,validation=0.1` also takes a share out of its `train`.
    """
    entries = [entry.strip() for entry in text.split(",")]
    given = entries[0] == "given"
    ratios: dict[str, float] = {}
    for entry in entries[given:]:
        name, equals, share = entry.partition("=")
        name = usual_name(name)
        if not equals or name in ratios:
            raise ValueError(f"splits must be distinct name=share, got {entry!r} in {text!r}")
        try:
            ratios[name] = float(share)
        except ValueError:
            raise ValueError(f"share of split {name!r} must be a number, got {share!r}") from None
    if list(ratios) == ["folds"] and not given:
        if not ratios["folds"].is_integer():
            raise ValueError(f"the number of folds must be whole, got {text!r}")
        return False, fold_ratios(int(ratios["folds"]))
    return given, ratios


def usual_name(name: str) -> str:
    """Returns the usual name of a split, in lower case, such as `validation` for `Val`."""
    return _USUAL_NAMES.get(name.lower(), name.lower())


def fold_ratios(num_folds: int) -> dict[str, float]:
    """Returns equal shares by name for `num_folds` folds, `fold_0` and so on, at least 2."""
    if num_folds < 2:
        raise ValueError(f"there must be at least 2 folds, got {num_folds}")
    return {f"fold_{number}": 1 / num_folds for number in range(num_folds)}


def distinct(values: np.ndarray) -> np.ndarray:
    """Returns 0, 1, ... for the distinct values of [n], or distinct rows of [n, k]; int64 [n]."""
    if values.ndim == 2:  # as one value a row, which `np.unique` sorts faster than along an axis
        values = np.ascontiguousarray(values)
        values = values.view(f"V{values.itemsize * values.shape[1]}").ravel()
    return np.unique(values, return_inverse=True)[1].ravel()


def merge_groups(*memberships: np.ndarray) -> np.ndarray:
    """Returns int32 [n]: the first image of each image's group, merging all that share a number.

    Args:
        memberships: int [n] each, such as the given groups and the contents; images with equal
            numbers belong together, -1 is no number.
    """
    edges = [np.zeros((0, 2), np.int64)]
    for membership in memberships:
        tied = np.flatnonzero(membership >= 0)
        tied = tied[np.argsort(membership[tied], kind="stable")]
        is_next = np.diff(membership[tied]) == 0
        edges.append(np.stack([tied[:-1][is_next], tied[1:][is_next]], axis=1))
    joined = components.join(np.arange(len(memberships[0])), np.concatenate(edges))
    return joined.astype(np.int32)


def order(keys: Iterable[bytes], salt: str) -> np.ndarray:
    """Returns the positions of keys in the order of their salted hashes, int32 [n]."""
    hashes = bytearray()
    for key in keys:
        hashes += sharding.key_hash(key, salt)
    words = np.frombuffer(hashes, ">u8").reshape(-1, 2)
    return np.lexsort((words[:, 1], words[:, 0])).astype(np.int32)


def assign(
    labels: np.ndarray,
    groups: np.ndarray,
    keys: Iterable[bytes],
    ratios: Mapping[str, float],
    *,
    seed: int,
) -> np.ndarray:
    """Returns the split of each image, stratified by label, no group in two splits.

    Groups of several images are assigned first, in descending order of size, each to the split that
    brings the class counts nearest to their targets (least chi-square). Single images then fill the
    splits, so without groups each class count and each total is exact to within one or two images.

    Args:
        labels: int [n], 0 or above.
        groups: int [n], 0 or above, equal for images that belong together.
        keys: n distinct keys; with `seed` they decide ties, so the order of images does not.

    Returns:
        int16 [n], positions in `ratios`.
    """
    shares = np.array(list(ratios.values()))
    num_classes = int(labels.max()) + 1
    targets = shares[:, None] * np.bincount(labels, minlength=num_classes)  # [splits, classes]
    filled = np.zeros_like(targets)
    result = np.empty(len(labels), np.int16)
    totals = shares * len(labels)

    shuffled = order(keys, f"split {seed}")
    sizes = np.bincount(groups)
    for images in _together(groups, sizes, shuffled):
        counts = np.bincount(labels[images], minlength=num_classes)
        cost = _chi_square_added(counts, filled, targets).sum(1)
        cost += _chi_square_added(np.array([len(images)]), filled.sum(1), totals)
        split = int(cost.argmin())
        result[images] = split
        filled[split] += counts

    alone = shuffled[sizes[groups[shuffled]] == 1]
    # Carries rounding errors from class to class; without that, 100 classes of three images each
    # would leave the last split of 70/15/15 empty.
    apportioner = apportionment.Apportioner(len(shares))
    for label in range(num_classes):
        images = alone[labels[alone] == label]
        missing = np.maximum(targets[:, label] - filled[:, label], 0)
        quotas = apportioner.divide(missing if missing.any() else shares, len(images))
        result[images] = np.repeat(np.arange(len(shares)), quotas)
    return result


def _together(groups: np.ndarray, sizes: np.ndarray, shuffled: np.ndarray) -> list[np.ndarray]:
    """Returns the images of each group of several, the largest group first, ties as shuffled."""
    images = shuffled[sizes[groups[shuffled]] > 1]
    if not len(images):
        return []
    by_group = np.argsort(groups[images], kind="stable")
    ends = np.flatnonzero(np.diff(groups[images][by_group])) + 1
    members = np.split(by_group, ends)  # in the order of `shuffled`
    members.sort(key=lambda rows: (-len(rows), rows[0]))
    return [images[rows] for rows in members]


def _chi_square_added(counts: np.ndarray, filled: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the increase of sum((filled - target)^2 / target) when `counts` are added."""
    return counts * (counts + 2 * (filled - targets)) / np.maximum(targets, 1e-9)


def check_names(names: Iterable[str]) -> None:
    """Raises a ValueError if a split name is not a plain word."""
    for name in names:
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"the name of a split must be a plain word, got {name!r}")


def check_ratios(ratios: Mapping[str, float], *, whole: bool = True) -> None:
    """Raises a ValueError unless names are plain words and shares are above 0 and sum to 1.

    Args:
        whole: False for shares that must sum to less than 1.
    """
    check_names(ratios)
    for name, share in ratios.items():
        if not share > 0:
            raise ValueError(f"split shares must be above 0, got {name}={share}")
    total = sum(ratios.values())
    if whole and not abs(total - 1) < 1e-6:
        raise ValueError(f"split shares must sum to 1, got {dict(ratios)}")
    if not whole and not total < 1:
        raise ValueError(f"shares taken out of train must sum to less than 1, got {dict(ratios)}")
