"""A comparison as one self-contained page, with the images that runs answer otherwise."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

from models import run_folder
from models.multirun import changes
from models.multirun.comparison import Comparison
from records.common import atomic, cli, html
from records.format import manifest, record_set
from records.split import folds

_TEMPLATE = os.path.join(os.path.dirname(__file__), "comparison.html.j2")
_MOST_PICTURES = 24  # of a variation and kind
_EDGE = 160
_Pictures = Mapping[str, str]  # by key


def write(compared: Comparison, folder: str) -> str:
    """Writes `comparison-<split>.html` into a folder; returns its path.

    Pictures are those of the first run's records that hold all images shown; else there are none.
    """
    path = os.path.join(folder, f"comparison-{compared.split}.html")
    shown = {line.name: _shown(line.changes) for line in compared.lines}
    wanted = {each.key for kinds in shown.values() for few in kinds.values() for each in few}
    page = html.render(
        _TEMPLATE,
        compared=compared,
        shown=shown,
        counts={
            line.name: collections.Counter(each.kind for each in line.changes)
            for line in compared.lines
        },
        flags=_differing_flags(compared),
        pictures=_pictures(compared, wanted),
        changed=(
            (changes.LOST, "right for the base alone"),
            (changes.GAINED, "wrong for the base alone"),
            (changes.OTHER, "wrong for both, in another way"),
        ),
    )
    atomic.write_whole(path, page)
    return path


def _shown(found: Sequence[changes.Change]) -> dict[str, list[changes.Change]]:
    return {
        kind: [each for each in found if each.kind == kind][:_MOST_PICTURES]
        for kind in changes.KINDS
    }


def _run_folders(compared: Comparison) -> dict[str, str]:
    """Returns a folder with a `run.json` for each variation that has one: of a fold, if any."""
    found: dict[str, str] = {}
    for line in compared.lines:
        for folder in (line.folders[0], os.path.join(line.folders[0], "fold-00")):
            if run_folder.is_finished(folder):
                found.setdefault(line.name, folder)
    return found


def _differing_flags(compared: Comparison) -> list[tuple[str, list[str]]]:
    """Returns the flags that are not the same for all variations, with the value of each."""
    own: list[Mapping[str, Any]] = []
    folders = _run_folders(compared)
    for line in compared.lines:
        try:
            own.append(run_folder.load(folders[line.name]).flags if line.name in folders else {})
        except run_folder.RunError:
            own.append({})
    table = []
    for name in sorted({name for given in own for name in given} - {"run_dir", "fold", "report"}):
        values = [_value(given.get(name, "")) for given in own]
        if len(set(values)) > 1:
            table.append((name, values))
    return table


def _value(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return cli.printable(text) or "(default)"


def _pictures(compared: Comparison, keys: set[str]) -> _Pictures:
    for folder in _run_folders(compared).values():
        try:
            opened = folds.pooled(record_set.open_set(run_folder.load(folder).records))
        except (run_folder.RunError, manifest.ManifestError, OSError):
            continue
        index = opened.index(folds.POOLED)
        rows = {key: row for row in range(len(index)) if (key := index.key(row)) in keys}
        if len(rows) == len(keys):
            return {
                key: html.picture(opened.pixels(folds.POOLED, row), most=_EDGE)
                for key, row in rows.items()
            }
    return {}
