"""Parts of a table that was made by hand."""

import numpy as np
import pytest

from models.metrics.table import Table
from models.reporting import breakdown

ATTRIBUTES = {"mask": ("no", "yes"), "age": ("<30", "30-<60", ">=60")}


def table(labels, predicted, *, domains=None, groups=None):
    count = len(labels)
    return Table(
        tuple(map(str, range(count))),
        tuple(domains or [""] * count),
        np.arange(count) if groups is None else np.asarray(groups),
        np.asarray(labels, np.int32),
        np.eye(6, dtype=np.float32)[predicted],
    )


def test_attributes_are_scored_alone():
    # Label 3 * mask + age; the third image errs in the age, the fourth in both.
    found = breakdown.by_attribute(table([0, 4, 5, 2], [0, 4, 4, 4]), ATTRIBUTES)
    assert found["mask"]["confusion"] == [[1, 1], [0, 2]]
    assert found["age"]["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 2, 0]]
    assert found["mask"]["accuracy"].value == 0.75 and found["age"]["accuracy"].value == 0.5
    assert found["age"]["values"] == list(ATTRIBUTES["age"])


def test_other_classes_than_the_combinations_are_refused():
    with pytest.raises(ValueError, match="must be the 2 combinations of attributes, got 6"):
        breakdown.by_attribute(table([0], [0]), {"mask": ("no", "yes")})
    assert breakdown.by_attribute(table([0], [0]), {}) == {}


def test_domains_add_up():
    found = breakdown.by_domain(
        table([0, 1, 2, 3], [0, 1, 0, 3], domains=["펜", "", "펜", "펜"], groups=[1, 2, 3, 3])
    )
    assert list(found) == ["", "펜"]
    assert found["펜"]["accuracy"].count == 3 and found["펜"]["accuracy"].value == 2 / 3
    assert found[""]["accuracy"].value == 1


def test_sizes_of_groups():
    groups = [0, 1, 1, 2, 2, 2, *[3] * 7, *[4] * 20]
    labels = np.arange(len(groups)) % 6
    found = breakdown.by_group_size(table(labels, labels, groups=groups))
    assert {name: part["accuracy"].count for name, part in found.items()} == {
        "1": 1,
        "2 to 3": 5,
        "4 to 7": 7,
        "16 or more": 20,
    }
