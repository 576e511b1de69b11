"""Writes a survey as `survey.json` and as a page, `survey.html`: findings, then the evidence."""

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
from records.surveying import facts as facts_lib
from records.surveying import outliers
from records.surveying.checks import Finding, Item
from records.surveying.image_table import ImageTable

JSON_NAME, PAGE_NAME = "survey.json", "survey.html"

_TEMPLATE = os.path.join(os.path.dirname(__file__), "survey.html.j2")
_MAX_SHOWN = 12  # items of a finding with images
_MAX_LISTED = 200  # items of a finding on the page; all are in the JSON
_MAX_CLASSES = 60  # with a line of images
_MAX_CHARTED = 200  # classes with charts
_COLUMNS = 12  # images of a class
_EDGE = 96  # pixels of an image on the page, at most
_BINS = 30
_TOPS = {
    "brightness": 255.0,
    "contrast": 128.0,
}  # ends of a chart's axis; else the 99.9th percentile
_MAX_DOTS = 30


def contents(facts: Mapping[str, Any], found: Sequence[Finding], distance: float) -> dict[str, Any]:
    """Returns the content of `survey.json`: the findings with all their items, then the facts."""
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


def write(said: Mapping[str, Any], found: Sequence[Finding], table: ImageTable, folder: str) -> str:
    """Writes both files atomically into a folder, created if missing; returns the page's path.

    Args:
        said: the JSON, see `contents`.
        found: the findings.
        table: the images; those shown are read again.
    """
    os.makedirs(folder, exist_ok=True)
    page = _page(said, found, table)
    atomic.write_whole(os.path.join(folder, JSON_NAME), atomic.json_bytes(said, indent=1))
    path = os.path.join(folder, PAGE_NAME)
    atomic.write_whole(path, page)
    return path


def _page(said: Mapping[str, Any], found: Sequence[Finding], table: ImageTable) -> bytes:
    pixels = functools.cache(lambda row: _small(table.pixels(row)))
    counts = table.total().tolist()
    return html.render(
        _TEMPLATE,
        said=said,
        printable=cli.printable,
        name=os.path.basename(os.path.normpath(table.path)),
        findings=[(finding, _shown(finding, pixels)) for finding in found],
        max_listed=_MAX_LISTED,
        excluded=facts_lib.EXCLUDED,
        counts=counts,
        statistics=statistics.NAMES,
        lines=_statistics_lines(said, found, table),
        strips=_strips(table, counts, pixels),
    )


def _shown(finding: Finding, pixels: Callable[[int], np.ndarray]) -> list[tuple[Item, str]]:
    """Returns the first items of a finding that have images, each with a strip of these images."""
    shown: dict[frozenset[int], Item] = {}
    for item in finding.items:  # both images of a pair may be items: one strip shows the pair
        if item.rows and len(shown) < _MAX_SHOWN:
            shown.setdefault(frozenset(item.rows), item)
    return [(item, _strip([pixels(row) for row in item.rows])) for item in shown.values()]


def _small(pixels: np.ndarray) -> np.ndarray:
    edge = min(_EDGE, len(pixels))
    return np.asarray(Image.fromarray(pixels).resize((edge, edge), Image.Resampling.BOX))


def _strip(images: Sequence[np.ndarray]) -> str:
    return html.picture(contact_sheet.strip(images, len(images[0])))


def _strips(
    table: ImageTable, counts: Sequence[int], pixels: Callable[[int], np.ndarray]
) -> list[tuple[str, int, str]]:
    """Returns name, number of images and a strip of images of the first classes with images."""
    result = []
    for label in np.flatnonzero(counts)[:_MAX_CLASSES].tolist():
        rows = contact_sheet.even(np.flatnonzero(table.columns.label == label), _COLUMNS)
        strip = _strip([pixels(row) for row in rows])
        result.append((table.class_names[label], counts[label], strip))
    return result


# --- distributions ---


@dataclasses.dataclass(frozen=True)
class _Cell:
    """The distribution of one statistic in one class."""

    chart: str
    quartiles: Mapping[str, float]
    is_odd: bool


def _statistics_lines(
    said: Mapping[str, Any], found: Sequence[Finding], table: ImageTable
) -> list[tuple[str, list[_Cell]]]:
    """Returns name and a cell for each statistic of each class that has images."""
    odd = {
        (finding.kind, item.name)
        for finding in found
        if finding.kind.startswith("odd_")
        for item in finding.items
    }
    columns = [_column(said, table, at, odd) for at in range(len(statistics.NAMES))]
    names = list(said["looks"][statistics.NAMES[0]])[:_MAX_CHARTED]
    return list(zip(names, map(list, zip(*columns, strict=True)), strict=True))


def _column(
    said: Mapping[str, Any], table: ImageTable, at: int, odd: set[tuple[str, str]]
) -> list[_Cell]:
    name, values, label = statistics.NAMES[at], table.statistics[:, at], table.columns.label
    by_class = said["looks"][name]
    top = _TOPS.get(name) or svg.nice_ticks(0, float(np.quantile(values, 0.999)))[-1]
    others = float(np.median([quartiles["median"] for quartiles in by_class.values()]))
    far = outliers.are_far(outliers.scores(values, label), label)
    numbers = {class_name: number for number, class_name in enumerate(table.class_names)}
    cells = []
    for class_name, quartiles in list(by_class.items())[:_MAX_CHARTED]:
        rows = label == numbers[class_name]
        counts, _ = np.histogram(np.minimum(values[rows], top), bins=_BINS, range=(0, top))
        chart = svg.histogram(
            f"{name} of {cli.printable(class_name)}: median {quartiles['median']:.0f}",
            counts.tolist(),
            middle=min(quartiles["median"] / top, 1),
            others=min(others / top, 1),
            dots=np.minimum(values[rows & far][:_MAX_DOTS] / top, 1).tolist(),
        )
        cells.append(_Cell(chart, quartiles, (f"odd_{name}", class_name) in odd))
    return cells
