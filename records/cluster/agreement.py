"""The agreement of clusters and proposed exclusions with tags that the user gives."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from records.cluster import clustering


@dataclasses.dataclass(frozen=True)
class Tags:
    """The tags of rows.

    Attributes:
        of_row: str [n], empty for rows without a tag or with an ignored one.
        stray: the tags of images that should be excluded.
        given: number of rows by tag, ignored tags included.
        ignored: the tags that do not count.
        not_in_set: tagged keys that are not in the set.
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
        """Whether the tag is one of those to exclude, bool [n]."""
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
        present: all keys of the set, also of other splits and classes.
        stray: tags of images that should be excluded; empty for the rarest that is not ignored.
        ignored: tags that do not count.
    """
    tags = [by_key.get(key, "") for key in keys]
    given = Counter(tag for tag in tags if tag)
    if not given:
        raise ValueError(f"at least one image must have a tag, got {len(by_key):,} of other images")
    for tag in (*stray, *ignored):
        if tag in stray and tag in ignored:
            raise ValueError(f"{tag!r} cannot be both stray and ignored")
        if tag not in given:
            raise ValueError(
                f"no image has the tag {tag!r}; they have {', '.join(map(repr, sorted(given)))}"
            )
    counted = {tag: count for tag, count in sorted(given.items()) if tag not in ignored}
    if len(counted) < 2:
        raise ValueError(f"at least two tags must remain to compare, got {list(counted)}")
    rarest = min(counted, key=counted.__getitem__)
    return Tags(
        of_row=np.array([tag if tag in counted else "" for tag in tags]),
        stray=tuple(stray) or (rarest,),
        given=dict(sorted(given.items())),
        ignored=tuple(ignored),
        not_in_set=tuple(key for key in by_key if key not in present),
    )


def agreement(
    tags: Tags, sides: np.ndarray, proposed: np.ndarray, classes: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Returns the agreement of clusters and proposals with the tags, as JSON values.

    Args:
        tags: of n rows.
        sides: int [n], the side or cluster of each row.
        proposed: bool [n], the rows proposed for exclusion.
        classes: by name, the rows of each, int [m].

    Returns:
        `classes`: for those with stray and other images the adjusted Rand index (Hubert and Arabie
        1985) of sides and tags; `mean_ari`: their mean; `overall_ari`: of proposals and stray tags,
        over all rows; `precision`, `recall` and their counts. Undefined values are None.
    """
    known, stray = tags.is_known, tags.is_stray
    by_class = {
        name: {
            "ari": clustering.adjusted_rand_index(stray[rows], sides[rows]),
            "images": len(rows),
            "stray": int(stray[rows].sum()),
        }
        for name, rows in _mixed(tags, classes).items()
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
        "overall_ari": clustering.adjusted_rand_index(stray[known], proposed[known]),
        "proposed": num_proposed,
        "stray": num_stray,
        "both": hits,
        "precision": hits / num_proposed if num_proposed else None,
        "recall": hits / num_stray if num_stray else None,
    }


def _mixed(tags: Tags, classes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tagged rows of the classes that have both stray images and others."""
    tagged = {name: rows[tags.is_known[rows]] for name, rows in classes.items()}
    stray = {name: tags.is_stray[rows] for name, rows in tagged.items()}
    return {name: rows for name, rows in tagged.items() if 0 < stray[name].sum() < len(rows)}
