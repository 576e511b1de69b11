"""Labels that predictions contradict, to be looked through: pictures, and corrections to edit."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from models.reporting import predictions
from records.common import atomic, html
from records.format.record_set import RecordSet

OVERRIDES, PAGE = "overrides.csv", "doubts.html"
_TEMPLATE = os.path.join(os.path.dirname(__file__), "doubts.html.j2")
_MOST_PICTURES = 120
_EDGE = 160


def write(
    found: Sequence[Mapping[str, Any]], opened: RecordSet, split: str, output: str
) -> tuple[str, str]:
    """Writes `overrides.csv` and `doubts.html` into a folder; returns their paths.

    A line of the CSV gives an image the class that was predicted, the strongest doubt first. Lines
    of labels that are right are to be deleted; what is left is for `--overrides` of the next build.

    Args:
        found: of `predictions.suspicious`, the strongest contradiction first.
        opened: the records.
        split: that holds all the images.
        output: folder.
    """
    path, page = os.path.join(output, OVERRIDES), os.path.join(output, PAGE)
    predictions.write_overrides(found, path)
    index = opened.index(split)
    shown = found[:_MOST_PICTURES]
    keys = {line["key"] for line in shown}
    rows = {key: row for row in range(len(index)) if (key := index.key(row)) in keys}
    text = html.render(
        _TEMPLATE,
        found=found,
        images=len(index),
        overrides=OVERRIDES,
        shown=[
            (line, html.picture(opened.pixels(split, rows[line["key"]]), most=_EDGE))
            for line in shown
        ],
    )
    atomic.write_whole(page, text)
    return path, page
