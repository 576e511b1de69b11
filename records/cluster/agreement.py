"""How well clusters and proposals agree with given tags, and how they would by other settings."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from records.cluster import clustering, scikit
from records.cluster.clustering import ClusterOptions
from records.cluster.features import Features


@dataclasses.dataclass(frozen=True)
class Tags:
    """What each picture is, as far as that was given.

    Attributes:
        of_row: str [n], empty where no tag was given or the tag is to be ignored.
        stray: the tags of pictures that should be left out.
        given: rows by tag, the ignored ones too.
        ignored: the tags that count for nothing.
        not_in_set: keys with a tag that the set does not hold.
    """

    of_row: np.ndarray
    stray: tuple[str, ...]
    given: Mapping[str, int]
    ignored: tuple[str, ...] = ()
    not_in_set: tuple[str, ...] = ()

    @property
    def is_known(self) -> np.ndarray:
        """Whether a tag counts, bool [n]."""
        return self.of_row != ""

    @property
    def is_stray(self) -> np.ndarray:
        """Whether the tag is one of those to leave out, bool [n]."""
        return np.isin(self.of_row, self.stray)


def tags_of(
    keys: Sequence[str],
    by_key: Mapping[str, str],
    *,
    present: Collection[str],
    stray: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> Tags:
    """Returns the tags of rows.

    Args:
        keys: of the rows.
        by_key: the tags.
        present: all keys of the set, of rows that are not looked at too.
        stray: tags of pictures that should be left out; empty: the rarest that is not ignored.
        ignored: tags that count for nothing.

    Raises:
        ValueError: if fewer than two tags are left to compare, or one of the tags that are named
            does not occur or is both stray and ignored.
    """
    found = [by_key.get(key, "") for key in keys]
    given = Counter(tag for tag in found if tag)
    if not given:
        raise ValueError(f"none of {len(by_key):,} tags is of one of these images")
    for tag in (*stray, *ignored):
        if tag in stray and tag in ignored:
            raise ValueError(f"{tag!r} cannot be both stray and ignored")
        if tag not in given:
            raise ValueError(
                f"no image has the tag {tag!r}; they have {', '.join(map(repr, sorted(given)))}"
            )
    counted = {tag: count for tag, count in sorted(given.items()) if tag not in ignored}
    if len(counted) < 2:
        raise ValueError(f"at least two tags must be left to compare, got {list(counted)}")
    rarest = min(counted, key=counted.__getitem__)
    return Tags(
        of_row=np.array([tag if tag in counted else "" for tag in found]),
        stray=tuple(stray) or (rarest,),
        given=dict(sorted(given.items())),
        ignored=tuple(ignored),
        not_in_set=tuple(key for key in by_key if key not in present),
    )


def agreement(
    tags: Tags, sides: np.ndarray, proposed: np.ndarray, classes: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Returns figures of how clusters and proposals agree with the tags, in values JSON knows.

    Args:
        tags: of n rows.
        sides: int [n], the side or cluster that each row was put in.
        proposed: bool [n], the rows to be left out.
        classes: by name, the rows of each, int [m].

    Returns:
        `classes`: of those with both kinds the adjusted Rand index (Hubert and Arabie 1985) of
        sides and tags and the rows; `mean_ari` of them; `overall_ari` of proposed or not and stray
        or not, over all rows; `precision`, `recall` and the counts behind them. A figure without a
        row to stand on is None.
    """
    known, stray = tags.is_known, tags.is_stray
    by_class = {
        name: {
            "ari": scikit.adjusted_rand_index(stray[rows], sides[rows]),
            "images": len(rows),
            "stray": int(stray[rows].sum()),
        }
        for name, rows in affected(tags, classes).items()
    }
    hits = int((proposed & stray).sum())
    num_proposed, num_stray = int((proposed & known).sum()), int(stray.sum())
    indexes = [of_class["ari"] for of_class in by_class.values()]
    return {
        "stray_tags": list(tags.stray),
        "ignored_tags": list(tags.ignored),
        "given": dict(tags.given),
        "without_tag": len(known) - sum(tags.given.values()),
        "not_in_set": list(tags.not_in_set),
        "classes": by_class,
        "mean_ari": float(np.mean(indexes)) if indexes else None,
        "overall_ari": scikit.adjusted_rand_index(stray[known], proposed[known]),
        "proposed": num_proposed,
        "stray": num_stray,
        "both": hits,
        "precision": hits / num_proposed if num_proposed else None,
        "recall": hits / num_stray if num_stray else None,
    }


def affected(tags: Tags, classes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tagged rows of the classes that have both stray pictures and others."""
    found = {name: rows[tags.is_known[rows]] for name, rows in classes.items()}
    stray = {name: tags.is_stray[rows] for name, rows in found.items()}
    return {name: rows for name, rows in found.items() if 0 < stray[name].sum() < len(rows)}


def ablation(
    by_space: Mapping[str, Features],
    keys: Sequence[bytes],
    groups: Sequence[np.ndarray],
    tags: Tags,
    classes: Mapping[str, np.ndarray],
    options: ClusterOptions,
) -> Iterator[dict[str, Any]]:
    """Yields what every combination of settings gives: the adjusted Rand index by class, the mean.

    Args:
        by_space: features of n rows by colour space.
        keys: of the rows.
        groups: the rows of each clustering.
        tags: of the rows.
        classes: by name, the rows of each.
        options: the number of clusters, the seed and the most rows.
    """
    wanted = affected(tags, classes)
    if not wanted:
        return
    is_wanted = np.zeros(len(keys), bool)
    for rows in wanted.values():
        is_wanted[rows] = True
    groups = [rows for rows in groups if is_wanted[rows].any()]
    for space, features, linkage, scaling in settings(list(by_space)):
        chosen = dataclasses.replace(options, features=features, linkage=linkage, scaling=scaling)
        sides = np.zeros(len(keys), bool)
        for rows in groups:
            names = [keys[row] for row in rows]
            sides[rows] = clustering.parted(by_space[space].taken(rows), names, chosen).is_photo
        indexes = {
            name: scikit.adjusted_rand_index(tags.is_stray[rows], sides[rows])
            for name, rows in wanted.items()
        }
        yield {
            "colour_space": "any" if features == "statistics" else space,
            "features": features,
            "linkage": linkage,
            "scaling": scaling,
            "classes": indexes,
            "mean_ari": float(np.mean(list(indexes.values()))),
        }


def settings(spaces: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yields colour space, features, linkage and scaling, each setting that differs once."""
    sets, linkages, scalings = clustering.FEATURE_SETS, clustering.LINKAGES, clustering.SCALINGS
    for features, space, *rest in itertools.product(sets, spaces, linkages, scalings):
        if features != "statistics" or space == spaces[0]:  # those need no colour space
            yield space, features, rest[0], rest[1]
