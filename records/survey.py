"""What should be looked at before anything is trained: facts about images to findings.

Everything here is a function of what was gathered; nothing is read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from records import cli, leaks, likeness, survey_looks, writer
from records.findings import Finding, Item, counted
from records.gathering import Gathered

SMALL_CLASS = 10  # images: with fewer, each split has one or two
IMBALANCE = 2.0  # times the smallest class

# Reasons to leave a file out that somebody chose, or that say nothing against the file.
_MEANT = frozenset(
    (
        *("hidden", "excluded_by_pattern", "excluded_by_list", "not_in_csv", "no_label"),
        *("missing_file", "label_conflict", "in_two_splits"),
    )
)


def findings(gathered: Gathered, alike: Mapping[str, np.ndarray], distance: float) -> list[Finding]:
    """Returns what should be looked at, what spoils a score first; empty if there is nothing.

    Args:
        gathered: the images.
        alike: their pairs by kind, see `likeness.pairs`.
        distance: of near duplicates, for the advice.
    """
    near = f"--near_duplicates={distance or 0.01:g} of the build keeps them in one split"
    found = [
        *(_alike(gathered, alike, kind, near) for kind in leaks.FAULTS),
        _unreadable(gathered),
        *_missing_classes(gathered),
        _small_classes(gathered),
        _imbalance(gathered),
        *survey_looks.findings(gathered),
        _alike(gathered, alike, "near_labels_differ", near),
        _alike(gathered, alike, likeness.COPIES, near),
        _alike(gathered, alike, likeness.LOOKALIKES, near),
        *(
            Finding("warning", cli.printable(line), "the flags may say something else than meant")
            for line in gathered.warnings
        ),
    ]
    return [finding for finding in found if finding is not None]


# --- equal and alike ---

_SAID: Mapping[str, tuple[str, str, str]] = {
    "equal_across_splits": (
        "image is equal to the byte to one of another split",
        "images are equal to the byte to one of another split",
        "a score on them says nothing: build with --on_leak=drop, or without --splits=given",
    ),
    "near_across_splits": (
        "image looks the same as one of another split",
        "images look the same as one of another split",
        "a score on them says little: ",
    ),
    "group_across_splits": (
        "image belongs to a group of which another split has images too",
        "images belong to a group of which another split has images too",
        "build with --on_leak=drop, or without --splits=given",
    ),
    "equal_labels_differ": (
        "image is equal to the byte to one of another class",
        "images are equal to the byte to one of another class",
        "one of the two labels is wrong: correct it with --overrides, or --on_conflict=drop leaves"
        " both out",
    ),
    "near_labels_differ": (
        "image looks the same as one of another class",
        "images look the same as one of another class",
        "look whether a label is wrong (--overrides corrects it), or the classes are that alike; ",
    ),
    likeness.COPIES: (
        "file is a copy, to the byte, of another one",
        "files are copies, to the byte, of others",
        "the build keeps them in one split; to count each image once, name the copies in a CSV for"
        " --exclusions",
    ),
    likeness.LOOKALIKES: (
        "image looks the same as another one",
        "images look the same as others",
        "",
    ),
}


def _alike(
    gathered: Gathered, alike: Mapping[str, np.ndarray], kind: str, near: str
) -> Finding | None:
    two = alike[kind]
    if not len(two):
        return None
    one, several, advice = _SAID[kind]
    items = tuple(_pair(gathered, first, row) for first, row in two.tolist())
    sets = ""
    if kind in (likeness.COPIES, likeness.LOOKALIKES):
        sets = f", in {counted(likeness.num_sets(two), 'set', 'sets')}"
    if "near" in kind:
        advice += near
    return Finding(kind, f"{counted(len(two), one, several)}{sets}", advice, items)


def _pair(gathered: Gathered, first: int, row: int) -> Item:
    where = [gathered.class_of(first), gathered.split_of(first)]
    other = f"{gathered.key(first)} ({', '.join(filter(None, where))})"
    split = gathered.split_of(row)
    detail = f"in {split}, like {other}" if split else f"like {other}"
    return Item(gathered.key(row), gathered.class_of(row), detail, (row, first))


# --- files and classes ---


def _unreadable(gathered: Gathered) -> Finding | None:
    unusable = [reject for reject in gathered.rejects if reject.reason not in _MEANT]
    if not unusable:
        return None
    items = tuple(Item(reject.key, reject.label, _why(reject)) for reject in unusable)
    reasons = Counter(reject.reason for reject in unusable)
    by_reason = ", ".join(f"{count:,} x {reason}" for reason, count in sorted(reasons.items()))
    said = counted(len(items), "file cannot be used", "files cannot be used")
    return Finding(
        "unreadable",
        f"{said} ({by_reason})",
        "the build leaves them out and names them in rejects.jsonl; repair them, or say with"
        " --exclude or --exclusions that they are none",
        items,
    )


def _why(reject: writer.Reject) -> str:
    return reject.detail if reject.detail.startswith(reject.reason) else reject.reason


def _missing_classes(gathered: Gathered) -> Iterator[Finding]:
    counts = gathered.counts()
    total = np.sum(list(counts.values()), axis=0)
    if len(counts) == 1:
        where = f"in {gathered.split_names[0]}" if gathered.split_names else "at all"
        yield from _empty(gathered, total == 0, f"no image {where}")
        return
    yield from _empty(gathered, total == 0, "no image at all")
    for split, of_split in counts.items():
        yield from _empty(gathered, (of_split == 0) & (total > 0), f"no image in {split}")


def _empty(gathered: Gathered, are_empty: np.ndarray, what: str) -> Iterator[Finding]:
    items = tuple(Item(gathered.class_names[at]) for at in np.flatnonzero(are_empty))
    if items:
        yield Finding(
            "missing_class",
            f"{counted(len(items), 'class has', 'classes have')} {what}",
            "collect more, merge classes with --label_map, or choose other shares with --splits",
            items,
        )


def _small_classes(gathered: Gathered) -> Finding | None:
    total = np.sum(list(gathered.counts().values()), axis=0)
    small = [at for at in np.argsort(total, kind="stable") if 0 < total[at] < SMALL_CLASS]
    items = tuple(
        Item(gathered.class_names[at], detail=counted(int(total[at]), "image", "images"))
        for at in small
    )
    if not items:
        return None
    said = counted(len(items), "class has", "classes have")
    return Finding(
        "small_class",
        f"{said} fewer than {SMALL_CLASS} images",
        "no score on so few is sure: collect more, or merge classes with --label_map",
        items,
        details=True,
    )


def _imbalance(gathered: Gathered) -> Finding | None:
    total = np.sum(list(gathered.counts().values()), axis=0)
    used = np.flatnonzero(total)
    largest, smallest = used[total[used].argmax()], used[total[used].argmin()]
    ratio = total[largest] / total[smallest]
    if ratio < IMBALANCE:
        return None
    items = tuple(
        Item(gathered.class_names[at], detail=counted(int(total[at]), "image", "images"))
        for at in (largest, smallest)
    )
    return Finding(
        "imbalance",
        f"the largest class has {ratio:,.1f} times the images of the smallest",
        "--target=balanced, band or sqrt of the training draws the classes more equally; the table"
        " of targets says how often that draws an image",
        items,
        details=True,
    )
