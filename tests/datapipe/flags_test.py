"""The flags of plan, augmentation and rows: a table of what they make and what they refuse."""

import dataclasses
import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from datapipe.augment import flags as augment_flags
from datapipe.augment import options
from datapipe.plan import class_weights
from datapipe.plan import flags as plan_flags
from datapipe.rows import flags as rows_flags
from records.common import cli, targets
from tests import fakes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    counts = {"rare": 5, "usual": 20}
    return fakes.built(tmp_path_factory.mktemp("flags"), counts, ratios={"train": 1})


@pytest.fixture
def given():
    """Returns a function that parses flags as a command line; they are forgotten afterwards."""
    with flagsaver.flagsaver():
        yield lambda *line: flags.FLAGS(["test", *line])


def test_flags_left_out_are_the_defaults(given):
    given()
    assert augment_flags.augment_options() == options.PRESETS["none"]
    assert plan_flags.target() == targets.Target()


AUGMENT = {
    "--augment=photo": options.PRESETS["photo"],
    "--augment=basic --nohorizontal_flip": dataclasses.replace(
        options.PRESETS["basic"], horizontal_flip=False
    ),
    "--rotation_range=20 --fill_mode=constant --cval=255": options.AugmentOptions(
        rotation_range=20, fill_mode="constant", cval=255
    ),
    "--width_shift_range=0.1 --height_shift_range=0.2 --shear_range=5 --zoom_range=0.3": (
        options.AugmentOptions(
            width_shift_range=0.1, height_shift_range=0.2, shear_range=5, zoom_range=0.3
        )
    ),
    "--vertical_flip --strength=rare=0.5,usual=2": options.AugmentOptions(
        vertical_flip=True, strength={"rare": 0.5, "usual": 2}
    ),
    "--brightness_range=0.5,1.5 --contrast_range=1,2 --saturation_range=0,1": (
        options.AugmentOptions(
            brightness_range=(0.5, 1.5), contrast_range=(1, 2), saturation_range=(0, 1)
        )
    ),
    "--hue_range=10 --channel_shift_range=20": options.AugmentOptions(
        hue_range=10, channel_shift_range=20
    ),
    "--erasing_probability=0.5 --erasing_area=0.1,0.2 --erasing_value=0": options.AugmentOptions(
        erasing_probability=0.5, erasing_area=(0.1, 0.2), erasing_value=0
    ),
    "--mixup_alpha=0.2 --cutmix_alpha=1": options.AugmentOptions(mixup_alpha=0.2, cutmix_alpha=1),
}


@pytest.mark.parametrize("line", AUGMENT)
def test_augment_options_are_those_of_the_flags(given, line):
    given(*line.split())
    assert augment_flags.augment_options() == AUGMENT[line]


def test_every_field_of_the_options_has_its_flag():
    for field in dataclasses.fields(options.AugmentOptions):
        assert field.name in " ".join(AUGMENT)


TARGETS = {
    "--target=band --band_low=3 --band_high=9": targets.Target("band", low=3, high=9),
    "--target=effective --beta=0.9": targets.Target("effective", beta=0.9),
    "--class_weights=effective --beta=0.9": targets.Target(beta=0.9),
    "--target=shares --shares=rare=1,usual=2 --epoch_draws=30": targets.Target(
        "shares", shares={"rare": 1, "usual": 2}, epoch_draws=30
    ),
}


@pytest.mark.parametrize("line", TARGETS)
def test_targets_are_those_of_the_flags(given, line):
    given(*line.split())
    assert plan_flags.target() == TARGETS[line]


REFUSED = {
    # Values that cannot be.
    "--rotation_range=200": "rotation_range must lie in 0..180, got 200",
    "--brightness_range=1": "--brightness_range must be low,high, got '1'",
    "--brightness_range=2,1": "brightness_range must be 0 <= low <= high, got (2.0, 1.0)",
    "--augment=photo --strength=rare": "--strength must be class=factor,..., got 'rare'",
    "--augment=photo --strength=a=1,a=2": "--strength must name a class once, got 'a' twice",
    "--augment=photo --strength=who=1": "strength names 'who'",
    "--target=band --band_low=9 --band_high=3": "band must be 1 <= low <= high, got 9..3",
    "--target=shares --shares=rare": "--shares must be class=weight,..., got 'rare'",
    "--target=shares --shares=who=1": "shares name 'who'",
    "--class_weights=blanced": "--class_weights must be none, balanced, effective or class=weight",
    "--class_weights=balanced,none": "--class_weights must be none, balanced, effective or",
    "--class_weights=rare=-1": "weight of 'rare' must be 0 or more and finite, got -1.0",
    "--class_weights=effective --beta=1": "beta must lie in [0, 1), got 1.0",
    "--window_mb=0": "--window_mb must be at least 1, got 0",
    # Flags that would do nothing.
    "--fill_mode=reflect": "--fill_mode belongs to changes that move pixels",
    "--augment=photo --cval=9": "--cval belongs to --fill_mode=constant",
    "--erasing_area=0.1,0.2": "--erasing_area belongs to --erasing_probability above 0",
    "--erasing_value=0": "--erasing_value belongs to --erasing_probability above 0",
    "--mixup_alpha=1 --strength=rare=2": "--strength belongs to changes of single images",
    "--band_low=9": "--band_low belongs to target band, not to natural",
    "--target=balanced --shares=rare=1": "--shares belongs to target shares, not to balanced",
    "--target=band --epoch_draws=9": "--epoch_draws belongs to target balanced or sqrt or",
    "--beta=0.5": "--beta belongs to target or class_weights effective, not to target natural",
    "--strata=domain": "--strata=domain has no effect: no class of train has rows of two domains",
    "--residency=host --window_mb=9": "--window_mb belongs to residency stream, not to host",
}


def everything(opened):
    found = augment_flags.augment_options()
    cli.checked(lambda: found.strengths(opened.manifest.class_names))
    rows_flags.check()
    made = plan_flags.plan(opened, "train", seed=0, batch_size=4)
    return plan_flags.class_weights(made)


@pytest.mark.parametrize("line", REFUSED)
def test_refuses(given, opened, line):
    given(*line.split())
    with pytest.raises(cli.UsageError, match=re.escape(REFUSED[line])):
        everything(opened)


def test_a_flag_with_an_effect_is_not_refused(given, opened):
    given("--residency=auto", "--window_mb=9", "--augment=photo", "--fill_mode=reflect")
    assert everything(opened) is None


def test_plan_is_over_the_rows_of_the_split(given, opened):
    given("--target=undersample", "--stratified_batches", "--strata=group")
    made = plan_flags.plan(opened, "train", seed=3, batch_size=5)
    assert made.draws.tolist() == [5, 5]
    assert made.stratified_batches and made.has_strata
    assert (made.seed, made.batch_size) == (3, 5)


def test_class_weights(given, opened):
    given("--class_weights=rare=3,usual=1")
    made = plan_flags.plan(opened, "train", seed=0, batch_size=5)
    np.testing.assert_array_equal(
        plan_flags.class_weights(made), class_weights.explicit(made, {"rare": 3, "usual": 1})
    )
    given("--class_weights=balanced")
    np.testing.assert_array_equal(plan_flags.class_weights(made), class_weights.balanced(made))


def test_a_double_correction_is_said(given, opened, capsys):
    given("--target=balanced", "--class_weights=rare=4")
    plan_flags.class_weights(plan_flags.plan(opened, "train", seed=0, batch_size=5))
    said = capsys.readouterr().out
    assert said.startswith("warning: target 'balanced' and the class weights both correct")


def test_the_plan_is_explained_if_asked(given, opened, capsys):
    given("--explain_plan")
    made = plan_flags.plan(opened, "train", seed=0, batch_size=5)
    assert plan_flags.explained(made)
    assert "draws an epoch" in capsys.readouterr().out
    given("--noexplain_plan")
    assert not plan_flags.explained(made) and not capsys.readouterr().out


def test_rows_are_opened_where_they_are_wanted(given, opened):
    given("--residency=stream", "--window_mb=1")
    assert rows_flags.open_rows(opened, "train").residency == "stream"
    given("--residency=auto")
    assert rows_flags.open_rows(opened, "train").residency == "host"
