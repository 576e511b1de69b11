"""Imbalance and the draws of targets, by hand."""

import numpy as np
import pytest

from records.surveying import facts


@pytest.mark.parametrize(
    ("counts", "ratio", "effective"),
    [([10, 10, 10, 10], 1, 4), ([10], 1, 1), ([30, 10, 0], 3, 1.755), ([997, 1], 997, 1.008)],
)
def test_imbalance(counts, ratio, effective):
    found = facts.imbalance(np.array(counts), "abcd")
    assert found["ratio"] == ratio and found["effective_classes"] == effective
    assert found["classes"] == np.count_nonzero(counts)


def test_what_targets_would_draw():
    found = facts.drawn("train", np.array([2000, 500, 100, 0]), ["a", "b", "c", "d"])
    assert found["band"] == {"low": 250, "high": 1000, "above": ["a"], "below": ["c"]}
    assert {name: row["draws"] for name, row in found["by_name"].items()} == {
        "natural": [2000, 500, 100, 0],
        "undersample": [100, 100, 100, 0],
        "oversample": [2000, 2000, 2000, 0],
        "band": [1000, 500, 250, 0],
        "balanced": [867, 867, 866, 0],
        "sqrt": [1509, 754, 337, 0],
        "effective": [1298, 713, 589, 0],
    }
    assert found["by_name"]["band"]["epoch"] == 1750
    assert found["by_name"]["band"]["row_draws"] == {
        "lowest": {"class": "a", "draws": 0.5},
        "highest": {"class": "c", "draws": 2.5},
    }
