"""The presets, and that they and the options need no TensorFlow."""

import dataclasses
import subprocess
import sys

import pytest

from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("none", {}),
        ("basic", {"width_shift_range": 0.1, "height_shift_range": 0.1, "horizontal_flip": True}),
        (
            "illustration",
            {
                "rotation_range": 30,
                "width_shift_range": 0.3,
                "height_shift_range": 0.3,
                "zoom_range": 0.2,
                "horizontal_flip": True,
                "fill_mode": "nearest",
            },
        ),
        (
            "vehicle",
            {
                "rotation_range": 30,
                "shear_range": 0.3,  # degrees, as Keras has it
                "horizontal_flip": True,
                "fill_mode": "nearest",
            },
        ),
    ],
)
def test_presets_of_the_studies_are_what_the_studies_say(name, fields):
    assert PRESETS[name] == AugmentOptions(**fields)


@pytest.mark.parametrize("name", PRESETS)
def test_extreme_goes_further_than_every_other_preset(name):
    ranges = ("rotation_range", "width_shift_range", "height_shift_range", "zoom_range")
    other, extreme = (dataclasses.asdict(PRESETS[key]) for key in (name, "extreme"))
    assert name == "extreme" or all(other[key] < extreme[key] for key in ranges)


def test_only_none_is_off():
    assert [name for name, options in PRESETS.items() if options.off] == ["none"]


def test_presets_and_options_do_not_import_tensorflow():
    code = "import sys, datapipe.augment.presets; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
