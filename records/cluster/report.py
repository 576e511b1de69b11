"""The result of clustering as files: two CSVs, a page and JSON."""

import csv
import glob
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from records.cluster import separation
from records.cluster.clustering import Clusters
from records.cluster.features import Features
from records.cluster.rows import Group
from records.common import atomic, cli, html, svg
from records.inspect import row_table
from records.inspect.row_table import RowTable

CLUSTERS_NAME, EXCLUSIONS_NAME = "clusters.csv", "exclusions.csv"
JSON_NAME, PAGE_NAME = "clusters.json", "clusters.html"
PHOTO, DRAWING = "photo", "drawing"  # tags proposed where there are two kinds

_TEMPLATE = os.path.join(os.path.dirname(__file__), "clusters.html.j2")
_COLUMNS = ("path", "class", "split", "cluster", "margin", "photo_likeness", "kind", "stray")
_IMAGES, _FEWER_IMAGES = 12, 6  # of each sort on the page; fewer if nothing is proposed
_MAX_GROUPS = 60  # with images on the page
_EDGE = 64  # pixels of an image on the page
_BARS = 25  # of the chart of photo-likeness


def contents(
    rows: RowTable, features: Features, groups: Sequence[Group], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the content of `clusters.json`."""
    likeness = features.photo_likeness()
    listed, unlisted = exclusions(rows, groups)
    return {
        "records": rows.opened.folder,
        "records_digest": rows.opened.manifest.digest,
        "splits": list(rows.splits),
        "images": len(rows),
        "settings": dict(settings),
        "usual_photo_likeness": _rounded(np.median(likeness)) if len(rows) else None,
        "groups": [_group(rows, features, group) for group in groups],
        "proposed": sum(int(group.stray.sum()) for group in groups),
        "listed": len(listed),
        "unlisted": unlisted,
        "excluded_before": rows.opened.manifest.reasons.get("excluded_by_list", 0),
    }


def _group(rows: RowTable, features: Features, group: Group) -> dict[str, Any]:
    own, apart = features.take(group.rows), group.separation
    likeness, tags = own.photo_likeness(), _tags(group)
    return {
        "name": group.name,
        "images": len(group.rows),
        "clustered_exactly": len(group.clusters.sample),
        "verdict": apart.verdict,
        "silhouette": _rounded(apart.silhouette),
        "one_kind_silhouette": _rounded(apart.reference),
        "step": _rounded(apart.step),
        "gap": _rounded(apart.gap),
        "proposed": int(group.stray.sum()),
        "clusters": [
            {
                "number": int(number),
                "images": int(inside.sum()),
                "tag": str(tags[inside][0]),
                "stray": bool(group.stray[inside][0]),
                "photo_likeness": _rounded(np.median(likeness[inside])),
                "marks": list(separation.describe(own, inside)),
                "classes": _classes(rows, group.rows[inside]),
            }
            for number, inside in _by_cluster(group.clusters)
        ],
    }


def _by_cluster(clusters: Clusters) -> list[tuple[int, np.ndarray]]:
    return [(number, clusters.cluster == number) for number in np.unique(clusters.cluster)]


def _classes(rows: RowTable, members: np.ndarray) -> dict[str, int]:
    counts = Counter(rows.label[members].tolist())
    return {rows.class_names[label]: count for label, count in sorted(counts.items())}


def _tags(group: Group) -> np.ndarray:
    """Returns the proposed tag of each image of a group, str [m]; empty if there is one kind."""
    if group.separation.verdict != separation.TWO_KINDS:
        return np.full(len(group.rows), "")
    return np.where(group.clusters.is_photo, PHOTO, DRAWING)


def _rounded(value: float) -> float:
    return round(float(value), 4)


# --- the tables ---


def exclusions(
    rows: RowTable, groups: Sequence[Group]
) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Returns (path, reason) of the files to exclude, and names that the list cannot contain.

    A build reads the list as UTF-8 and excludes files with all their images: `not_utf8` are file
    names that are not UTF-8, `part_of_file` crops of a file that also has images to keep.
    """
    stray = {
        rows.keys[at]: f"stray {tag} in {group.name}"
        for group in groups
        for at, tag in zip(group.rows[group.stray], _tags(group)[group.stray], strict=True)
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


def _files(rows: RowTable) -> dict[str, str]:
    """Returns the path of the source file of each image of the set, by key."""
    if not rows.has_boxes:
        return {key: key for key in rows.keys}
    every = row_table.rows_of(rows.opened, list(rows.opened.manifest.splits))
    return {key: key.rpartition("#")[0] or key for key in every.keys}


def _is_utf8(text: str) -> bool:
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def exclude_flag(path: str) -> str:
    """Returns `--exclude` for exactly this file, quoted for bash."""
    return f"$'--exclude={'/'.join(map(_bash, glob.escape(path).split('/')))}'"


def _bash(part: str) -> str:
    """Returns a part of a path quoted for $'', with escaped bytes where it is not UTF-8."""
    return "".join(
        char
        if char.isprintable() and char not in "\\'" and (char.isascii() or _is_utf8(part))
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
        for char in part
    )


def clusters_csv(rows: RowTable, features: Features, groups: Sequence[Group]) -> bytes:
    """Returns a line for every row, class by class; `kind` is the proposed tag."""
    likeness = features.photo_likeness()
    lines: list[Sequence[object]] = [_COLUMNS]
    for group in groups:
        tags = _tags(group)
        for place, at in enumerate(group.rows.tolist()):
            lines.append(
                (
                    rows.keys[at],
                    rows.class_names[rows.label[at]],
                    rows.splits[rows.split[at]],
                    group.clusters.cluster[place],
                    f"{group.clusters.margin[place]:.4f}",
                    f"{likeness[at]:.4f}",
                    tags[place],
                    "yes" if group.stray[place] else "no",
                )
            )
    return _csv(lines)


def _csv(lines: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(lines)
    return out.getvalue().encode("utf-8", "backslashreplace")


# --- all files ---


def write(
    said: Mapping[str, Any],
    rows: RowTable,
    features: Features,
    groups: Sequence[Group],
    folder: str,
    command: str,
) -> None:
    """Writes the four files into an existing folder.

    Args:
        said: `contents`, and `tags`, which may be None.
        features: of the rows.
        command: the build without the excluded files, for the page.
    """
    listed, _ = exclusions(rows, groups)
    files = {
        CLUSTERS_NAME: clusters_csv(rows, features, groups),
        EXCLUSIONS_NAME: _csv([("path", "reason"), *listed]),
        JSON_NAME: atomic.json_bytes(said, indent=1),
        PAGE_NAME: page(said, rows, features, groups, command),
    }
    for name, data in files.items():
        atomic.write_whole(os.path.join(folder, name), data)


def page(
    said: Mapping[str, Any],
    rows: RowTable,
    features: Features,
    groups: Sequence[Group],
    command: str,
) -> bytes:
    """Returns the page, groups with proposed exclusions first."""
    likeness = features.photo_likeness()
    order = sorted(range(len(groups)), key=lambda at: -said["groups"][at]["proposed"])
    shown = [
        (
            said["groups"][at],
            likeness_chart(likeness[groups[at].rows], groups[at].clusters.is_photo),
            [_examples(rows, groups[at], inside) for _, inside in _by_cluster(groups[at].clusters)],
        )
        for at in order[:_MAX_GROUPS]
    ]
    return html.render(
        _TEMPLATE,
        said=said,
        shown=shown,
        command=command,
        two_kinds=separation.TWO_KINDS,
        limits=separation.LIMITS,
    )


def _examples(
    rows: RowTable, group: Group, inside: np.ndarray
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns captions, each with images and their names: typical ones and some at the boundary."""
    count = _IMAGES if group.stray.any() else _FEWER_IMAGES
    places = np.flatnonzero(inside)
    nearest = places[np.argsort(group.clusters.distance[places], kind="stable")][:count]
    boundary = places[np.argsort(group.clusters.margin[places], kind="stable")]
    boundary = boundary[~np.isin(boundary, nearest)][:count]
    chosen = {"nearest the centroid": nearest, "nearest the boundary": boundary}
    return [
        (what, [_image(rows, int(at)) for at in group.rows[which]])
        for what, which in chosen.items()
        if len(which)
    ]


def _image(rows: RowTable, at: int) -> tuple[str, str]:
    image = Image.fromarray(rows.pixels(at))
    if image.width > _EDGE:
        image = image.resize((_EDGE, _EDGE), Image.Resampling.BOX)
    return html.picture(image), cli.printable(rows.keys[at])


def likeness_chart(likeness: np.ndarray, is_photo: np.ndarray) -> str:
    """Returns an SVG of the distribution of photo-likeness of both sides."""
    sides = [
        np.histogram(likeness[is_photo == s], _BARS, (0, 1))[0].tolist() for s in (False, True)
    ]
    return svg.stacked_histogram("Images by photo-likeness, from 0 to 1", sides, "photo-likeness 1")
