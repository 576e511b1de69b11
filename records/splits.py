"""Which split an image belongs to. Nothing else in the project decides that.

Splits are made once, over original images, by group: no group and no two files with equal bytes
stand in two splits. Within that, every class keeps its share of each split as nearly as the groups
allow.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from records import apportionment, sharding

DEFAULT_RATIOS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def parse_ratios(text: str) -> dict[str, float]:
    """Returns split names and shares from text such as `train=0.7,validation=0.15,test=0.15`.

    Raises:
        ValueError: if a part is not `name=share` with a number, or a name stands twice.
    """
    ratios: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        if not equals or name in ratios:
            raise ValueError(f"splits must be distinct name=share parts, got {part!r} in {text!r}")
        try:
            ratios[name] = float(share)
        except ValueError:
            raise ValueError(
                f"the share of split {name!r} must be a number, got {share!r}"
            ) from None
    return ratios


def merge_groups(*memberships: Sequence[Hashable]) -> np.ndarray:
    """Returns one group number for each image, joining all that share a value in any membership.

    Args:
        memberships: sequences of equal length, such as the given groups and the content digests.
            `None` in a place ties its image to nothing.

    Returns:
        int64 [n], the position of the first image of the group that image i belongs to.
    """
    parent = list(range(len(memberships[0])))

    def root(image: int) -> int:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for membership in memberships:
        first: dict[Hashable, int] = {}
        for image, value in enumerate(membership):
            if value is None:
                continue
            a, b = root(first.setdefault(value, image)), root(image)
            parent[max(a, b)] = min(a, b)
    return np.array([root(image) for image in range(len(parent))], np.int64)


def assign(
    labels: np.ndarray,
    groups: np.ndarray,
    keys: Sequence[bytes],
    ratios: Mapping[str, float],
    *,
    seed: int,
) -> np.ndarray:
    """Returns the split of each image, stratified by label, no group in two splits.

    Groups of several images come first, the largest ahead; each goes where it brings the class
    counts of the splits nearest to their targets (least chi-square). Images that stand alone then
    fill what is missing, so without groups each class and the whole are exact to within one image
    or two.

    Args:
        labels: int [n], 0 or above.
        groups: int64 [n], as from `merge_groups`.
        keys: n distinct keys; together with `seed` they decide ties, the order of images does not.
        ratios: share of each split.
        seed: another seed gives another assignment.

    Returns:
        int64 [n], positions in `ratios`.
    """
    shares = np.array(list(ratios.values()))
    num_classes = int(labels.max()) + 1
    targets = shares[:, None] * np.bincount(labels, minlength=num_classes)  # [splits, classes]
    filled = np.zeros_like(targets)
    result = np.empty(len(labels), np.int64)
    whole = shares * len(labels)
    salt = f"split {seed}"

    members: dict[int, list[int]] = {}
    for image in sorted(range(len(keys)), key=lambda i: sharding.key_hash(keys[i], salt)):
        members.setdefault(int(groups[image]), []).append(image)
    together = sorted((m for m in members.values() if len(m) > 1), key=len, reverse=True)
    for images in together:
        counts = np.bincount(labels[images], minlength=num_classes)
        cost = _chi_square_added(counts, filled, targets).sum(1)
        cost += _chi_square_added(np.array([len(images)]), filled.sum(1), whole)
        split = int(cost.argmin())
        result[images] = split
        filled[split] += counts

    alone = np.array([m[0] for m in members.values() if len(m) == 1], np.int64)
    apportioner = apportionment.Apportioner(len(shares))
    for label in range(num_classes):
        images = alone[labels[alone] == label]
        missing = np.maximum(targets[:, label] - filled[:, label], 0)
        quotas = apportioner.divide(missing if missing.any() else shares, len(images))
        result[images] = np.repeat(np.arange(len(shares)), quotas)
    return result


def _chi_square_added(counts: np.ndarray, filled: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns how much sum((filled - target)^2 / target) grows where `counts` are added."""
    return counts * (counts + 2 * (filled - targets)) / np.maximum(targets, 1e-9)


def check_ratios(ratios: Mapping[str, float]) -> None:
    """Checks names and shares of splits.

    Raises:
        ValueError: if a name is not a plain word, or the shares are not above 0 with a sum of 1.
    """
    for name, share in ratios.items():
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"the name of a split must be a plain word, got {name!r}")
        if not share > 0:
            raise ValueError(f"split shares must be above 0, got {name}={share}")
    if not abs(sum(ratios.values()) - 1) < 1e-6:
        raise ValueError(f"split shares must sum to 1, got {dict(ratios)}")
