"""What should be looked at before anything is trained: facts about images to findings.

Everything here is a function of what was gathered; nothing is read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from records.builder import shard_writer
from records.common import cli
from records.inspect import leaks, likeness
from records.surveying import survey_looks
from records.surveying.findings import Finding, Item, counted
from records.surveying.measure import Gathered

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
    fixes = _fixes(gathered, f"--near_duplicates={distance or 0.01:g}")
    found = [
        *(_alike(gathered, alike, kind, fixes) for kind in leaks.FAULTS),
        _unreadable(gathered),
        *_missing_classes(gathered),
        _small_classes(gathered),
        _imbalance(gathered),
        *survey_looks.findings(gathered),
        _alike(gathered, alike, "near_labels_differ", fixes),
        _alike(gathered, alike, likeness.COPIES, fixes),
        _alike(gathered, alike, likeness.LOOKALIKES, fixes),
        *(
            Finding("warning", cli.printable(line), "the flags may say something else than meant")
            for line in gathered.warnings
        ),
    ]
    return [finding for finding in found if finding is not None]


# --- equal and alike ---

# One, several, advice; `{of}` says of which splits, `{kept}` and `{near}` what `_fixes` says.
_SAID: Mapping[str, tuple[str, str, str]] = {
    "equal_across_splits": (
        "image{of} is equal to the byte to one of another split",
        "images{of} are equal to the byte to one of another split",
        "a score on them says nothing: build with --on_leak=drop, or without --splits=given",
    ),
    "near_across_splits": (
        "image{of} looks the same as one of another split",
        "images{of} look the same as one of another split",
        "a score on them says little: {near}",
    ),
    "group_across_splits": (
        "image{of} belongs to a group of which another split has images too",
        "images{of} belong to a group of which another split has images too",
        "build with --on_leak=drop, or without --splits=given",
    ),
    "equal_labels_differ": (
        "image is equal to the byte to one of another class",
        "images are equal to the byte to one of another class",
        "one of the labels is wrong: correct it with --overrides, or --on_conflict=drop leaves all"
        " of them out",
    ),
    "near_labels_differ": (
        "image looks the same as one of another class",
        "images look the same as one of another class",
        "look whether a label is wrong (--overrides corrects it), or the classes are that alike;"
        " {near}",
    ),
    likeness.COPIES: (
        "file is a copy, to the byte, of another one",
        "files are copies, to the byte, of others",
        "{kept}; to count each image once, name the copies in a CSV for --exclusions",
    ),
    likeness.LOOKALIKES: (
        "image looks the same as another one",
        "images look the same as others",
        "{near}",
    ),
}


def _fixes(gathered: Gathered, flag: str) -> dict[str, str]:
    """Returns by which flags a build keeps in one split what is equal, and what is near."""
    if not gathered.given_splits:
        return {
            "kept": "the build keeps them in one split",
            "near": f"{flag} of the build keeps them in one split",
        }
    return {
        "kept": "--on_leak=drop of the build keeps those in two splits in one alone",
        "near": f"{flag} --on_leak=drop of the build keeps those in two splits in one alone, the"
        f" one that is evaluated last; {flag} without --splits=given keeps all in one",
    }


def _alike(
    gathered: Gathered, alike: Mapping[str, np.ndarray], kind: str, fixes: Mapping[str, str]
) -> Finding | None:
    two, of, sets = alike[kind], "", ""
    if kind.endswith("across_splits"):
        two = two[_are_evaluated(gathered, two[:, 1])]
        of = _of_splits(gathered, two[:, 1])
    if not len(two):
        return None
    one, several, advice = _SAID[kind]
    items = tuple(_pair(gathered, first, row) for first, row in two.tolist())
    if kind in (likeness.COPIES, likeness.LOOKALIKES):
        sets = f", in {counted(likeness.num_sets(two), 'set', 'sets')}"
    said = counted(len(two), one, several).format(of=of)
    return Finding(kind, f"{said}{sets}", advice.format(**fixes), items)


def _are_evaluated(gathered: Gathered, rows: np.ndarray) -> np.ndarray:
    """Returns which rows a score is spoilt by: those of `train` are leaked, not scored on."""
    return np.array([gathered.split_of(row) != "train" for row in rows], bool)


def _of_splits(gathered: Gathered, rows: np.ndarray) -> str:
    counts = Counter(gathered.split_of(row) for row in rows)
    if len(counts) == 1:
        return f" of {next(iter(counts))}"
    return " of " + " and ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))


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


def _why(reject: shard_writer.Reject) -> str:
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
    advice = "collect more, or merge classes with --label_map"
    if gathered.only_split:
        advice = (
            "choose other shares with --splits, collect more, or merge classes with --label_map"
        )
    return Finding(
        "small_class",
        f"{said} fewer than {SMALL_CLASS} images{_in_split(gathered)}",
        f"no score on so few is sure: {advice}",
        items,
        details=True,
    )


def _in_split(gathered: Gathered) -> str:
    return f" in {gathered.only_split}" if gathered.only_split else ""


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
        f"the largest class has {ratio:,.1f} times the images of the smallest{_in_split(gathered)}",
        "--target=balanced, band or sqrt of the training draws the classes more equally; the table"
        " of targets says how often that draws an image",
        items,
        details=True,
    )
