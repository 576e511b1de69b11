"""What two runs answer otherwise, of tables made by hand."""

import numpy as np

from models.metrics.table import Table
from models.multirun import changes


def table(predicted, sure):
    values = np.full((len(predicted), 3), 0.0, np.float32)
    values[np.arange(len(predicted)), predicted] = sure
    keys = tuple("abcdef"[: len(predicted)])
    labels = np.array([0, 0, 1, 1, 2, 2], np.int32)
    return Table(keys, ("",) * len(keys), np.arange(len(keys)), labels, values)


def test_every_image_that_is_named_otherwise_is_told_with_its_kind():
    base = table([0, 0, 0, 2, 2, 1], [0.9] * 6)
    own = table([0, 1, 1, 0, 1, 2], [0.5, 0.6, 0.7, 0.8, 0.9, 0.75])
    found = changes.between(base, own, "XYZ")
    assert [(each.key, each.kind) for each in found] == [
        ("e", changes.LOST),
        ("b", changes.LOST),
        ("f", changes.GAINED),
        ("c", changes.GAINED),
        ("d", changes.OTHER),
    ]
    assert (found[0].label, found[0].base, found[0].own) == ("Z", "Z", "Y")
    assert found[0].lead > found[1].lead > 0


def test_equal_answers_are_no_change():
    assert changes.between(table([0] * 6, [0.9] * 6), table([0] * 6, [0.4] * 6), "XYZ") == []
