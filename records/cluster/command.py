"""The command `cluster` of inspect_main: finds photographs among drawings without labels.

It only proposes exclusions. `build_main --exclusions` applies them, so that splits are assigned and
classes resampled without the excluded images.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from records.cluster import agreement, clustering, report, separation
from records.cluster.rows import Group, by_class, cluster_groups, features_of, groups_of, rows_of
from records.common import atomic, cli
from records.format import record_set
from records.inspect import row_table
from records.inspect.row_table import RowTable
from records.source import flags as source_flags
from records.source import label_csv

_CLASSES, _CSV_ENCODING = (
    next(flag for flag in source_flags.FLAGS if flag.name == name)
    for name in ("classes", "csv_encoding")
)
flags.declare_key_flag("classes")
flags.declare_key_flag("csv_encoding")
_WITHIN = flags.DEFINE_enum(
    "within", "class", ("class", "all"), "Cluster the images of each class, or all images at once."
)
_NUM_CLUSTERS = flags.DEFINE_integer(
    "num_clusters",
    2,
    "Clusters per class; 4 also finds stray images that are below 5 % of a class.",
)
_COLOUR_SPACE = flags.DEFINE_enum(
    "colour_space", "hls", ["hls", "hsv", "lab", "rgb"], "Removed in 0.6, accepted without effect."
)
_LINKAGE = flags.DEFINE_enum("linkage", "ward", clustering.LINKAGES, "Linkage of the clusters.")
_SCALING = flags.DEFINE_enum(
    "scaling", "standard", clustering.SCALINGS, "Scaling of the features before clustering."
)
_FEATURES = flags.DEFINE_enum(
    "features",
    "all",
    clustering.FEATURE_SETS,
    "Features: texture and image statistics, colour histograms, or all.",
)
_STRAY = flags.DEFINE_enum(
    "stray",
    "auto",
    separation.STRAY,
    "Which of the two kinds is proposed for exclusion; auto is the one with less than a third of"
    " the class, else the one less like the rest of the set.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Random seed of the samples that are clustered.")
_TAGS = flags.DEFINE_string(
    "tags", "", "CSV with the columns path and --tag_column: known kinds, to compare with."
)
_TAG_COLUMN = flags.DEFINE_string("tag_column", "tag", "Column of --tags with the kind.")
_STRAY_TAGS = flags.DEFINE_list(
    "stray_tags", [], "Tags of images to exclude; the rarest tag if empty. Only with --tags."
)
_IGNORE_TAGS = flags.DEFINE_list("ignore_tags", [], "Tags that are not compared. Only with --tags.")
_ABLATION = flags.DEFINE_bool("ablation", False, "Removed in 0.6, accepted without effect.")

FLAGS = (
    *(_WITHIN, _CLASSES, _NUM_CLUSTERS, _COLOUR_SPACE, _LINKAGE, _SCALING, _FEATURES, _STRAY),
    *(_SEED, _TAGS, _TAG_COLUMN, _CSV_ENCODING, _STRAY_TAGS, _IGNORE_TAGS, _ABLATION),
)
_OF_TAGS = (_TAG_COLUMN, _CSV_ENCODING, _STRAY_TAGS, _IGNORE_TAGS)


def run(opened: record_set.RecordSet, split: str | None, output: str) -> int:
    """Clusters the rows of a split, None for all, and prints and writes the result."""
    _check_removed()
    options, by_key = _options(), _given_tags()
    rows = _rows(opened, split)
    tags = _tags(rows, by_key) if by_key is not None else None
    with atomic.output(output) as folder:  # first, as it may be refused
        os.mkdir(folder)
        with tqdm(total=len(rows), desc="features", unit=" images", disable=None) as bar:
            features = features_of(rows, bar.update)
        members = groups_of(rows, within_class=_WITHIN.value == "class")
        groups = cluster_groups(rows, features, members, options, _STRAY.value)
        said = {
            **report.contents(rows, features, groups, _settings()),
            "tags": tags and _agreement(tags, rows, groups),
            "ablation": None,  # a key of 0.5, which scripts may read
        }
        command = _command(output)
        report.write(said, rows, features, groups, folder, command)
    _print(said, output, command)
    return cli.DONE


def _check_removed() -> None:
    """Warns of flags of 0.5 that have no effect any more; refuses a value that had another one."""
    if _COLOUR_SPACE.value != "hls":
        raise cli.UsageError(
            "--colour_space was removed in 0.6: it is always hls, which clusters as well as the"
            f" others did, got {_COLOUR_SPACE.value!r}"
        )
    for holder in (_COLOUR_SPACE, _ABLATION):
        if holder.present:
            print(f"--{holder.name} was removed in 0.6 and has no effect", file=sys.stderr)


def _options() -> clustering.ClusterOptions:
    return cli.checked(
        lambda: clustering.ClusterOptions(
            num_clusters=_NUM_CLUSTERS.value,
            linkage=_LINKAGE.value,
            scaling=_SCALING.value,
            features=_FEATURES.value,
            seed=_SEED.value,
        )
    )


def _settings() -> dict[str, Any]:
    which = _WITHIN, _NUM_CLUSTERS, _COLOUR_SPACE, _LINKAGE, _SCALING, _FEATURES, _STRAY, _SEED
    return {holder.name: holder.value for holder in which}


def _rows(opened: record_set.RecordSet, split: str | None) -> RowTable:
    names = list(opened.manifest.splits)
    if split:
        names = [cli.one_of("split", split, names)]
    known = opened.manifest.class_names
    labels = [known.index(cli.one_of("classes", name, known)) for name in _CLASSES.value]
    rows = rows_of(opened, names, labels or None)
    if not len(rows):
        raise cli.UsageError("no image in these splits and classes")
    return rows


# --- tags ---


def _given_tags() -> dict[str, str] | None:
    """Returns the tags by key; None without --tags."""
    if not _TAGS.value:
        for holder in _OF_TAGS:
            if holder.present:
                raise cli.UsageError(f"--{holder.name} needs --tags")
        return None
    tags: dict[str, str] = {}
    try:
        for line, row in label_csv.rows(_TAGS.value, _CSV_ENCODING.value, ()):
            for column in ("path", _TAG_COLUMN.value):
                if column not in row:
                    columns = ", ".join(map(repr, row))
                    raise cli.UsageError(
                        f"--tags must have the column {column!r}, got {columns} (--tag_column)"
                    )
            if row["path"] in tags:
                raise cli.UsageError(f"{_TAGS.value}, line {line}: {row['path']!r} is listed twice")
            tags[row["path"]] = row[_TAG_COLUMN.value]
    except label_csv.SourceError as error:
        raise cli.UsageError(str(error)) from None
    return tags


def _tags(rows: RowTable, by_key: Mapping[str, str]) -> agreement.Tags:
    every = row_table.rows_of(rows.opened, list(rows.opened.manifest.splits))
    try:
        return agreement.tags_of(
            rows.keys,
            by_key,
            present=set(every.keys),
            stray=_STRAY_TAGS.value,
            ignored=_IGNORE_TAGS.value,
        )
    except ValueError as error:
        raise cli.UsageError(f"--tags: {error}") from None


def _agreement(tags: agreement.Tags, rows: RowTable, groups: list[Group]) -> dict[str, Any]:
    sides, proposed = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for group in groups:
        sides[group.rows], proposed[group.rows] = group.clusters.is_photo, group.stray
    return agreement.agreement(tags, sides, proposed, by_class(rows))


# --- printed output ---


def _command(output: str) -> str:
    path = shlex.quote(os.path.join(output, report.EXCLUSIONS_NAME))
    return f"python -m records.build_main --source=... --exclusions={path} --output=..."


def _print(said: Mapping[str, Any], output: str, command: str) -> None:
    print(cli.table([_HEADER, *map(_line, said["groups"])]))
    for group in said["groups"]:
        if group["clustered_exactly"] < group["images"]:
            print(
                f"{cli.printable(group['name'])}: {group['clustered_exactly']:,} of"
                f" {group['images']:,} images were clustered, the others assigned to the nearest"
                " centroid"
            )
    if said["tags"]:
        _print_tags(said["tags"])
    print(f"{said['proposed']:,} of {said['images']:,} images are proposed for exclusion")
    _print_unlisted(said)
    for name in (report.PAGE_NAME, report.EXCLUSIONS_NAME):
        print(os.path.join(output, name))
    if said["proposed"]:
        print("check them, edit the list, and rebuild with it and the flags of the first build:")
        print(f"  {command}")


_HEADER = (
    *("class", "images", "clusters", "verdict", "silhouette", "reference", "step", "gap", "stray"),
)


def _line(group: Mapping[str, Any]) -> tuple[object, ...]:
    sizes = " + ".join(f"{one['images']:,}" for one in group["clusters"])
    figures = (f"{group[name]:.2f}".replace("-0.00", "0.00") for name in _FIGURES)
    return (group["name"], group["images"], sizes, group["verdict"], *figures, group["proposed"])


_FIGURES = ("silhouette", "one_kind_silhouette", "step", "gap")


def _print_tags(tags: Mapping[str, Any]) -> None:
    stray = cli.printable(" or ".join(tags["stray_tags"]))
    if not _STRAY_TAGS.value:
        counts = ", ".join(f"{tag} {count:,}" for tag, count in tags["given"].items())
        print(
            f"stray tag: {stray}, the rarest that is not ignored ({cli.printable(counts)};"
            " --stray_tags and --ignore_tags choose)"
        )
    rows: list[tuple[object, ...]] = [("mixed class", "images", stray, "adjusted Rand index")]
    for name, one in tags["classes"].items():
        rows.append((name, one["images"], one["stray"], f"{one['ari']:.3f}"))
    print(cli.table([*rows, ("mean", "", "", _figure(tags["mean_ari"]))]))
    print(
        f"proposed {tags['proposed']:,} tagged images, among them {tags['both']:,} of"
        f" {tags['stray']:,} {stray}: precision {_figure(tags['precision'])}, recall"
        f" {_figure(tags['recall'])}, adjusted Rand index over all {_figure(tags['overall_ari'])}"
    )
    if tags["not_in_set"]:
        names = ", ".join(map(repr, tags["not_in_set"][:3]))
        more = ", ..." if len(tags["not_in_set"]) > 3 else ""
        count = len(tags["not_in_set"])
        print(cli.printable(f"{count:,} tags are for images not in the set: {names}{more}"))
    if tags["without_tag"]:
        print(f"{tags['without_tag']:,} images have no tag")


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _print_unlisted(said: Mapping[str, Any]) -> None:
    names, parts = (said["unlisted"][what] for what in ("not_utf8", "part_of_file"))
    if names:
        print(f"{len(names):,} have names that are not UTF-8, which a list cannot contain; add:")
        for name in names:
            print(f"  {report.exclude_flag(name)}")
    if parts:
        print(
            f"{len(parts):,} are crops of files with other images, which would be excluded too; see"
            f" {report.JSON_NAME}"
        )
    if said["excluded_before"] and said["proposed"]:
        print(
            f"{said['excluded_before']:,} files were already excluded by a list: add its lines to"
            " this one"
        )
