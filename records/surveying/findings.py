"""The findings of a survey: what to look at before training.

`CHECKS` lists all checks in the order of a report: what invalidates a score comes first. Those of
splits, duplicates, files and classes are here, those of image statistics and sizes in
`image_checks`.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from records.common import cli
from records.inspect import leaks
from records.surveying import facts, image_checks
from records.surveying.checks import Check, Evidence, Finding, Found, Item, counted, some
from records.surveying.image_table import ImageTable

SMALL_CLASS = 10  # images: with fewer, each split has one or two
IMBALANCE = 2.0  # times the smallest class


def findings(evidence: Evidence) -> list[Finding]:
    """Returns all findings, in the order of `CHECKS`."""
    return [finding for check in CHECKS for finding in check.findings(evidence)]


# --- duplicates ---


def _across_splits(kind: str, evidence: Evidence) -> Iterator[Found]:
    table, pairs = evidence.table, evidence.pairs[kind]
    # Leaked images of `train` do not count: no score is computed on them.
    pairs = np.array([two for two in pairs.tolist() if table.split_of(two[1]) != "train"], int)
    counts = Counter(table.split_of(row) for _, row in pairs.tolist())
    in_splits = " and ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))
    if len(counts) == 1:
        in_splits = next(iter(counts))
    yield from some(_pairs(evidence.table, pairs), splits=in_splits, **_fixes(evidence))


def _labels_differ(kind: str, evidence: Evidence) -> Iterator[Found]:
    yield from some(_pairs(evidence.table, evidence.pairs[kind]), **_fixes(evidence))


def _duplicates(kind: str, evidence: Evidence) -> Iterator[Found]:
    pairs = evidence.pairs[kind]
    sets = counted(leaks.num_sets(pairs), "set", "sets")
    yield from some(_pairs(evidence.table, pairs), sets=sets, **_fixes(evidence))


def _pairs(table: ImageTable, pairs: np.ndarray) -> list[Item]:
    return [_pair(table, first, row) for first, row in pairs.tolist()]


def _pair(table: ImageTable, first: int, row: int) -> Item:
    where = [table.class_of(first), table.split_of(first)]
    other = f"{table.key(first)} ({', '.join(filter(None, where))})"
    split = table.split_of(row)
    detail = f"in {split}, like {other}" if split else f"like {other}"
    return Item(table.key(row), table.class_of(row), detail, (row, first))


def _fixes(evidence: Evidence) -> dict[str, str]:
    """Returns the flags by which a build keeps equal and near images in one split."""
    near = f"--near_duplicates={evidence.distance or 0.01:g}"
    if not evidence.table.given_splits:
        return {
            "keep_equal": "the build keeps them in one split",
            "keep_near": f"{near} of the build keeps them in one split",
        }
    dropped = "--on_leak=drop of the build keeps each in only one split"
    return {
        "keep_equal": dropped,
        "keep_near": f"{near} {dropped}, the one evaluated last; {near} without --splits=given"
        " keeps all of them, in one split",
    }


# --- files and classes ---


def _unreadable(evidence: Evidence) -> Iterator[Found]:
    skipped = [file for file in evidence.table.omitted if file.reason not in facts.EXCLUDED]
    reasons = sorted(Counter(file.reason for file in skipped).items())
    items = [
        Item(
            file.key,
            file.label,
            file.detail if file.detail.startswith(file.reason) else file.reason,
        )
        for file in skipped
    ]
    yield from some(items, reasons=", ".join(f"{count:,} x {reason}" for reason, count in reasons))


def _missing_classes(evidence: Evidence) -> Iterator[Found]:
    table, total = evidence.table, evidence.table.total()
    empty = {"at all": total == 0}
    if len(table.split_names) == 1:
        empty = {f"in {table.split_names[0]}": total == 0}
    elif table.split_names:
        for split, counts in table.counts().items():
            empty[f"in {split}"] = (counts == 0) & (total > 0)
    for where, is_empty in empty.items():
        names = [table.class_names[label] for label in np.flatnonzero(is_empty)]
        yield from some([Item(name) for name in names], where=where)


def _small_classes(evidence: Evidence) -> Iterator[Found]:
    total = evidence.table.total()
    small = [label for label in np.argsort(total, kind="stable") if 0 < total[label] < SMALL_CLASS]
    shares = "choose other shares with --splits, " if evidence.table.only_split else ""
    yield from _classes(evidence.table, small, shares=shares)


def _imbalance(evidence: Evidence) -> Iterator[Found]:
    total = evidence.table.total()
    used = np.flatnonzero(total)
    largest, smallest = used[total[used].argmax()], used[total[used].argmin()]
    ratio = total[largest] / total[smallest]
    if ratio >= IMBALANCE:
        yield from _classes(evidence.table, [largest, smallest], ratio=f"{ratio:,.1f}")


def _classes(table: ImageTable, labels: Sequence[int], **words: str) -> Iterator[Found]:
    total = table.total()
    items = [
        Item(table.class_names[label], detail=counted(int(total[label]), "image", "images"))
        for label in labels
    ]
    in_split = f" in {table.only_split}" if table.only_split else ""
    yield from some(items, in_split=in_split, **words)


def _warnings(evidence: Evidence) -> Iterator[Found]:
    for line in evidence.table.warnings:
        yield Found((), {"warning": cli.printable(line)})


# --- the checks ---

CHECKS: Sequence[Check] = (
    Check(
        kind="equal_across_splits",
        find=functools.partial(_across_splits, "equal_across_splits"),
        one="{count} image of {splits} is a byte-identical duplicate of an image in another split",
        many="{count} images of {splits} are byte-identical duplicates of an image in another"
        " split",
        advice="scores on them are meaningless: build with --on_leak=drop, or without"
        " --splits=given",
    ),
    Check(
        kind="near_across_splits",
        find=functools.partial(_across_splits, "near_across_splits"),
        one="{count} image of {splits} is a near duplicate of an image in another split",
        many="{count} images of {splits} are near duplicates of an image in another split",
        advice="scores on them are optimistic: {keep_near}",
    ),
    Check(
        kind="group_across_splits",
        find=functools.partial(_across_splits, "group_across_splits"),
        one="{count} image of {splits} belongs to a group with images in another split",
        many="{count} images of {splits} belong to a group with images in another split",
        advice="build with --on_leak=drop, or without --splits=given",
    ),
    Check(
        kind="equal_labels_differ",
        find=functools.partial(_labels_differ, "equal_labels_differ"),
        one="{count} image is a byte-identical duplicate of an image of another class",
        many="{count} images are byte-identical duplicates of an image of another class",
        advice="one of the labels is wrong: correct it with --overrides, or exclude all of them"
        " with --on_conflict=drop",
    ),
    Check(
        kind="unreadable",
        find=_unreadable,
        one="{count} file cannot be used ({reasons})",
        many="{count} files cannot be used ({reasons})",
        advice="the build skips them and lists them in rejects.jsonl; repair them, or exclude them"
        " with --exclude or --exclusions",
    ),
    Check(
        kind="missing_class",
        find=_missing_classes,
        one="{count} class has no image {where}",
        many="{count} classes have no image {where}",
        advice="collect more images, merge classes with --label_map, or choose other shares with"
        " --splits",
    ),
    Check(
        kind="small_class",
        find=_small_classes,
        one=f"{{count}} class has fewer than {SMALL_CLASS} images{{in_split}}",
        many=f"{{count}} classes have fewer than {SMALL_CLASS} images{{in_split}}",
        advice="scores on so few images are uncertain: {shares}collect more images, or merge"
        " classes with --label_map",
        details=True,
    ),
    Check(
        kind="imbalance",
        find=_imbalance,
        many="the largest class has {ratio} times as many images as the smallest{in_split}",
        advice="--target=balanced, band or sqrt in training draws the classes more equally; the"
        " table of targets shows how often each image would be drawn",
        details=True,
    ),
    *image_checks.CHECKS,
    Check(
        kind="near_labels_differ",
        find=functools.partial(_labels_differ, "near_labels_differ"),
        one="{count} image is a near duplicate of an image of another class",
        many="{count} images are near duplicates of an image of another class",
        advice="check whether a label is wrong (--overrides corrects it) or the classes look"
        " alike; {keep_near}",
    ),
    Check(
        kind=leaks.EQUAL,
        find=functools.partial(_duplicates, leaks.EQUAL),
        one="{count} file is a byte-identical duplicate, in {sets}",
        many="{count} files are byte-identical duplicates, in {sets}",
        advice="{keep_equal}; to count each image once, list the duplicates in a CSV for"
        " --exclusions",
    ),
    Check(
        kind=leaks.NEAR,
        find=functools.partial(_duplicates, leaks.NEAR),
        one="{count} image is a near duplicate, in {sets}",
        many="{count} images are near duplicates, in {sets}",
        advice="{keep_near}",
    ),
    Check(
        kind="warning",
        find=_warnings,
        many="{warning}",
        advice="check the flags: this is probably not intended",
    ),
)
