"""Findings about looks and sizes: far off the class or the others, of one colour, too small."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from records.image import statistics
from records.surveying import outliers
from records.surveying.findings import Finding, Item, counted
from records.surveying.measure import Gathered, Headers

UNIFORM = 4.0  # grey levels: the contrast of what looks like one colour
TINY = 0.5  # share of the target size: what is enlarged more than twice
LONG = 3.0  # times as long one way as the other

_HIDING = {  # what makes a value say less, in training
    "brightness": "--brightness_range",
    "contrast": "--contrast_range",
    "colourfulness": "--saturation_range",
}


def findings(gathered: Gathered) -> Iterator[Finding | None]:
    """Yields what lies far off, in looks and, where they are known, in sizes; None for nothing."""
    for at in range(len(statistics.NAMES)):
        yield _odd_classes(gathered, at)
    yield from _outliers(gathered)
    yield _uniform(gathered)
    if gathered.headers:
        yield from _of_sizes(gathered, gathered.headers)


def _odd_classes(gathered: Gathered, at: int) -> Finding | None:
    name = statistics.NAMES[at]
    odd = outliers.odd_classes(gathered.looks[:, at], gathered.columns.label)
    items = tuple(
        Item(
            gathered.class_names[each.label],
            detail=f"median {each.median:.0f}, the others {each.others:.0f}; higher in"
            f" {each.share:.0%} of pairs",
        )
        for each in sorted(odd, key=lambda each: (-abs(each.share - 0.5), each.label))
    )
    if not items:
        return None
    said = counted(len(items), "class lies", "classes lie")
    return Finding(
        f"odd_{name}",
        f"{said} far off the others in {name}",
        f"{name} alone all but tells them apart: if that comes from how the pictures were made and"
        f" not from what they show, take others, or hide it with {_HIDING[name]} in training",
        items,
        details=True,
    )


def _outliers(gathered: Gathered) -> Iterator[Finding | None]:
    label = gathered.columns.label
    z = np.stack([outliers.scores(column, label) for column in gathered.looks.T], axis=1)
    far = np.stack([outliers.are_far(column, label) for column in z.T], axis=1)
    mixed, sizes = [], np.bincount(label)
    for at, name in enumerate(statistics.NAMES):
        counts = np.bincount(label, far[:, at])
        are_mixed = (counts > sizes * outliers.MIXED) & (counts >= outliers.LEAST_IMAGES)
        for of_class in np.flatnonzero(are_mixed).tolist():
            far[label == of_class, at] = False
            share = counts[of_class] / sizes[of_class]
            detail = f"{share:.0%} of its images lie far off its median {name}"
            mixed.append(Item(gathered.class_names[of_class], detail=detail))
    yield _mixed(mixed)
    yield _far(gathered, np.where(far, z, 0))


def _mixed(items: Sequence[Item]) -> Finding | None:
    if not items:
        return None
    said = counted(len(items), "class holds", "classes hold")
    return Finding(
        "mixed_class",
        f"{said} two kinds of pictures",
        "look whether one kind is unwanted; --exclusions leaves files out",
        tuple(items),
        details=True,
    )


def _far(gathered: Gathered, z: np.ndarray) -> Finding | None:
    most = np.abs(z).max(1, initial=0)
    rows = np.flatnonzero(most)
    rows = rows[np.argsort(-most[rows], kind="stable")]
    medians = _class_medians(gathered)
    items = tuple(_far_item(gathered, z[row], row, medians) for row in rows.tolist())
    if not items:
        return None
    said = counted(len(items), "image lies", "images lie")
    return Finding(
        "outlier",
        f"{said} far off the class",
        "look at them: --overrides corrects a label, --exclusions leaves files out",
        items,
        details=True,
    )


def _class_medians(gathered: Gathered) -> dict[int, np.ndarray]:
    label = gathered.columns.label
    return {at: np.median(gathered.looks[label == at], axis=0) for at in np.unique(label).tolist()}


def _far_item(
    gathered: Gathered, z: np.ndarray, row: int, medians: Mapping[int, np.ndarray]
) -> Item:
    at = int(np.abs(z).argmax())
    median = medians[int(gathered.columns.label[row])][at]
    detail = (
        f"{statistics.NAMES[at]} {gathered.looks[row, at]:.0f}, its class {median:.0f},"
        f" robust z {z[at]:+.1f}"
    )
    return Item(gathered.key(row), gathered.class_of(row), detail, (row,))


def _uniform(gathered: Gathered) -> Finding | None:
    contrast = gathered.looks[:, statistics.NAMES.index("contrast")]
    return _suspicious(
        gathered,
        "uniform",
        np.flatnonzero(contrast < UNIFORM),
        ("image is nearly of one colour", "images are nearly of one colour"),
        "most show nothing (white on white, a placeholder): --exclusions leaves files out",
        lambda row: f"contrast {contrast[row]:.1f}",
    )


def _of_sizes(gathered: Gathered, headers: Headers) -> Iterator[Finding | None]:
    shorter, longer = headers.size.min(1), headers.size.max(1)

    def said(row: int) -> str:
        return f"{headers.size[row, 0]}x{headers.size[row, 1]}"

    size = gathered.image_size
    yield _suspicious(
        gathered,
        "tiny",
        np.flatnonzero(shorter < size * TINY),
        (
            f"image has a side below half of the {size} pixels it is made to",
            f"images have a side below half of the {size} pixels they are made to",
        ),
        "they are enlarged and blurred: choose a smaller --image_size, or leave them out",
        said,
    )
    yield _suspicious(
        gathered,
        "long",
        np.flatnonzero(longer > shorter * LONG),
        (
            f"image is more than {LONG:g} times as long one way as the other",
            f"images are more than {LONG:g} times as long one way as the other",
        ),
        "--resize=stretch distorts them; --resize=pad keeps their form, --resize=crop their middle",
        said,
    )


def _suspicious(
    gathered: Gathered,
    kind: str,
    rows: np.ndarray,
    said: tuple[str, str],
    advice: str,
    detail: Callable[[int], str],
) -> Finding | None:
    items = tuple(
        Item(gathered.key(row), gathered.class_of(row), detail(row), (row,))
        for row in rows.tolist()
    )
    if not items:
        return None
    return Finding(kind, counted(len(items), *said), advice, items, details=True)
