"""A comparison as text for the screen, and as a self-contained HTML page."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

from models import run_folder
from models.multirun import comparison
from models.multirun.comparison import Change, Comparison, metric_words
from models.reporting.page import pictures_by_key
from records.common import atomic, cli, html
from records.format import manifest, record_set
from records.split import folds

_TEMPLATE = os.path.join(os.path.dirname(__file__), "comparison.html.j2")
_MAX_PICTURES = 24  # images of each kind for each variation
# `comparison-<split>.json` keeps the verdicts of version 0.5.
_VERDICTS = {comparison.NOISE: "no significant difference"}
_MEANINGS = (
    (comparison.LOST, "only the baseline is correct"),
    (comparison.GAINED, "only this variation is correct"),
    (comparison.OTHER, "both are wrong, in different ways"),
)


def text(compared: Comparison) -> str:
    """Returns a comparison for the screen: scores, differences, and notes."""
    count = f"{compared.split}: {compared.images:,} images that all runs predicted"
    if compared.left_out:
        count += f" (excluding up to {compared.left_out:,} of a run that others did not predict)"
    unit = "image" if compared.groups == compared.images else "group"
    exchanged = f"predictions exchanged {unit} by {unit}, {compared.groups:,} {unit}s"
    notes = [f"p by images: {exchanged}", *compared.notes]
    tables = [_scores_table(compared), "", _differences_table(compared)]
    return "\n".join([count, *tables, *map(cli.printable, notes)])


def write(compared: Comparison, folder: str) -> str:
    """Writes `comparison-<split>.html` to a folder; returns its path.

    The images come from the first run's records that contain all of them, if any do.
    """
    path = os.path.join(folder, f"comparison-{compared.split}.html")
    shown = {line.name: _shown(line.changes) for line in compared.lines}
    keys = {each.key for kinds in shown.values() for changes in kinds.values() for each in changes}
    page = html.render(
        _TEMPLATE,
        compared=compared,
        shown=shown,
        counts={
            line.name: collections.Counter(each.kind for each in line.changes)
            for line in compared.lines
        },
        flags=_differing_flags(compared),
        pictures=_pictures(compared, keys),
        kinds=_MEANINGS,
        verdicts=_VERDICTS,
        words=metric_words,
    )
    atomic.write_whole(path, page)
    return path


def _scores_table(compared: Comparison) -> str:
    names = list(dict.fromkeys(("accuracy", comparison.METRIC, compared.metric)))
    # With one run for each variation there is no interval by seeds.
    seeds = any(len(line.folders) > 1 for line in compared.lines)
    header = ["variation", "runs"]
    for name in names:
        header += [metric_words(name), "by images", *(["by seeds"] if seeds else [])]
    rows: list[Sequence[object]] = [header]
    for line in compared.lines:
        row: list[object] = [line.name, len(line.folders)]
        for name in names:
            found = line.metrics[name]
            row += [f"{found.mean:.4f}", _interval(found.by_images)]
            row += [_interval(found.by_seeds)] if seeds else []
        rows.append(row)
    return cli.table(rows)


def _interval(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _differences_table(compared: Comparison) -> str:
    metric = metric_words(compared.metric)
    rows: list[Sequence[object]] = [
        ("variation", metric, "p by images", "p by seeds", "adjusted", "verdict")
    ]
    for line in compared.lines:
        found = line.difference
        if found is None:
            rows.append((line.name, "baseline", "", "", "", ""))
            continue
        seeds = "-" if found.p_seeds is None else f"{found.p_seeds:.4f}"
        numbers = (f"{found.value:+.4f}", f"{found.p_images:.4f}", seeds, f"{found.p_adjusted:.4f}")
        rows.append((line.name, *numbers, _VERDICTS.get(found.verdict, found.verdict)))
    return cli.table(rows)


def _shown(changes: Sequence[Change]) -> dict[str, list[Change]]:
    return {
        kind: [each for each in changes if each.kind == kind][:_MAX_PICTURES]
        for kind in comparison.KINDS
    }


def _run_folders(compared: Comparison) -> dict[str, str]:
    """Returns a folder with a `run.json` for each variation that has one, perhaps in a fold."""
    found: dict[str, str] = {}
    for line in compared.lines:
        for folder in (line.folders[0], os.path.join(line.folders[0], "fold-00")):
            if run_folder.is_finished(folder):
                found.setdefault(line.name, folder)
    return found


def _differing_flags(compared: Comparison) -> list[tuple[str, list[str]]]:
    """Returns the flags that differ between variations, with the value of each variation."""
    flags: list[Mapping[str, Any]] = []
    folders = _run_folders(compared)
    for line in compared.lines:
        try:
            flags.append(run_folder.load(folders[line.name]).flags if line.name in folders else {})
        except run_folder.RunError:
            flags.append({})
    table = []
    for name in sorted({name for own in flags for name in own} - {"run_dir", "fold", "report"}):
        values = [_value(own.get(name, "")) for own in flags]
        if len(set(values)) > 1:
            table.append((name, values))
    return table


def _value(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return cli.printable(text) or "(default)"


def _pictures(compared: Comparison, keys: set[str]) -> Mapping[str, str]:
    for folder in _run_folders(compared).values():
        try:
            opened = folds.pooled(record_set.open_set(run_folder.load(folder).records))
        except (run_folder.RunError, manifest.ManifestError, OSError):
            continue
        found = pictures_by_key(opened, folds.POOLED, keys)
        if len(found) == len(keys):
            return found
    return {}
