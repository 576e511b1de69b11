"""The flags of sampling, augmentation and rows: a table of what they make and what they refuse."""

import dataclasses
import re

import pytest
from absl import flags

from datapipe import flags as input_flags
from datapipe.augment import options
from datapipe.augment.presets import PRESETS
from datapipe.plan.options import SamplingOptions
from datapipe.rows.options import RowsOptions
from records.common import cli, targets


class Parsed:
    """The three groups of flags, as a command line sets them."""

    def __init__(self, *line):
        values = flags.FlagValues()
        self.sampling = input_flags.Sampling(values)
        self.augmentation = input_flags.Augmentation(values)
        self.storage = input_flags.Storage(values)
        cli.parse(["test", *line], values)

    def read(self):
        return self.sampling.read(), self.augmentation.read(), self.storage.read()


def test_flags_left_out_are_the_defaults():
    assert Parsed().read() == (SamplingOptions(), PRESETS["none"], RowsOptions())


AUGMENT = {
    "--augment=photo": PRESETS["photo"],
    "--augment=basic --nohorizontal_flip": dataclasses.replace(
        PRESETS["basic"], horizontal_flip=False
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
def test_augment_options_are_those_of_the_flags(line):
    assert Parsed(*line.split()).augmentation.read() == AUGMENT[line]


def test_every_field_of_the_options_has_its_flag():
    for field in dataclasses.fields(options.AugmentOptions):
        assert field.name in " ".join(AUGMENT)


def test_an_augmentation_is_described_by_what_was_given():
    line = ("--augment=photo", "--brightness_range=0.5,1.5", "--nohorizontal_flip")
    said = Parsed(*line).augmentation.description()
    assert said == "photo, horizontal_flip False, brightness_range 0.5 1.5"


SAMPLING = {
    "--target=band --band_low=3 --band_high=9": {"target": targets.Target("band", low=3, high=9)},
    "--target=effective --beta=0.9": {"target": targets.Target("effective", beta=0.9)},
    "--class_weights=effective --beta=0.9": {
        "target": targets.Target(beta=0.9),
        "class_weights": "effective",
    },
    "--target=shares --shares=rare=1,usual=2 --epoch_draws=30": {
        "target": targets.Target("shares", shares={"rare": 1, "usual": 2}, epoch_draws=30)
    },
    "--class_weights=rare=3,usual=1": {"class_weights": {"rare": 3.0, "usual": 1.0}},
    "--strata=group --stratified_batches": {"strata": "group", "stratified_batches": True},
}


@pytest.mark.parametrize("line", SAMPLING)
def test_sampling_is_that_of_the_flags(line):
    assert Parsed(*line.split()).sampling.read() == SamplingOptions(**SAMPLING[line])


def test_rows_are_kept_where_the_flags_say():
    line = ("--residency=stream", "--window_mb=1")
    assert Parsed(*line).storage.read() == RowsOptions("stream", 1)


REFUSED = {
    # Values that cannot be.
    "--rotation_range=200": "--rotation_range must lie in 0..180, got 200",
    "--brightness_range=1": "--brightness_range must be low,high, got '1'",
    "--brightness_range=2,1": "--brightness_range must be 0 <= low <= high, got (2.0, 1.0)",
    "--augment=photo --strength=rare": "--strength must be class=number,..., got 'rare'",
    "--augment=photo --strength=a=1,a=2": "--strength must name a class once, got 'a' twice",
    "--target=band --band_low=9 --band_high=3": "band must be 1 <= low <= high, got 9..3",
    "--target=shares --shares=rare": "--shares must be class=number,..., got 'rare'",
    "--class_weights=blanced": "--class_weights must be none, balanced, effective or class=weight",
    "--class_weights=balanced,none": "--class_weights must be none, balanced, effective or",
    "--class_weights=effective --beta=1": "--beta must lie in [0, 1), got 1.0",
    "--window_mb=0": "--window_mb must be at least 1, got 0",
    "--target=even": "--target must be one of natural, ",
    # Flags that would do nothing.
    "--fill_mode=reflect": "--fill_mode only applies to a shift, rotation, shear or zoom",
    "--augment=photo --cval=9": "--cval only applies to --fill_mode=constant",
    "--erasing_area=0.1,0.2": "--erasing_area only applies to --erasing_probability above 0",
    "--erasing_value=0": "--erasing_value only applies to --erasing_probability above 0",
    "--mixup_alpha=1 --strength=rare=2": "--strength only applies to augmentation other than mix",
    "--band_low=9": "--band_low only applies to --target=band, got --target=natural",
    "--target=balanced --shares=rare=1": "--shares only applies to --target=shares, got --target=b",
    "--target=band --epoch_draws=9": "--epoch_draws only applies to --target=balanced or sqrt or",
    "--beta=0.5": "--beta only applies to --target=effective or --class_weights=effective, got",
    "--residency=host --window_mb=9": "--window_mb only applies to --residency=auto or stream, got",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refuses(line):
    with pytest.raises(cli.UsageError, match=re.escape(REFUSED[line])):
        Parsed(*line.split()).read()


def test_a_flag_with_an_effect_is_not_refused():
    line = ("--residency=auto", "--window_mb=9", "--augment=photo", "--fill_mode=reflect")
    assert Parsed(*line).read()[1].fill_mode == "reflect"


def test_a_stream_has_no_strata():
    sampling, _, rows = Parsed("--residency=stream", "--stratified_batches").read()
    with pytest.raises(ValueError, match="residency=stream offers class targets only"):
        rows.check_sampling(sampling)
