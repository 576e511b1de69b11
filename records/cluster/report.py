"""What clustering found, as files: CSVs to work with, a page to look at, JSON to compute with."""

import csv
import glob
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from records.cluster import clustering
from records.cluster import separation as cluster_kinds
from records.cluster.features import Features
from records.cluster.rows import Group, Rows
from records.common import atomic, cli, html

CLUSTERS_NAME, EXCLUSIONS_NAME = "clusters.csv", "exclusions.csv"
JSON_NAME, PAGE_NAME = "clusters.json", "clusters.html"
PHOTO, DRAWING = "photo", "drawing"  # tags proposed where there are two kinds

_TEMPLATE = os.path.join(os.path.dirname(__file__), "clusters.html.j2")
_COLUMNS = ("path", "class", "split", "cluster", "margin", "photo_likeness", "kind", "stray")
_PICTURES, _FEWER_PICTURES = 12, 6  # of a cluster, typical and doubtful; fewer of one kind
_MOST_GROUPS = 60  # whose pictures stand on the page
_EDGE = 64  # pixels of a picture on the page
_BARS, _BAR_WIDTH, _BAR_HEIGHT = 25, 18, 90  # of the chart of photo-likeness


def summary(
    rows: Rows, features: Features, groups: Sequence[Group], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what is said of a clustering, in values that JSON knows.

    Args:
        rows: of the set.
        features: of the rows.
        groups: the clusterings.
        settings: how they were made.
    """
    likeness = features.photo_likeness()
    listed, unlisted = exclusions(rows, groups)
    return {
        "records": rows.opened.folder,
        "records_digest": rows.opened.manifest.digest,
        "splits": list(rows.splits),
        "images": len(rows),
        "settings": dict(settings),
        "usual_photo_likeness": _rounded(np.median(likeness)) if len(rows) else None,
        "groups": [_of_group(rows, features, group) for group in groups],
        "proposed": sum(int(group.stray.sum()) for group in groups),
        "listed": len(listed),
        "unlisted": unlisted,
        "excluded_before": rows.opened.manifest.reasons.get("excluded_by_list", 0),
    }


def _of_group(rows: Rows, features: Features, group: Group) -> dict[str, Any]:
    found, separation = group.found, group.separation
    likeness = features.photo_likeness()[group.rows]
    own = features.taken(group.rows)
    two = separation.verdict == cluster_kinds.TWO_KINDS
    return {
        "name": group.name,
        "images": len(group.rows),
        "clustered_exactly": len(found.sample),
        "verdict": separation.verdict,
        "silhouette": _rounded(separation.silhouette),
        "one_kind_silhouette": _rounded(separation.reference),
        "step": _rounded(separation.step),
        "gap": _rounded(separation.gap),
        "proposed": int(group.stray.sum()),
        "clusters": [
            {
                "number": int(number),
                "images": int(inside.sum()),
                "tag": _tag(bool(found.is_photo[inside][0])) if two else "",
                "stray": bool(group.stray[inside][0]),
                "photo_likeness": _rounded(np.median(likeness[inside])),
                "marks": list(cluster_kinds.described(own, inside)),
                "classes": _classes(rows, group.rows[inside]),
            }
            for number, inside in _by_cluster(found)
        ],
    }


def _by_cluster(found: clustering.Clusters) -> list[tuple[int, np.ndarray]]:
    return [(number, found.cluster == number) for number in np.unique(found.cluster)]


def _classes(rows: Rows, members: np.ndarray) -> dict[str, int]:
    counts = Counter(rows.label[members].tolist())
    return {rows.class_names[label]: count for label, count in sorted(counts.items())}


def _tag(is_photo: bool) -> str:
    return PHOTO if is_photo else DRAWING


def _rounded(value: float) -> float:
    return round(float(value), 4)


# --- the tables ---


def exclusions(
    rows: Rows, groups: Sequence[Group]
) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Returns (path, reason) of the files to leave out, and what no such line can name.

    A build reads its list as UTF-8, and leaves out whole files: `not_utf8` are files whose names
    are not, `part_of_file` images cut from a file that holds others, which are to be kept.
    """
    stray = {
        rows.keys[at]: f"stray {_tag(bool(is_photo))} in {group.name}"
        for group in groups
        for at, is_photo in zip(
            group.rows[group.stray], group.found.is_photo[group.stray], strict=True
        )
    }
    files_of = _files(rows)
    unlisted: dict[str, list[str]] = {"not_utf8": [], "part_of_file": []}
    listed: dict[str, str] = {}
    kept = {path for key, path in files_of.items() if key not in stray}
    for key, reason in sorted(stray.items()):
        if files_of[key] in kept:
            unlisted["part_of_file"].append(key)
        else:
            listed[files_of[key]] = reason
    unlisted["not_utf8"] = [path for path in listed if not _is_utf8(path)]
    return [(path, reason) for path, reason in listed.items() if _is_utf8(path)], unlisted


def _files(rows: Rows) -> dict[str, str]:
    """Returns the path of the file that each image of the whole set was made from, by key."""
    opened = rows.opened
    if not opened.manifest.settings.get("boxes"):
        return {key: key for key in rows.keys}
    indexes = [opened.index(name) for name in opened.manifest.splits]
    keys = [index.key(row) for index in indexes for row in range(len(index))]
    return {key: key.rpartition("#")[0] or key for key in keys}


def _is_utf8(text: str) -> bool:
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def exclude_flag(path: str) -> str:
    """Returns `--exclude` for this file and no other, as a word for bash."""
    return f"$'--exclude={'/'.join(map(_bash, glob.escape(path).split('/')))}'"


def _bash(part: str) -> str:
    """Returns a part of a path to stand in $'': as it is, or where that is no text its bytes."""
    return "".join(
        char
        if char.isprintable() and char not in "\\'" and (char.isascii() or _is_utf8(part))
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
        for char in part
    )


def clusters_csv(rows: Rows, features: Features, groups: Sequence[Group]) -> bytes:
    """Returns a line for every row, class by class; `kind` is what was found, not a given tag."""
    likeness = features.photo_likeness()
    lines: list[Sequence[object]] = [_COLUMNS]
    for group in groups:
        found, two = group.found, group.separation.verdict == cluster_kinds.TWO_KINDS
        for place, at in enumerate(group.rows.tolist()):
            lines.append(
                (
                    rows.keys[at],
                    rows.class_names[rows.label[at]],
                    rows.splits[rows.split[at]],
                    found.cluster[place],
                    f"{found.margin[place]:.4f}",
                    f"{likeness[at]:.4f}",
                    _tag(bool(found.is_photo[place])) if two else "",
                    "yes" if group.stray[place] else "no",
                )
            )
    return _csv(lines)


def _csv(lines: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(lines)
    return out.getvalue().encode("utf-8", "backslashreplace")


# --- all of them ---


def write(
    said: Mapping[str, Any],
    rows: Rows,
    features: Features,
    groups: Sequence[Group],
    folder: str,
    command: str,
) -> None:
    """Writes the four files into an existing folder.

    Args:
        said: as from `summary`, and `tags` and `ablation`, which may be None.
        rows: of the set.
        features: of the rows.
        groups: the clusterings.
        folder: where to.
        command: that takes the exclusions in, for the page.
    """
    listed, _ = exclusions(rows, groups)
    contents = {
        CLUSTERS_NAME: clusters_csv(rows, features, groups),
        EXCLUSIONS_NAME: _csv([("path", "reason"), *listed]),
        JSON_NAME: atomic.json_bytes(said, indent=1),
        PAGE_NAME: page(said, rows, features, groups, command),
    }
    for name, data in contents.items():
        atomic.write_whole(os.path.join(folder, name), data)


def page(
    said: Mapping[str, Any],
    rows: Rows,
    features: Features,
    groups: Sequence[Group],
    command: str,
) -> bytes:
    """Returns the gallery: groups of two kinds first, then the others, each by its cluster."""
    likeness = features.photo_likeness()
    order = sorted(range(len(groups)), key=lambda at: -said["groups"][at]["proposed"])
    shown = [
        (
            said["groups"][at],
            likeness_chart(likeness[groups[at].rows], groups[at].found.is_photo),
            [_examples(rows, groups[at], inside) for _, inside in _by_cluster(groups[at].found)],
        )
        for at in order[:_MOST_GROUPS]
    ]
    return html.render(
        _TEMPLATE,
        said=said,
        shown=shown,
        command=command,
        two_kinds=cluster_kinds.TWO_KINDS,
        least={
            "step": cluster_kinds.LEAST_STEP,
            "gap": cluster_kinds.LEAST_GAP,
            "gain": cluster_kinds.LEAST_GAIN,
        },
    )


def _examples(
    rows: Rows, group: Group, inside: np.ndarray
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns (what they are, pictures with their names) of a cluster: typical, and doubtful."""
    count = _PICTURES if group.stray.any() else _FEWER_PICTURES
    places = np.flatnonzero(inside)
    nearest = places[np.argsort(group.found.distance[places], kind="stable")][:count]
    border = places[np.argsort(group.found.margin[places], kind="stable")]
    border = border[~np.isin(border, nearest)][:count]
    chosen = {"nearest the centre": nearest, "at the border": border}
    return [
        (what, [_picture(rows, int(at)) for at in group.rows[which]])
        for what, which in chosen.items()
        if len(which)
    ]


def _picture(rows: Rows, at: int) -> tuple[str, str]:
    image = Image.fromarray(rows.pixels(at))
    if image.width > _EDGE:
        image = image.resize((_EDGE, _EDGE), Image.Resampling.BOX)
    return html.picture(image), cli.printable(rows.keys[at])


def likeness_chart(likeness: np.ndarray, is_photo: np.ndarray) -> str:
    """Returns an SVG of how many images have which photo-likeness, 0 to 1, by side."""
    edges = np.linspace(0, 1, _BARS + 1)
    sides = [np.histogram(likeness[is_photo == side], edges)[0] for side in (False, True)]
    scale = _BAR_HEIGHT / max(1, int((sides[0] + sides[1]).max()))
    width = _BARS * _BAR_WIDTH
    parts = [
        f'<svg viewBox="0 0 {width} {_BAR_HEIGHT + 16}" role="img"'
        ' aria-label="Images by photo-likeness, from 0 to 1">'
    ]
    for bar, (low, high) in enumerate(zip(*sides, strict=True)):
        for number, count, below in ((0, low, 0), (1, high, low)):
            if count:
                top = _BAR_HEIGHT - (count + below) * scale
                parts.append(
                    f'<rect class="dot line{number}" x="{bar * _BAR_WIDTH}" y="{top:.1f}"'
                    f' width="{_BAR_WIDTH - 1}" height="{count * scale:.1f}"/>'
                )
    parts.append(f'<text class="tick" x="0" y="{_BAR_HEIGHT + 13}">0</text>')
    parts.append(
        f'<text class="tick" x="{width}" y="{_BAR_HEIGHT + 13}" text-anchor="end">'
        "photo-likeness 1</text>"
    )
    return "".join([*parts, "</svg>"])
