"""The layout of a set before it is written: groups, conflicts, splits and the order of rows.

Equal images with different labels are a warning by default, because they are common in real data
and do little harm. Images in two given splits are an error, because they make every score wrong.
Both can be refused, dropped or kept, and another choice reuses the images already read.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from records.builder.decode_cache import DecodedImages
from records.builder.shard_writer import BuildError
from records.common import checks
from records.common.byte_strings import text
from records.image import near_duplicates
from records.source.listing import Listing
from records.split import assign as splits

ON_FAULT = ("refuse", "drop", "keep")
_MAX_EXAMPLES = 5  # in a message


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """How images are assigned to splits.

    Attributes:
        ratios: share of each split; with `given`, shares to take out of the given `train`.
        given: whether the source gives the split of each image.
        near_duplicates: distance (see `near_duplicates.DISTANCE`) up to which images form one
            group; 0 for none.
        on_leak: for a group, or equal bytes, in two given splits: `refuse` the build, `drop` the
            images from all but the split that is evaluated last, or `keep` them.
        on_conflict: for equal images of different labels: `refuse`, `drop` or `keep` them.
        seed: of the splits and the order of rows.
    """

    ratios: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: dict(splits.DEFAULT_RATIOS)
    )
    given: bool = False
    near_duplicates: float = 0.0
    on_leak: str = "refuse"
    on_conflict: str = "keep"
    seed: int = 0

    def __post_init__(self) -> None:
        splits.check_ratios(self.ratios, whole=not self.given)
        checks.between("near_duplicates", self.near_duplicates, 0, 1, "[)")
        checks.one_of("on_leak", self.on_leak, ON_FAULT)
        checks.one_of("on_conflict", self.on_conflict, ON_FAULT)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The split and row of each image.

    Attributes:
        rows: by split, the positions of its images in the listing, in row order.
        group: int32 [n], equal for images that belong together; -1 for those not in the set.
        excluded: (position, reason, detail) of usable images that are not in the set.
        conflicts: groups of keys with equal bytes and different labels.
    """

    rows: Mapping[str, np.ndarray]
    group: np.ndarray
    excluded: tuple[tuple[int, str, str], ...]
    conflicts: tuple[tuple[str, ...], ...]


def make(listing: Listing, images: DecodedImages, options: SplitOptions) -> Plan:
    """Returns the plan of a set; raises a BuildError for faults that the options refuse."""
    content = _content_numbers(images)
    conflicts = _conflicts(listing, content)
    excluded: dict[int, tuple[str, str]] = {}
    _resolve_conflicts(conflicts, listing.keys, options.on_conflict, excluded)
    group = splits.merge_groups(
        np.where(images.usable, listing.group, -1), content, *_near_duplicates(images, options)
    )
    given = given_splits(listing, options)
    if options.given:  # splits made here keep groups together by construction
        _resolve_leaks(listing, images.usable, group, given, options.on_leak, excluded)
    used = images.usable.copy()
    used[list(excluded)] = False
    if not used.any():
        raise BuildError(f"no image is left: all {len(listing)} are skipped or excluded")
    rows = _rows(listing, np.flatnonzero(used).astype(np.int32), group, options)
    return Plan(
        rows=rows,
        group=np.where(used, group, np.int32(-1)),
        excluded=tuple((position, *excluded[position]) for position in sorted(excluded)),
        conflicts=tuple(tuple(_names(listing.keys, p)) for p in conflicts),
    )


def assign(
    listing: Listing, used: np.ndarray, group: np.ndarray, options: SplitOptions
) -> dict[str, np.ndarray]:
    """Returns the positions of each split's images, in the order of the listing.

    Args:
        used: int [m], positions of the images to assign.
        group: int [n], for all images of the listing.
    """
    given = given_splits(listing, options)
    if not options.given:
        return _split(listing, used, group, options.ratios, options.seed)
    result = {name: used[given[used] == number] for number, name in enumerate(listing.split_names)}
    if options.ratios:
        train = result.get("train", used[:0])
        if not len(train):
            raise BuildError(
                "shares can only be taken out of a given split `train`, got"
                f" {', '.join(listing.split_names)} from the source"
            )
        shares = {"train": 1 - sum(options.ratios.values()), **options.ratios}
        result |= _split(listing, train, group, shares, options.seed)
    return result


def _rows(
    listing: Listing, used: np.ndarray, group: np.ndarray, options: SplitOptions
) -> dict[str, np.ndarray]:
    """Returns the positions of each split's images in row order, by a salted hash of the key."""
    assigned = assign(listing, used, group, options)
    order = splits.order(listing.keys, f"order {options.seed}")
    rank = np.empty(len(listing), np.int32)
    rank[order] = np.arange(len(listing), dtype=np.int32)
    return {name: rows[np.argsort(rank[rows])] for name, rows in assigned.items()}


def _split(
    listing: Listing, used: np.ndarray, group: np.ndarray, ratios: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    keys = (listing.keys[position] for position in used.tolist())
    assigned = splits.assign(listing.label[used], group[used], keys, ratios, seed=seed)
    return {name: used[assigned == number] for number, name in enumerate(ratios)}


def given_splits(listing: Listing, options: SplitOptions) -> np.ndarray:
    """Returns the number of each image's given split; raises a BuildError if one is missing."""
    if not options.given:
        return listing.split
    missing = np.flatnonzero(listing.split < 0)
    if len(missing):
        key = _names(listing.keys, missing[:1])[0]
        raise BuildError(
            f"--splits=given needs the split of every image, and {key!r} has none: the first folder"
            " level (--labels=folder or suffix), (?P<split>...) in the pattern, or a CSV column"
            " gives it"
        )
    try:
        splits.check_names(listing.split_names)
    except ValueError as error:
        raise BuildError(str(error)) from None
    taken = sorted(set(options.ratios) & set(listing.split_names))
    if taken:
        raise BuildError(f"split {taken[0]!r} is already given by the source; take out another")
    return listing.split


def _content_numbers(images: DecodedImages) -> np.ndarray:
    """Returns a number for each distinct content, int32 [n]; -1 for skipped images."""
    numbers = splits.distinct(images.sha256).astype(np.int32)
    numbers[~images.usable] = -1
    return numbers


def _near_duplicates(images: DecodedImages, options: SplitOptions) -> list[np.ndarray]:
    """Returns the groups of near duplicates, if the options ask for them."""
    if not options.near_duplicates:
        return []
    result = np.full(len(images.usable), -1)
    rows = np.flatnonzero(images.usable)
    prints = images.fingerprints[rows]
    result[rows] = near_duplicates.groups(prints, options.near_duplicates)
    return [result]


def _conflicts(listing: Listing, content: np.ndarray) -> list[np.ndarray]:
    """Returns the positions of images with equal bytes (and box) and different labels."""
    image = content
    if listing.box is not None:
        _, image = np.unique(np.column_stack([content, listing.box]), axis=0, return_inverse=True)
        image = np.where(content < 0, -1, image.ravel())
    conflicts = [g for g in _shared(image) if len(np.unique(listing.label[g])) > 1]
    return sorted(conflicts, key=lambda group: int(group[0]))


def _shared(numbers: np.ndarray, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """Returns the positions of each number that several rows have; -1 is no number."""
    rows = np.flatnonzero(numbers >= 0) if rows is None else rows
    sizes = np.bincount(numbers[rows]) if len(rows) else np.zeros(0, np.int64)
    rows = rows[sizes[numbers[rows]] > 1]
    rows = rows[np.argsort(numbers[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(numbers[rows])) + 1) if len(rows) else []


def _resolve_conflicts(
    conflicts: Sequence[np.ndarray],
    keys: Sequence[bytes],
    on_conflict: str,
    excluded: dict[int, tuple[str, str]],
) -> None:
    if on_conflict == "refuse" and conflicts:
        some = "; ".join(" = ".join(map(repr, _names(keys, c))) for c in conflicts[:_MAX_EXAMPLES])
        raise BuildError(
            f"{len(conflicts)} groups of equal images have different labels ({some}); correct them"
            " with --overrides or --exclusions, or choose --on_conflict=drop or keep"
        )
    for group in conflicts if on_conflict == "drop" else ():
        for position in group.tolist():
            others = [p for p in group.tolist() if p != position]
            detail = f"equal bytes, another label: {_names(keys, others)[0]}"
            excluded[position] = ("label_conflict", detail)


def _resolve_leaks(
    listing: Listing,
    usable: np.ndarray,
    group: np.ndarray,
    given: np.ndarray,
    on_leak: str,
    excluded: dict[int, tuple[str, str]],
) -> None:
    """Refuses, drops or keeps groups in several given splits, see `SplitOptions.on_leak`."""
    rank = {"test": 2, "validation": 1, "train": -1}
    ranks = np.array([rank.get(name, 0) * 1000 - n for n, name in enumerate(listing.split_names)])
    used = np.flatnonzero(usable)
    used = used[~np.isin(used, list(excluded))]
    leaks = [rows for rows in _shared(group, used) if len(np.unique(given[rows])) > 1]
    if leaks and on_leak == "refuse":
        some = "; ".join(
            " and ".join(map(repr, _names(listing.keys, rows[:3])))
            for rows in leaks[:_MAX_EXAMPLES]
        )
        raise BuildError(
            f"{len(leaks)} groups or sets of equal images are in two given splits ({some});"
            " --on_leak=drop removes them from the training split, keep keeps them"
        )
    for rows in leaks if on_leak == "drop" else ():
        kept = given[rows[np.argmax(ranks[given[rows]])]]
        for position in rows[given[rows] != kept].tolist():
            # The text is written to `rejects.jsonl`: changing it changes the bytes of sets.
            detail = f"it or its group also stands in {listing.split_names[kept]}"
            excluded[position] = ("in_two_splits", detail)


def _names(keys: Sequence[bytes], positions: Sequence[int] | np.ndarray) -> list[str]:
    return [text(keys[int(p)]) for p in positions]
