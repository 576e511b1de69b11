"""The command `cluster` of inspect_main: photographs among drawings, found without labels.

It proposes; nothing is removed. What should go goes by `build_main --exclusions`, so that splits
are made and classes resampled only after it is gone.
"""

import os
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from records.cluster import agreement, clustering, report, separation
from records.cluster import features as cluster_features
from records.cluster.rows import Group, Rows, grouped, groups_of, rows_of
from records.common import cli, outputs
from records.format import record_set
from records.source import flags as source_flags
from records.source import rules

_CLASSES, _CSV_ENCODING = (
    next(flag for flag in source_flags.FLAGS if flag.name == name)
    for name in ("classes", "csv_encoding")
)
flags.declare_key_flag("classes")
flags.declare_key_flag("csv_encoding")
_WITHIN = flags.DEFINE_enum(
    "within", "class", ("class", "all"), "cluster: each class for itself, or all images at once."
)
_NUM_CLUSTERS = flags.DEFINE_integer(
    "num_clusters",
    2,
    "cluster: of each class; with 4, stray images below 5 % of a class are found too.",
)
_COLOUR_SPACE = flags.DEFINE_enum(
    "colour_space", "hls", list(cluster_features.COLOUR_SPACES), "cluster: of the histograms."
)
_LINKAGE = flags.DEFINE_enum(
    "linkage", "ward", clustering.LINKAGES, "cluster: how far apart two clusters are."
)
_SCALING = flags.DEFINE_enum(
    "scaling", "standard", clustering.SCALINGS, "cluster: how features are brought to one scale."
)
_FEATURES = flags.DEFINE_enum(
    "features",
    "all",
    clustering.FEATURE_SETS,
    "cluster: statistics of texture and looks, the histogram of the colour space, or all.",
)
_STRAY = flags.DEFINE_enum(
    "stray",
    "auto",
    separation.STRAY,
    "cluster: which of two kinds is proposed to be left out; auto is the one that is less than a"
    " third of its class, or else is less like the whole set.",
)
_SEED = flags.DEFINE_integer("seed", 0, "cluster: of samples and of the reference.")
_TAGS = flags.DEFINE_string(
    "tags", "", "cluster: CSV with the columns path and --tag_column, what images are, to compare."
)
_TAG_COLUMN = flags.DEFINE_string("tag_column", "tag", "cluster: column of --tags.")
_STRAY_TAGS = flags.DEFINE_list(
    "stray_tags", [], "cluster: tags of what should be left out; else the rarest."
)
_IGNORE_TAGS = flags.DEFINE_list("ignore_tags", [], "cluster: tags that count for nothing.")
_ABLATION = flags.DEFINE_bool(
    "ablation", False, "cluster: also what every other setting gives, measured by --tags."
)

FLAGS = (
    *(_WITHIN, _CLASSES, _NUM_CLUSTERS, _COLOUR_SPACE, _LINKAGE, _SCALING, _FEATURES, _STRAY),
    *(_SEED, _TAGS, _TAG_COLUMN, _CSV_ENCODING, _STRAY_TAGS, _IGNORE_TAGS, _ABLATION),
)
_OF_TAGS = (_TAG_COLUMN, _CSV_ENCODING, _STRAY_TAGS, _IGNORE_TAGS, _ABLATION)


def run(opened: record_set.RecordSet, split: str | None, output: str) -> int:
    """Clusters, says what was found, and writes it.

    Args:
        opened: the set.
        split: the only one to take; None is all.
        output: the new folder to write.

    Raises:
        UsageError: if a flag cannot be meant.
        OutputError: if there is something at `output`.
    """
    options, by_key = _options(), _given_tags()
    rows = _rows(opened, split)
    tags = _tags(rows, by_key) if by_key is not None else None
    with outputs.whole(output) as folder:  # first of all, for it may be refused
        os.mkdir(folder)
        features = _features(rows, _COLOUR_SPACE.value)
        members = groups_of(rows, within_class=_WITHIN.value == "class")
        groups = grouped(rows, features, members, options, _STRAY.value)
        said = {
            **report.summary(rows, features, groups, _settings()),
            "tags": tags and _agreement(tags, rows, groups),
            "ablation": tags and _ablation(rows, features, members, tags, options),
        }
        command = _command(output)
        report.write(said, rows, features, groups, folder, command)
    _print(said, output, command)
    return cli.DONE


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
    holders = (
        *(_WITHIN, _NUM_CLUSTERS, _COLOUR_SPACE, _LINKAGE, _SCALING, _FEATURES, _STRAY, _SEED),
    )
    return {holder.name: holder.value for holder in holders}


def _rows(opened: record_set.RecordSet, split: str | None) -> Rows:
    names = list(opened.manifest.splits)
    if split:
        names = [cli.one_of("split", split, names)]
    known = opened.manifest.class_names
    wanted = [known.index(cli.one_of("classes", name, known)) for name in _CLASSES.value]
    rows = rows_of(opened, names, wanted or None)
    if not len(rows):
        raise cli.UsageError("there is no image in these splits and classes")
    return rows


def _features(rows: Rows, colour_space: str) -> cluster_features.Features:
    with tqdm(total=len(rows), desc=colour_space, unit=" images", disable=None) as bar:
        return rows.features(colour_space, bar.update)


# --- tags ---


def _given_tags() -> dict[str, str] | None:
    """Returns the tags by key, or None if there are none to compare with."""
    if not _TAGS.value:
        for holder in _OF_TAGS:
            if holder.present:
                raise cli.UsageError(f"--{holder.name} needs --tags")
        return None
    found: dict[str, str] = {}
    try:
        for line, row in rules.csv_rows(_TAGS.value, _CSV_ENCODING.value, ()):
            for column in ("path", _TAG_COLUMN.value):
                if column not in row:
                    have = ", ".join(map(repr, row))
                    raise cli.UsageError(
                        f"--tags must have the column {column!r}, got {have} (--tag_column)"
                    )
            if row["path"] in found:
                raise cli.UsageError(
                    f"{_TAGS.value}, line {line}: {row['path']!r} stands there a second time"
                )
            found[row["path"]] = row[_TAG_COLUMN.value]
    except rules.SourceError as error:
        raise cli.UsageError(str(error)) from None
    return found


def _tags(rows: Rows, by_key: Mapping[str, str]) -> agreement.Tags:
    indexes = [rows.opened.index(name) for name in rows.opened.manifest.splits]
    present = {index.key(row) for index in indexes for row in range(len(index))}
    try:
        return agreement.tags_of(
            rows.keys,
            by_key,
            present=present,
            stray=_STRAY_TAGS.value,
            ignored=_IGNORE_TAGS.value,
        )
    except ValueError as error:
        raise cli.UsageError(f"--tags: {error}") from None


def _agreement(tags: agreement.Tags, rows: Rows, groups: list[Group]) -> dict[str, Any]:
    sides, proposed = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for group in groups:
        sides[group.rows], proposed[group.rows] = group.found.is_photo, group.stray
    return agreement.agreement(tags, sides, proposed, rows.by_class())


def _ablation(
    rows: Rows,
    features: cluster_features.Features,
    members: Mapping[str, np.ndarray],
    tags: agreement.Tags,
    options: clustering.ClusterOptions,
) -> list[dict[str, Any]]:
    """Returns the best first, the settings in use marked; none without the flag."""
    if not _ABLATION.value:
        return []
    by_space = {_COLOUR_SPACE.value: features}
    by_space |= {
        space: _features(rows, space)
        for space in cluster_features.COLOUR_SPACES
        if space not in by_space
    }
    count = sum(1 for _ in agreement.settings(list(by_space)))
    tried = agreement.ablation(
        by_space, rows.raw_keys, list(members.values()), tags, rows.by_class(), options
    )
    used = _settings()
    found = [
        {**row, "is_used": all(used[name] == row[name] or row[name] == "any" for name in _VARIED)}
        for row in tqdm(tried, total=count, desc="settings", unit=" settings", disable=None)
    ]
    return sorted(found, key=lambda row: -row["mean_ari"])


_VARIED = ("features", "colour_space", "linkage", "scaling")


# --- what is said ---


def _command(output: str) -> str:
    path = shlex.quote(os.path.join(output, report.EXCLUSIONS_NAME))
    return f"python -m records.build_main --source=... --exclusions={path} --output=..."


def _print(said: Mapping[str, Any], output: str, command: str) -> None:
    print(cli.table([_HEADER, *map(_line, said["groups"])]))
    for group in said["groups"]:
        if group["clustered_exactly"] < group["images"]:
            print(
                f"{cli.printable(group['name'])}: {group['clustered_exactly']:,} of"
                f" {group['images']:,} images were clustered, the others went to the nearest centre"
            )
    if said["tags"]:
        _print_tags(said["tags"], said["ablation"])
    print(f"{said['proposed']:,} of {said['images']:,} images are proposed to be left out")
    _print_unlisted(said)
    for name in (report.PAGE_NAME, report.EXCLUSIONS_NAME):
        print(os.path.join(output, name))
    if said["proposed"]:
        print("look at them, edit the list, and build anew with the flags of the first build:")
        print(f"  {command}")


_HEADER = (
    *("class", "images", "clusters", "verdict", "silhouette", "one cloud", "step", "gap", "stray"),
)


def _line(group: Mapping[str, Any]) -> tuple[object, ...]:
    sizes = " + ".join(f"{one['images']:,}" for one in group["clusters"])
    figures = (f"{group[name]:.2f}".replace("-0.00", "0.00") for name in _FIGURES)
    return (group["name"], group["images"], sizes, group["verdict"], *figures, group["proposed"])


_FIGURES = ("silhouette", "one_kind_silhouette", "step", "gap")


def _print_tags(tags: Mapping[str, Any], ablation: list[dict[str, Any]]) -> None:
    stray = cli.printable(" or ".join(tags["stray_tags"]))
    if not _STRAY_TAGS.value:
        counts = ", ".join(f"{tag} {count:,}" for tag, count in tags["given"].items())
        print(
            f"should be left out: {stray}, the rarest tag that is not ignored"
            f" ({cli.printable(counts)}; --stray_tags and --ignore_tags choose)"
        )
    rows: list[tuple[object, ...]] = [("class with both", "images", stray, "adjusted Rand index")]
    for name, one in tags["classes"].items():
        rows.append((name, one["images"], one["stray"], f"{one['ari']:.3f}"))
    print(cli.table([*rows, ("mean", "", "", _figure(tags["mean_ari"]))]))
    print(
        f"proposed {tags['proposed']:,} tagged images, {tags['both']:,} of the {tags['stray']:,}"
        f" {stray}: precision {_figure(tags['precision'])}, recall {_figure(tags['recall'])},"
        f" adjusted Rand index over all {_figure(tags['overall_ari'])}"
    )
    if tags["not_in_set"]:
        names = ", ".join(map(repr, tags["not_in_set"][:3]))
        more = ", ..." if len(tags["not_in_set"]) > 3 else ""
        count = len(tags["not_in_set"])
        print(cli.printable(f"{count:,} tags are of no image of the set: {names}{more}"))
    if tags["without_tag"]:
        print(f"{tags['without_tag']:,} images have no tag")
    if ablation:
        print(cli.table([(*_VARIED, *tags["classes"], "mean", ""), *map(_ablation_line, ablation)]))


def _ablation_line(row: Mapping[str, Any]) -> tuple[object, ...]:
    figures = (f"{value:.3f}" for value in (*row["classes"].values(), row["mean_ari"]))
    return (*(row[name] for name in _VARIED), *figures, "*" if row["is_used"] else "")


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _print_unlisted(said: Mapping[str, Any]) -> None:
    names, parts = (said["unlisted"][what] for what in ("not_utf8", "part_of_file"))
    if names:
        print(f"{len(names):,} have names that are not UTF-8, which no list can hold; add in bash")
        for name in names:
            print(f"  {report.exclude_flag(name)}")
    if parts:
        print(
            f"{len(parts):,} are parts of files that hold other images, which would go with them;"
            f" they are in {report.JSON_NAME}"
        )
    if said["excluded_before"] and said["proposed"]:
        print(
            f"{said['excluded_before']:,} files were left out by a list already: put its lines into"
            " this one"
        )
