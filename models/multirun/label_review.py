"""Suspected label errors for review: a list, corrections to edit, and a page of their images."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from models.reporting import predictions
from models.reporting.page import pictures_by_key
from records.common import atomic, html
from records.format.record_set import RecordSet

LABEL_ISSUES, OVERRIDES, PAGE = "suspicious.csv", "overrides.csv", "doubts.html"
_TEMPLATE = os.path.join(os.path.dirname(__file__), "doubts.html.j2")
_MAX_PICTURES = 120


def write(
    issues: Sequence[Mapping[str, Any]], opened: RecordSet, split: str, output: str
) -> tuple[str, str, str]:
    """Writes `suspicious.csv`, `overrides.csv` and `doubts.html`; returns their paths.

    `overrides.csv` assigns each image its predicted class. The user deletes the lines of labels
    that are correct and passes the file to the next build as `--overrides`.

    Args:
        issues: from `predictions.label_issues`.
        opened: the records.
        split: a split with all the images.
        output: an existing folder.
    """
    names = LABEL_ISSUES, OVERRIDES, PAGE
    listed, overrides, page = (os.path.join(output, name) for name in names)
    predictions.write_label_issues(issues, listed)
    predictions.write_overrides(issues, overrides)
    shown = issues[:_MAX_PICTURES]
    pictures = pictures_by_key(opened, split, {issue["key"] for issue in shown})
    text = html.render(
        _TEMPLATE,
        issues=issues,
        images=len(opened.index(split)),
        overrides=OVERRIDES,
        shown=[(issue, pictures[issue["key"]]) for issue in shown],
    )
    atomic.write_whole(page, text)
    return listed, overrides, page
