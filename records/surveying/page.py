"""A survey as `survey.json` and as one page, `survey.html`: findings first, then the evidence."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from records.common import atomic, cli, html, svg
from records.image import statistics
from records.inspect import contact_sheet
from records.surveying import outliers
from records.surveying.findings import Finding, Item
from records.surveying.measure import Gathered

JSON_NAME, PAGE_NAME = "survey.json", "survey.html"

_TEMPLATE = os.path.join(os.path.dirname(__file__), "survey.html.j2")
_MOST_PICTURED = 12  # of a finding
_MOST_LISTED = 200  # of a finding on the page; all are in the JSON
_MOST_CLASSES = 60  # that have a line of images
_MOST_CHARTED = 200  # classes
_COLUMNS = 12  # images of a class
_EDGE = 96  # pixels of an image on the page, at most
_BINS = 30
_TOPS = {"brightness": 255.0, "contrast": 128.0}  # where a chart ends; else where the values do
_MOST_DOTS = 30


def contents(facts: Mapping[str, Any], found: Sequence[Finding], distance: float) -> dict[str, Any]:
    """Returns what `survey.json` says: the findings with all their items, then the facts."""
    return {
        "findings": [
            {
                "kind": finding.kind,
                "what": finding.what,
                "advice": finding.advice,
                "items": [
                    {"name": item.name, "class": item.class_name, "detail": item.detail}
                    for item in finding.items
                ],
            }
            for finding in found
        ],
        "distance": distance,
        **facts,
    }


def write(
    said: Mapping[str, Any], found: Sequence[Finding], gathered: Gathered, folder: str
) -> str:
    """Writes both files, each whole or not at all; returns the path of the page.

    Args:
        said: see `contents`.
        found: the findings.
        gathered: the images.
        folder: is made if it is not there.

    Raises:
        OSError: if they cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    page = _page(said, found, gathered)
    atomic.write_whole(os.path.join(folder, JSON_NAME), atomic.json_bytes(said, indent=1))
    path = os.path.join(folder, PAGE_NAME)
    atomic.write_whole(path, page)
    return path


@dataclasses.dataclass(frozen=True)
class _Shown:
    """An item with its images as one picture."""

    item: Item
    picture: str


def _page(said: Mapping[str, Any], found: Sequence[Finding], gathered: Gathered) -> bytes:
    pixels = functools.cache(lambda row: _small(gathered.pixels(row)))
    counts = np.sum(list(said["counts"].values()), axis=0).tolist()
    return html.render(
        _TEMPLATE,
        said=said,
        printable=cli.printable,
        name=os.path.basename(os.path.normpath(gathered.path)),
        findings=[(finding, _shown(finding, pixels)) for finding in found],
        most_listed=_MOST_LISTED,
        counts=counts,
        looks=statistics.NAMES,
        lines=_look_lines(said, found, gathered),
        strips=_strips(gathered, counts, pixels),
    )


def _shown(finding: Finding, pixels: Callable[[int], np.ndarray]) -> list[_Shown]:
    pictured: dict[frozenset[int], Item] = {}
    for item in finding.items:  # where two are alike and each is an item, one picture shows both
        if item.rows and len(pictured) < _MOST_PICTURED:
            pictured.setdefault(frozenset(item.rows), item)
    return [_Shown(item, _strip([pixels(row) for row in item.rows])) for item in pictured.values()]


def _small(pixels: np.ndarray) -> np.ndarray:
    """Returns an image as large as it stands on the page."""
    edge = min(_EDGE, len(pixels))
    return np.asarray(Image.fromarray(pixels).resize((edge, edge), Image.Resampling.BOX))


def _strip(images: Sequence[np.ndarray]) -> str:
    return html.picture(contact_sheet.strip(images, len(images[0])))


def _strips(
    gathered: Gathered, counts: Sequence[int], pixels: Callable[[int], np.ndarray]
) -> list[tuple[str, int, str]]:
    """Returns name, images and a picture of the first classes that have images."""
    used = [at for at, count in enumerate(counts) if count][:_MOST_CLASSES]
    result = []
    for at in used:
        rows = contact_sheet.even(np.flatnonzero(gathered.columns.label == at), _COLUMNS)
        result.append((gathered.class_names[at], counts[at], _strip([pixels(r) for r in rows])))
    return result


# --- distributions ---


@dataclasses.dataclass(frozen=True)
class _Cell:
    """How one value is spread in one class."""

    chart: str
    quartiles: Mapping[str, float]
    is_odd: bool


def _look_lines(
    said: Mapping[str, Any], found: Sequence[Finding], gathered: Gathered
) -> list[tuple[str, list[_Cell]]]:
    """Returns for each class that has images its name and a cell for each value."""
    odd = {
        (finding.kind, item.name)
        for finding in found
        if finding.kind.startswith("odd_")
        for item in finding.items
    }
    columns = [_column(said, gathered, at, odd) for at in range(len(statistics.NAMES))]
    names = list(said["looks"][statistics.NAMES[0]])[:_MOST_CHARTED]
    return list(zip(names, map(list, zip(*columns, strict=True)), strict=True))


def _column(
    said: Mapping[str, Any], gathered: Gathered, at: int, odd: set[tuple[str, str]]
) -> list[_Cell]:
    name, values, label = statistics.NAMES[at], gathered.looks[:, at], gathered.columns.label
    by_class = said["looks"][name]
    top = _TOPS.get(name) or svg.nice_ticks(0, float(np.quantile(values, 0.999)))[-1]
    others = float(np.median([quartiles["median"] for quartiles in by_class.values()]))
    far = outliers.are_far(outliers.scores(values, label), label)
    numbers = {class_name: number for number, class_name in enumerate(gathered.class_names)}
    cells = []
    for class_name, quartiles in list(by_class.items())[:_MOST_CHARTED]:
        rows = label == numbers[class_name]
        counts, _ = np.histogram(np.minimum(values[rows], top), bins=_BINS, range=(0, top))
        chart = svg.histogram(
            f"{name} of {cli.printable(class_name)}: median {quartiles['median']:.0f}",
            counts.tolist(),
            middle=min(quartiles["median"] / top, 1),
            others=min(others / top, 1),
            dots=np.minimum(values[rows & far][:_MOST_DOTS] / top, 1).tolist(),
        )
        cells.append(_Cell(chart, quartiles, (f"odd_{name}", class_name) in odd))
    return cells
