"""What goes where: groups, conflicts, splits and the order of rows, before any is written."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from records.builder.shard_writer import BuildError
from records.common.byte_strings import Strings, text
from records.image import near_duplicates
from records.source.listing import Listing
from records.split import assign as splits

ON_FAULT = ("refuse", "drop", "keep")
_NAMED = 5  # examples in a message


@dataclasses.dataclass(frozen=True)
class Contents:
    """What reading the images has told, a line for each image of the listing.

    Attributes:
        usable: bool [n].
        sha256: uint8 [n, 32], of the file.
        fingerprints: uint8 [n, F], or [n, 0] if none were made.
    """

    usable: np.ndarray
    sha256: np.ndarray
    fingerprints: np.ndarray


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """How images are parted.

    Attributes:
        ratios: share of each split; with `given`, shares that are taken out of the given `train`.
        given: the source says the split of each image.
        near_duplicates: distance (see `near_duplicates.DISTANCE`) at which images that look the
            same count as one group; 0 for no such groups.
        on_leak: what becomes of a group, or of equal bytes, in two given splits: `refuse` the
            build, `drop` its images from all but the split that is evaluated last, `keep` them.
        on_conflict: what becomes of equal images with different labels: `refuse`, `drop`, `keep`.
        seed: of the splits and of the order of rows.
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
        if not 0 <= self.near_duplicates < 1:
            raise ValueError(
                f"near_duplicates must be at least 0 and below 1, got {self.near_duplicates}"
            )
        for name in ("on_leak", "on_conflict"):
            if getattr(self, name) not in ON_FAULT:
                raise ValueError(f"{name} must be one of {ON_FAULT}, got {getattr(self, name)!r}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What goes where.

    Attributes:
        rows: for each split the positions of its images in the listing, in row order.
        group: int32 [n], equal for images that belong together; -1 for those that stay out.
        dropped: (position, reason, detail) of usable images that stay out.
        conflicts: groups of keys with equal bytes and different labels.
    """

    rows: Mapping[str, np.ndarray]
    group: np.ndarray
    dropped: tuple[tuple[int, str, str], ...]
    conflicts: tuple[tuple[str, ...], ...]


def make(listing: Listing, contents: Contents, options: SplitOptions) -> Plan:
    """Decides everything.

    Raises:
        BuildError: if there is nothing to write, images with equal bytes have different labels or
            stand in two given splits and that is to be refused.
    """
    content = _content_numbers(contents)
    conflicts = _conflicts(listing, content)
    dropped: dict[int, tuple[str, str]] = {}
    _deal_with_conflicts(conflicts, listing.keys, options.on_conflict, dropped)
    group = splits.merge_groups(
        np.where(contents.usable, listing.group, -1), content, *_looks(contents, options)
    )
    given = given_splits(listing, options)
    if options.given:
        _deal_with_leaks(listing, contents.usable, group, given, options.on_leak, dropped)
    used = contents.usable.copy()
    used[list(dropped)] = False
    if not used.any():
        raise BuildError(f"none of {len(listing)} images is left to be written")
    rows = _rows(listing, np.flatnonzero(used).astype(np.int32), group, options)
    return Plan(
        rows=rows,
        group=np.where(used, group, np.int32(-1)),
        dropped=tuple((position, *dropped[position]) for position in sorted(dropped)),
        conflicts=tuple(tuple(_names(listing.keys, p)) for p in conflicts),
    )


def assign(
    listing: Listing, used: np.ndarray, group: np.ndarray, options: SplitOptions
) -> dict[str, np.ndarray]:
    """Returns the positions of each split's images, in the order of the listing.

    Args:
        listing: the images.
        used: int64, positions of those to part.
        group: int64 [n], of all images.
        options: how.
    """
    given = given_splits(listing, options)
    if not options.given:
        return _parted(listing, used, group, options.ratios, options.seed)
    result = {name: used[given[used] == number] for number, name in enumerate(listing.split_names)}
    if options.ratios:
        train = result.get("train", used[:0])
        if not len(train):
            raise BuildError(
                "shares are taken out of the given split `train`, and there is none; the source"
                f" gives {', '.join(listing.split_names)}"
            )
        shares = {"train": 1 - sum(options.ratios.values()), **options.ratios}
        result |= _parted(listing, train, group, shares, options.seed)
    return result


def _rows(
    listing: Listing,
    used: np.ndarray,
    group: np.ndarray,
    options: SplitOptions,
) -> dict[str, np.ndarray]:
    """Returns the positions of each split's images in row order, by a salted hash of the key."""
    parted = assign(listing, used, group, options)
    order = splits.order(listing.keys, f"order {options.seed}")
    place = np.empty(len(listing), np.int32)
    place[order] = np.arange(len(listing), dtype=np.int32)
    return {name: rows[np.argsort(place[rows])] for name, rows in parted.items()}


def _parted(
    listing: Listing,
    used: np.ndarray,
    group: np.ndarray,
    ratios: Mapping[str, float],
    seed: int,
) -> dict[str, np.ndarray]:
    keys = (listing.keys[position] for position in used.tolist())
    assigned = splits.assign(listing.label[used], group[used], keys, ratios, seed=seed)
    return {name: used[assigned == number] for number, name in enumerate(ratios)}


def given_splits(listing: Listing, options: SplitOptions) -> np.ndarray:
    """Returns the number of each image's given split.

    Raises:
        BuildError: if splits are to be given and are not, or their names are no plain words.
    """
    if not options.given:
        return listing.split
    missing = np.flatnonzero(listing.split < 0)
    if len(missing):
        key = _names(listing.keys, missing[:1])[0]
        raise BuildError(
            f"splits are to be given, and nothing says that of {key!r}: it takes the first folder"
            " level (--labels=folder or suffix), (?P<split>...) in the pattern, or a CSV column"
        )
    try:
        splits.check_names(listing.split_names)
    except ValueError as error:
        raise BuildError(str(error)) from None
    taken = sorted(set(options.ratios) & set(listing.split_names))
    if taken:
        raise BuildError(f"the split {taken[0]!r} is given and cannot be taken out of train")
    return listing.split


def _content_numbers(contents: Contents) -> np.ndarray:
    """Returns a number for each distinct content, int32 [n]; -1 for images that are not usable."""
    words = contents.sha256.view(np.uint64)
    order = np.lexsort(words.T)
    first = np.zeros(len(order), bool)
    for word in words.T:
        first[1:] |= np.diff(word[order]) != 0
    numbers = np.empty(len(order), np.int32)
    numbers[order] = np.cumsum(first, dtype=np.int32)
    numbers[~contents.usable] = -1
    return numbers


def _looks(contents: Contents, options: SplitOptions) -> list[np.ndarray]:
    """Returns the groups of images that look the same, if they are wanted."""
    if not options.near_duplicates:
        return []
    result = np.full(len(contents.usable), -1)
    rows = np.flatnonzero(contents.usable)
    prints = contents.fingerprints[rows]
    result[rows] = near_duplicates.groups(prints, options.near_duplicates)
    return [result]


def _conflicts(listing: Listing, content: np.ndarray) -> list[np.ndarray]:
    """Returns the positions of images with equal bytes (and box) and different labels."""
    image = content
    if listing.box is not None:
        _, image = np.unique(np.column_stack([content, listing.box]), axis=0, return_inverse=True)
        image = np.where(content < 0, -1, image.ravel())
    found = [g for g in _several(image) if len(set(listing.label[g].tolist())) > 1]
    return sorted(found, key=lambda group: int(group[0]))


def _several(numbers: np.ndarray, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """Returns the positions of each number that several of the rows have, -1 apart."""
    rows = np.flatnonzero(numbers >= 0) if rows is None else rows
    sizes = np.bincount(numbers[rows]) if len(rows) else np.zeros(0, np.int64)
    rows = rows[sizes[numbers[rows]] > 1]
    rows = rows[np.argsort(numbers[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(numbers[rows])) + 1) if len(rows) else []


def _deal_with_conflicts(
    conflicts: Sequence[np.ndarray],
    keys: Strings,
    on_conflict: str,
    dropped: dict[int, tuple[str, str]],
) -> None:
    if on_conflict == "refuse" and conflicts:
        said = "; ".join(" = ".join(map(repr, _names(keys, c))) for c in conflicts[:_NAMED])
        raise BuildError(
            f"{len(conflicts)} times equal bytes have different labels ({said}); correct them with"
            " --overrides or --exclusions, or choose --on_conflict=drop or keep"
        )
    for group in conflicts if on_conflict == "drop" else ():
        for position in group.tolist():
            others = [p for p in group.tolist() if p != position]
            detail = f"equal bytes, another label: {_names(keys, others)[0]}"
            dropped[position] = ("label_conflict", detail)


def _deal_with_leaks(
    listing: Listing,
    usable: np.ndarray,
    group: np.ndarray,
    given: np.ndarray,
    on_leak: str,
    dropped: dict[int, tuple[str, str]],
) -> None:
    """Finds groups in several given splits; `drop` keeps them only where it is evaluated last."""
    rank = {"test": 2, "validation": 1, "train": -1}
    ranks = np.array([rank.get(name, 0) * 1000 - n for n, name in enumerate(listing.split_names)])
    used = np.flatnonzero(usable)
    used = used[~np.isin(used, list(dropped))]
    leaks = [m for m in _several(group, used) if len(np.unique(given[m])) > 1]
    if leaks and on_leak == "refuse":
        said = "; ".join(
            " and ".join(map(repr, _names(listing.keys, m[:3]))) for m in leaks[:_NAMED]
        )
        raise BuildError(
            f"{len(leaks)} groups or equal images stand in two given splits ({said});"
            " --on_leak=drop takes them out of the split that is trained on, keep lets them be"
        )
    for m in leaks if on_leak == "drop" else ():
        stays = given[m[np.argmax(ranks[given[m]])]]
        for position in m[given[m] != stays].tolist():
            detail = f"it or its group also stands in {listing.split_names[stays]}"
            dropped[position] = ("in_two_splits", detail)


def _names(keys: Strings, positions: Sequence[int] | np.ndarray) -> list[str]:
    return [text(keys[int(p)]) for p in positions]
