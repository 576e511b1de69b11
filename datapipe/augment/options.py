"""What a user can ask of the augmentation: frozen values, checked when they are made.

Nothing here needs TensorFlow: flags are parsed and `--help` is printed before it is imported.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from records.common import checks

_MAX_FLOAT = sys.float_info.max
FILL_MODES = ("nearest", "constant", "reflect")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What holds for the values of one option, beside its default.

    Attributes:
        kind: `warp`, `colour`, `erasing` or `mixing`: the augmentation that the option belongs to.
        highest: a number lies in 0..highest and is finite, and so do both of a pair.
        is_pair: whether it is two numbers in rising order.
        is_scaled: whether the strength of a class scales it.
        is_switch: whether any value but the default turns the augmentation on.
    """

    kind: str
    highest: float = math.inf
    is_pair: bool = False
    is_scaled: bool = False
    is_switch: bool = True

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError, with the rule, for a value that must not be."""
        if not self.is_pair:
            checks.between(name, value, 0, self.highest, "[]" if self.highest < math.inf else "[)")
        elif len(value) != 2 or not 0 <= value[0] <= value[1] <= min(self.highest, _MAX_FLOAT):
            limit = f" <= {self.highest}" if self.highest < math.inf else ""
            raise ValueError(f"{name} must be 0 <= low <= high{limit}, got {value}")

    def check_scaled(self, name: str, value: Any, class_name: str, strength: float) -> None:
        """Raises ValueError if the strength of a class takes a value out of its bounds."""
        if self.is_pair:
            scaled, rule = 1 + ((value or (1, 1))[0] - 1) * strength, "at 0 or more"
            name, right = f"the lowest factor of {name}", scaled >= 0
        else:
            scaled, rule = value * strength, f"in 0..{self.highest}"
            right = scaled <= self.highest
        if not right:
            raise ValueError(
                f"strength {strength} of class {class_name!r} must keep {name} {rule}, got {scaled}"
            )


def _option(default: Any, kind: str, highest: float = math.inf, **rule: bool) -> Any:
    return dataclasses.field(default=default, metadata={"rule": Rule(kind, highest, **rule)})


def _factors() -> Any:
    return _option(None, "colour", is_pair=True, is_scaled=True)


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Random changes of the training images; names and meaning of Keras' `ImageDataGenerator`.

    Attributes:
        rotation_range: Rotation by up to so many degrees either way, 0 to 180.
        width_shift_range: Horizontal shift by up to this share of the width either way, 0 to 1.
        height_shift_range: Vertical shift by up to this share of the height either way, 0 to 1.
        shear_range: Shear by up to so many degrees either way, 0 to 89.
        zoom_range: Zoom of each axis by a factor in 1 - range..1 + range, range 0 to 0.99.
        horizontal_flip: Mirror half of the images left to right.
        vertical_flip: Mirror half of the images top to bottom.
        fill_mode: Pixels outside the picture: nearest, constant (see `cval`) or reflect.
        cval: Value of pixels outside the picture, 0 to 255. Only with fill mode constant.
        brightness_range: Brightness factor, low,high; at least 0.
        contrast_range: Contrast factor about mid-grey, low,high; at least 0.
        saturation_range: Saturation factor, low,high; at least 0.
        hue_range: Hue shift by up to so many degrees of the colour wheel either way, 0 to 180.
        channel_shift_range: Shift of each channel on its own by up to this value either way, 0 to
            255. Keras moves all three channels alike, which changes brightness only.
        erasing_probability: Random erasing: share of the images that lose a box, 0 to 1.
        erasing_area: Area of the erased box as a share of the picture, smallest,largest; 0 to 1.
        erasing_value: Value that fills the erased box, 0 to 255.
        mixup_alpha: MixUp: pairs of images and labels are blended by Beta(alpha, alpha); 0 is off.
        cutmix_alpha: CutMix: a box of one image goes into the other, its area by Beta(alpha,
            alpha); 0 is off. With MixUp too, each image takes one of the two at random.
        strength: Factor on the ranges and the erasing probability of single classes,
            class=factor,...; classes that are not named keep 1, 0 leaves images of a class as they
            are, except for MixUp and CutMix. A range must stay within its bounds.
    """

    rotation_range: float = _option(0.0, "warp", 180, is_scaled=True)
    width_shift_range: float = _option(0.0, "warp", 1, is_scaled=True)
    height_shift_range: float = _option(0.0, "warp", 1, is_scaled=True)
    shear_range: float = _option(0.0, "warp", 89, is_scaled=True)
    zoom_range: float = _option(0.0, "warp", 0.99, is_scaled=True)
    horizontal_flip: bool = _option(False, "warp")
    vertical_flip: bool = _option(False, "warp")
    fill_mode: str = "nearest"
    cval: float = _option(0.0, "warp", 255, is_switch=False)
    brightness_range: tuple[float, float] | None = _factors()
    contrast_range: tuple[float, float] | None = _factors()
    saturation_range: tuple[float, float] | None = _factors()
    hue_range: float = _option(0.0, "colour", 180, is_scaled=True)
    channel_shift_range: float = _option(0.0, "colour", 255, is_scaled=True)
    erasing_probability: float = _option(0.0, "erasing", 1)
    erasing_area: tuple[float, float] = _option(
        (0.02, 0.33), "erasing", 1, is_pair=True, is_switch=False
    )
    erasing_value: float = _option(127.5, "erasing", 255, is_switch=False)
    mixup_alpha: float = _option(0.0, "mixing")
    cutmix_alpha: float = _option(0.0, "mixing")
    strength: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            if getattr(self, name) != _DEFAULTS[name]:
                rule.check(name, getattr(self, name))
        checks.one_of("fill_mode", self.fill_mode, FILL_MODES)
        for class_name, strength in self.strength.items():
            checks.between(f"strength of class {class_name!r}", strength, 0, math.inf, "[)")
            for name, rule in RULES.items():
                if rule.is_scaled:
                    rule.check_scaled(name, getattr(self, name), class_name, strength)

    def switched_on(self, kind: str) -> list[str]:
        """Returns the options that turn an augmentation on, of those that were given."""
        return [name for name in switches(kind) if getattr(self, name) != _DEFAULTS[name]]

    def without(self, *kinds: str) -> "AugmentOptions":
        """Returns the options with some augmentations off."""
        off: dict[str, Any] = {name: _DEFAULTS[name] for kind in kinds for name in switches(kind)}
        return dataclasses.replace(self, **off)

    @property
    def warps(self) -> bool:
        """Whether pixels move."""
        return bool(self.switched_on("warp"))

    @property
    def colours(self) -> bool:
        """Whether colours change."""
        return bool(self.switched_on("colour"))

    @property
    def erases(self) -> bool:
        """Whether boxes are erased."""
        return bool(self.switched_on("erasing"))

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other, and their labels too."""
        return bool(self.switched_on("mixing"))

    @property
    def off(self) -> bool:
        """Whether every image stays as it is."""
        return not any(self.switched_on(rule.kind) for rule in RULES.values())

    def strengths(self, class_names: Sequence[str]) -> list[float]:
        """Returns the strength of each class, in label order.

        Raises:
            ValueError: if `strength` names a class that is not there.
        """
        unknown = sorted(set(self.strength) - set(class_names))
        if unknown:
            raise ValueError(f"strength names {unknown[0]!r}; the classes are {list(class_names)}")
        return [float(self.strength.get(name, 1.0)) for name in class_names]


_FIELDS = [field for field in dataclasses.fields(AugmentOptions) if "rule" in field.metadata]
RULES: dict[str, Rule] = {field.name: field.metadata["rule"] for field in _FIELDS}
_DEFAULTS = {field.name: field.default for field in _FIELDS}


def switches(kind: str) -> list[str]:
    """Returns the options any of which turns an augmentation on."""
    return [name for name, rule in RULES.items() if rule.kind == kind and rule.is_switch]
