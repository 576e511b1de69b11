"""How much of the pictures is left, and when that is worth a warning."""

import dataclasses
import re

import numpy as np
import pytest

from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS
from datapipe.plan import sampling
from datapipe.preview import severity
from records.common.targets import Target
from tests import fakes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("damage"), {"a": 8, "b": 8}, ratios={"train": 1})


@pytest.fixture(scope="module")
def measured(opened):
    plan = sampling.plan(opened.index("train").label, ("a", "b"), Target(), seed=0, batch_size=4)
    return lambda options: severity.measure(opened, "train", plan, options)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"extreme"}))
def test_presets_are_not_warned_of(measured, preset):
    assert measured(PRESETS[preset]).warnings() == []


def test_the_extreme_preset_is(measured):
    found = measured(PRESETS["extreme"])
    (warning,) = found.warnings()
    assert re.match(r"half of the pictures show less than 4\d % of themselves, where 60 %", warning)
    assert found.visible[0].lowest_tenth < found.visible[0].median < severity.MIN_VISIBLE


def test_visible_shares_are_those_of_the_shift(measured):
    (seen,) = measured(AugmentOptions(width_shift_range=0.5)).visible
    # Uniform in 0 to half of the picture: the median loses a quarter, the worst tenth 0.45.
    assert seen.median == pytest.approx(0.75, abs=0.04)
    assert seen.lowest_tenth == pytest.approx(0.55, abs=0.04)


def test_classes_of_different_strength_are_told_apart(measured):
    found = measured(dataclasses.replace(PRESETS["extreme"], strength={"b": 0.1}))
    assert [seen.classes for seen in found.visible] == [("a",), ("b",)]
    (warning,) = found.warnings()
    assert warning.startswith("half of the pictures of a show less")
    assert [fact.split(":")[0] for fact in found.facts()] == [
        "visible share of a picture of a after moving",
        "visible share of a picture of b after moving",
    ]


def test_colours_that_are_clipped_are_counted_and_warned_of(measured):
    harmless, harmful = (
        measured(AugmentOptions(brightness_range=limits)) for limits in ((0.9, 1.1), (9, 9))
    )
    assert harmless.warnings() == []
    (warning,) = harmful.warnings()
    assert re.match(r"colours drive \d\d % of the values to 0 or 255, where 25 %", warning)


def test_clipped_is_the_share_of_values_that_were_not_there_before(measured, opened):
    stored = np.stack([opened.pixels("train", row) for row in range(16)])
    # 16 rows in 256 positions: every row as often as the others.
    after = np.rint(np.minimum(stored * 3.0, 255))
    wanted = ((after == 255) & (stored < 255)).mean()
    found = measured(AugmentOptions(brightness_range=(3, 3))).clipped
    assert found == pytest.approx(wanted, abs=1e-6) and wanted > 0.1


def test_white_and_black_that_do_not_come_from_colours_are_not_counted(measured):
    options = AugmentOptions(
        rotation_range=90,
        fill_mode="constant",
        erasing_probability=1,
        erasing_value=255,
        hue_range=1,
        cutmix_alpha=1,
    )
    assert measured(options).clipped < 0.02
