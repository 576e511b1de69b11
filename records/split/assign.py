"""Which split an image belongs to. Nothing else in the project decides that.

Splits are made once, over original images, by group: no group and no two files with equal bytes
stand in two splits. Within that, every class keeps its share of each split as nearly as the groups
allow.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from records.common import apportionment
from records.format import sharding

_USUAL_NAMES = {"val": "validation", "valid": "validation", "training": "train", "testing": "test"}
DEFAULT_RATIOS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def parse(text: str) -> tuple[bool, dict[str, float]]:
    """Returns whether splits are given by the source, and the shares, from the text of a flag.

    `train=0.7,validation=0.15,test=0.15` are shares; `folds=10` are ten equal ones; `given` takes
    what the source says, and `given,validation=0.1` also takes a share out of the given `train`.

    Raises:
        ValueError: if a part is not `name=share` with a number, or a name stands twice.
    """
    parts = [part.strip() for part in text.split(",")]
    given = parts[0] == "given"
    ratios: dict[str, float] = {}
    for part in parts[given:]:
        name, equals, share = part.partition("=")
        name = usual_name(name)
        if not equals or name in ratios:
            raise ValueError(f"splits must be distinct name=share parts, got {part!r} in {text!r}")
        try:
            ratios[name] = float(share)
        except ValueError:
            raise ValueError(
                f"the share of split {name!r} must be a number, got {share!r}"
            ) from None
    if list(ratios) == ["folds"] and not given:
        if not ratios["folds"].is_integer():
            raise ValueError(f"the number of folds must be whole, got {text!r}")
        return False, fold_ratios(int(ratios["folds"]))
    return given, ratios


def usual_name(name: str) -> str:
    """Returns the usual name of a split, in lower case: `validation` for `Val` and the like."""
    return _USUAL_NAMES.get(name.lower(), name.lower())


def fold_ratios(num_folds: int) -> dict[str, float]:
    """Returns the names and equal shares of `num_folds` folds, `fold_0` and so on.

    Raises:
        ValueError: if there are fewer than 2.
    """
    if num_folds < 2:
        raise ValueError(f"there must be at least 2 folds, got {num_folds}")
    return {f"fold_{number}": 1 / num_folds for number in range(num_folds)}


def merge_groups(*memberships: np.ndarray) -> np.ndarray:
    """Returns one group number for each image, joining all that share a number in any membership.

    Args:
        memberships: integers [n] each, such as the given groups and the contents; equal numbers
            belong together, -1 ties its image to nothing.

    Returns:
        int32 [n], the position of the first image of the group that image i belongs to.
    """
    root = np.arange(len(memberships[0]), dtype=np.int32)
    before = None
    while before is None or (root != before).any():
        before = root
        for membership in memberships:
            tied = np.flatnonzero(membership >= 0)
            if len(tied):
                lowest = np.full(membership.max() + 1, len(root), np.int32)
                np.minimum.at(lowest, membership[tied], root[tied])
                root = root.copy()
                root[tied] = lowest[membership[tied]]
        root = np.minimum(root, root[root])
    return root


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

    Groups of several images come first, the largest ahead; each goes where it brings the class
    counts of the splits nearest to their targets (least chi-square). Images that stand alone then
    fill what is missing, so without groups each class and the whole are exact to within one image
    or two.

    Args:
        labels: int [n], 0 or above.
        groups: int64 [n], 0 or above, equal for images that belong together.
        keys: n distinct keys; together with `seed` they decide ties, the order of images does not.
        ratios: share of each split.
        seed: another seed gives another assignment.

    Returns:
        int16 [n], positions in `ratios`.
    """
    shares = np.array(list(ratios.values()))
    num_classes = int(labels.max()) + 1
    targets = shares[:, None] * np.bincount(labels, minlength=num_classes)  # [splits, classes]
    filled = np.zeros_like(targets)
    result = np.empty(len(labels), np.int16)
    whole = shares * len(labels)

    shuffled = order(keys, f"split {seed}")
    sizes = np.bincount(groups)
    for images in _together(groups, sizes, shuffled):
        counts = np.bincount(labels[images], minlength=num_classes)
        cost = _chi_square_added(counts, filled, targets).sum(1)
        cost += _chi_square_added(np.array([len(images)]), filled.sum(1), whole)
        split = int(cost.argmin())
        result[images] = split
        filled[split] += counts

    alone = shuffled[sizes[groups[shuffled]] == 1]
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
    places = np.split(by_group, ends)  # in the order of `shuffled`
    places.sort(key=lambda place: (-len(place), place[0]))
    return [images[place] for place in places]


def _chi_square_added(counts: np.ndarray, filled: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns how much sum((filled - target)^2 / target) grows where `counts` are added."""
    return counts * (counts + 2 * (filled - targets)) / np.maximum(targets, 1e-9)


def check_names(names: Iterable[str]) -> None:
    """Checks names of splits.

    Raises:
        ValueError: if one is not a plain word.
    """
    for name in names:
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"the name of a split must be a plain word, got {name!r}")


def check_ratios(ratios: Mapping[str, float], *, whole: bool = True) -> None:
    """Checks names and shares of splits.

    Args:
        ratios: share of each split.
        whole: they must sum to 1; otherwise to less than 1.

    Raises:
        ValueError: if a name is not a plain word, or the shares are not above 0 with such a sum.
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
