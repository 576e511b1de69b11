"""The flags that say how training images are changed: a preset, and each of its values.

A binary adopts them: `flags.adopt_module_key_flags(augment_flags)`.
"""

import dataclasses

from absl import flags

from datapipe.augment import options
from records.common import cli, flag_values
from records.common.flag_values import refuse_unless

_AUGMENT = flags.DEFINE_enum(
    "augment", "none", sorted(options.PRESETS), "Preset of random changes to the images."
)
_FILL_MODE = flags.DEFINE_enum(
    "fill_mode", None, options.FILL_MODES, "Outside the picture; overrides the preset."
)
_CVAL = flags.DEFINE_float("cval", None, "Fill mode constant: 0 to 255; overrides the preset.")
_ERASING_AREA = flags.DEFINE_list(
    "erasing_area", None, "SMALLEST,LARGEST share of the picture; overrides the preset."
)
_ERASING_VALUE = flags.DEFINE_float(
    "erasing_value", None, "What a box is filled with, 0 to 255; overrides the preset."
)
_STRENGTH = flags.DEFINE_list(
    "strength", None, "Factor on the ranges by class: class=0.5,class=2; others keep 1."
)
_SINGLE = (
    flags.DEFINE_float("rotation_range", None, "Degrees; overrides the preset."),
    flags.DEFINE_float("width_shift_range", None, "Share of the width; overrides the preset."),
    flags.DEFINE_float("height_shift_range", None, "Share of the height; overrides the preset."),
    flags.DEFINE_float("shear_range", None, "Degrees; overrides the preset."),
    flags.DEFINE_float("zoom_range", None, "0.2 is 0.8 to 1.2; overrides the preset."),
    flags.DEFINE_bool("horizontal_flip", None, "Overrides the preset."),
    flags.DEFINE_bool("vertical_flip", None, "Overrides the preset."),
    flags.DEFINE_float("hue_range", None, "Degrees, 0 to 180; overrides the preset."),
    flags.DEFINE_float(
        "channel_shift_range", None, "0 to 255, each channel on its own; overrides the preset."
    ),
    flags.DEFINE_float(
        "erasing_probability", None, "Share of images that lose a box; overrides the preset."
    ),
    flags.DEFINE_float("mixup_alpha", None, "Blend pairs by Beta(alpha, alpha); 0 is off."),
    flags.DEFINE_float("cutmix_alpha", None, "The same for a box of the other image; 0 is off."),
    *(_FILL_MODE, _CVAL, _ERASING_VALUE),
)
_PAIRS = (
    flags.DEFINE_list("brightness_range", None, "LOW,HIGH factor; overrides the preset."),
    flags.DEFINE_list("contrast_range", None, "LOW,HIGH factor; overrides the preset."),
    flags.DEFINE_list("saturation_range", None, "LOW,HIGH factor; overrides the preset."),
    _ERASING_AREA,
)


def augment_options() -> options.AugmentOptions:
    """Returns the preset with what other flags change of it.

    Raises:
        UsageError: if a value cannot be, or a flag has no effect beside the others.
    """
    found = cli.checked(_options)
    moving = "changes that move pixels (shifts, rotation, ...), of which there are none"
    refuse_unless(found.warps, _FILL_MODE, moving)
    refuse_unless(found.warps and found.fill_mode == "constant", _CVAL, "--fill_mode=constant")
    for holder in (_ERASING_AREA, _ERASING_VALUE):
        refuse_unless(found.erases, holder, "--erasing_probability above 0")
    scaled = found.warps or found.colours or found.erases
    refuse_unless(scaled, _STRENGTH, "changes of single images, of which there are none")
    return found


def description() -> str:
    """Returns the preset and what other flags change of it, in words."""
    given = [flag for flag in (*_SINGLE, *_PAIRS, _STRENGTH) if flag.value is not None]
    return ", ".join([_AUGMENT.value, *(f"{flag.name} {_said(flag.value)}" for flag in given)])


def _said(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else f"{value}"


def _options() -> options.AugmentOptions:
    given = {flag.name: flag.value for flag in _SINGLE if flag.value is not None}
    for flag in _PAIRS:
        if flag.value is not None:
            given[flag.name] = flag_values.pair(flag.name, flag.value)
    if _STRENGTH.value is not None:
        given["strength"] = flag_values.by_class("strength", _STRENGTH.value, "factor")
    return dataclasses.replace(options.PRESETS[_AUGMENT.value], **given)
