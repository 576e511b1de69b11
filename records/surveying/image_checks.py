"""Checks of image statistics and sizes: outliers, single colours, small and elongated images."""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from records.image import statistics
from records.surveying import outliers
from records.surveying.checks import Check, Evidence, Found, Item, some
from records.surveying.image_table import ImageTable

UNIFORM = 4.0  # grey levels of contrast; less looks like a single colour
TINY = 0.5  # share of the target size; smaller images are enlarged more than twice
LONG = 3.0  # aspect ratio

_HIDDEN_BY = {  # the augmentation that hides a statistic
    "brightness": "--brightness_range",
    "contrast": "--contrast_range",
    "colourfulness": "--saturation_range",
}


def _odd_classes(at: int, evidence: Evidence) -> Iterator[Found]:
    table = evidence.table
    odd = outliers.odd_classes(table.statistics[:, at], table.columns.label)
    items = [
        Item(
            table.class_names[one.label],
            detail=f"median {one.median:.0f}, other classes {one.others:.0f}; higher in"
            f" {one.share:.0%} of pairs",
        )
        for one in sorted(odd, key=lambda one: (-abs(one.share - 0.5), one.label))
    ]
    yield from some(items)


def _odd_class_check(at: int, name: str) -> Check:
    return Check(
        kind=f"odd_{name}",
        find=functools.partial(_odd_classes, at),
        one=f"{{count}} class is an outlier in {name}",
        many=f"{{count}} classes are outliers in {name}",
        advice=f"{name} alone nearly identifies these classes: if the cause is how the images were"
        " made and not what they show, use other images, or hide it with"
        f" {_HIDDEN_BY[name]} in training",
        details=True,
    )


def _outliers(table: ImageTable) -> tuple[list[Item], np.ndarray]:
    """Returns mixed classes, and float64 [n, 3], the robust z of outliers and 0 for other images.

    A class of which more than a tenth are outliers in a statistic is mixed; in that statistic its
    images do not count as outliers.
    """
    label = table.columns.label
    z = np.stack([outliers.scores(column, label) for column in table.statistics.T], axis=1)
    far = np.stack([outliers.are_far(column, label) for column in z.T], axis=1)
    mixed, sizes = [], np.bincount(label)
    for at, name in enumerate(statistics.NAMES):
        counts = np.bincount(label, far[:, at])
        are_mixed = (counts > sizes * outliers.MIXED) & (counts >= outliers.MIN_IMAGES)
        for of_class in np.flatnonzero(are_mixed).tolist():
            far[label == of_class, at] = False
            share = counts[of_class] / sizes[of_class]
            detail = f"{share:.0%} of its images are outliers in {name}"
            mixed.append(Item(table.class_names[of_class], detail=detail))
    return mixed, np.where(far, z, 0)


def _mixed_classes(evidence: Evidence) -> Iterator[Found]:
    yield from some(_outliers(evidence.table)[0])


def _outlying_images(evidence: Evidence) -> Iterator[Found]:
    table = evidence.table
    z = _outliers(table)[1]
    farthest = np.abs(z).max(1, initial=0)
    rows = np.flatnonzero(farthest)
    label = table.columns.label
    medians = {
        of: np.median(table.statistics[label == of], axis=0) for of in np.unique(label[rows])
    }

    def detail(row: int) -> str:
        at = int(np.abs(z[row]).argmax())
        return (
            f"{statistics.NAMES[at]} {table.statistics[row, at]:.0f}, class median"
            f" {medians[label[row]][at]:.0f}, robust z {z[row, at]:+.1f}"
        )

    yield from some(_images(table, rows[np.argsort(-farthest[rows], kind="stable")], detail))


def _uniform(evidence: Evidence) -> Iterator[Found]:
    contrast = evidence.table.statistics[:, statistics.NAMES.index("contrast")]
    rows = np.flatnonzero(contrast < UNIFORM)
    yield from some(_images(evidence.table, rows, lambda row: f"contrast {contrast[row]:.1f}"))


def _tiny(evidence: Evidence) -> Iterator[Found]:
    size = evidence.table.image_size
    items = _sized(evidence.table, lambda sizes: sizes.min(1) < size * TINY)
    yield from some(items, size=str(size))


def _long(evidence: Evidence) -> Iterator[Found]:
    yield from some(_sized(evidence.table, lambda sizes: sizes.max(1) > sizes.min(1) * LONG))


def _sized(table: ImageTable, chosen: Callable[[np.ndarray], np.ndarray]) -> list[Item]:
    """Returns the images that `chosen` selects by size, int64 [n, 2]; none if sizes are unknown."""
    if table.headers is None:
        return []
    sizes = table.headers.size
    rows = np.flatnonzero(chosen(sizes))
    return _images(table, rows, lambda row: f"{sizes[row, 0]}x{sizes[row, 1]}")


def _images(table: ImageTable, rows: np.ndarray, detail: Callable[[int], str]) -> list[Item]:
    return [Item(table.key(row), table.class_of(row), detail(row), (row,)) for row in rows.tolist()]


CHECKS: Sequence[Check] = (
    *(_odd_class_check(at, name) for at, name in enumerate(statistics.NAMES)),
    Check(
        kind="mixed_class",
        find=_mixed_classes,
        one="{count} class holds two kinds of images",
        many="{count} classes hold two kinds of images",
        advice="check whether one kind is unwanted; --exclusions excludes files",
        details=True,
    ),
    Check(
        kind="outlier",
        find=_outlying_images,
        one="{count} image is an outlier in its class",
        many="{count} images are outliers in their classes",
        advice="check them: --overrides corrects a label, --exclusions excludes files",
        details=True,
    ),
    Check(
        kind="uniform",
        find=_uniform,
        one="{count} image has nearly a single colour",
        many="{count} images have nearly a single colour",
        advice="most show nothing (white on white, a placeholder): --exclusions excludes files",
        details=True,
    ),
    Check(
        kind="tiny",
        find=_tiny,
        one="{count} image has a side below half of the {size} pixels it is resized to",
        many="{count} images have a side below half of the {size} pixels they are resized to",
        advice="they are enlarged and blurred: choose a smaller --image_size, or exclude them",
        details=True,
    ),
    Check(
        kind="long",
        find=_long,
        one=f"{{count}} image has an aspect ratio above {LONG:g}",
        many=f"{{count}} images have an aspect ratio above {LONG:g}",
        advice="--resize=stretch distorts them; --resize=pad keeps the aspect ratio, --resize=crop"
        " the centre",
        details=True,
    ),
)
