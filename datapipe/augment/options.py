"""What a user can ask of the augmentation: frozen values, checked when they are made."""

import dataclasses
from collections.abc import Mapping, Sequence

FILL_MODES = ("nearest", "constant", "reflect")

# The highest value of each field that has one; the lowest is 0.
_HIGHEST = {
    "rotation_range": 180,
    "width_shift_range": 1,
    "height_shift_range": 1,
    "shear_range": 89,
    "zoom_range": 0.99,
    "cval": 255,
    "hue_range": 180,
    "channel_shift_range": 255,
    "erasing_probability": 1,
    "erasing_value": 255,
}
_WARPS = ("rotation_range", "width_shift_range", "height_shift_range", "shear_range", "zoom_range")
_FACTORS = ("brightness_range", "contrast_range", "saturation_range")
_SHIFTS = ("hue_range", "channel_shift_range")


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Random changes of the training images; names and meaning of Keras' `ImageDataGenerator`.

    Attributes:
        rotation_range: degrees; the angle is uniform in -range..range.
        width_shift_range: share of the width, 0 to 1; uniform in -range..range.
        height_shift_range: share of the height.
        shear_range: degrees.
        zoom_range: the two scales are uniform in 1 - range..1 + range, each on its own.
        horizontal_flip: mirror half of the images left to right.
        vertical_flip: mirror half of the images top to bottom.
        fill_mode: what stands outside the picture: `nearest`, `constant` or `reflect`.
        cval: the constant, 0 to 255.
        brightness_range: lowest and highest factor, or None.
        contrast_range: lowest and highest factor of the distance from mid-grey, or None.
        saturation_range: lowest and highest factor of the distance from grey, or None.
        hue_range: degrees, 0 to 180; the angle on the colour wheel is uniform in -range..range.
        channel_shift_range: 0 to 255; each channel moves by a number of its own, uniform in
            -range..range. Keras moves all three by one number, which changes brightness only.
        erasing_probability: share of the images of which a box is erased, 0 to 1.
        erasing_area: smallest and largest area of the box, as a share of the picture.
        erasing_value: what the box is filled with, 0 to 255.
        mixup_alpha: of Beta(alpha, alpha), by which pairs of images are blended; 0 is off.
        cutmix_alpha: the same for a box cut out of the other image; 0 is off. With both, each image
            takes one of the two at random.
        strength: factor on all ranges and on `erasing_probability` for each class name; others
            have 1. With 0 an image of that class stays as it is, but for mixing, which concerns two
            images and does not follow the strength. No range may leave its bounds by it; a
            probability stops at 1.
    """

    rotation_range: float = 0.0
    width_shift_range: float = 0.0
    height_shift_range: float = 0.0
    shear_range: float = 0.0
    zoom_range: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    fill_mode: str = "nearest"
    cval: float = 0.0
    brightness_range: tuple[float, float] | None = None
    contrast_range: tuple[float, float] | None = None
    saturation_range: tuple[float, float] | None = None
    hue_range: float = 0.0
    channel_shift_range: float = 0.0
    erasing_probability: float = 0.0
    erasing_area: tuple[float, float] = (0.02, 0.33)
    erasing_value: float = 127.5
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    strength: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, highest in _HIGHEST.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise ValueError(f"{name} must lie in 0..{highest}, got {value}")
        if self.fill_mode not in FILL_MODES:
            raise ValueError(f"fill_mode must be one of {FILL_MODES}, got {self.fill_mode!r}")
        for name in _FACTORS:
            if getattr(self, name) is not None:
                _check_pair(name, getattr(self, name), float("inf"))
        _check_pair("erasing_area", self.erasing_area, 1)
        for name in ("mixup_alpha", "cutmix_alpha"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for class_name, factor in self.strength.items():
            self._check_strength(class_name, factor)

    def _check_strength(self, class_name: str, factor: float) -> None:
        if not 0 <= factor < float("inf"):
            raise ValueError(f"strength of class {class_name!r} must be 0 or more, got {factor}")
        for name in (*_WARPS, *_SHIFTS):
            value, highest = getattr(self, name) * factor, _HIGHEST[name]
            if value > highest:
                raise ValueError(
                    f"strength {factor} of class {class_name!r} must keep {name} in 0..{highest},"
                    f" got {value}"
                )
        for name in _FACTORS:
            low = 1 + ((getattr(self, name) or (1, 1))[0] - 1) * factor
            if low < 0:
                raise ValueError(
                    f"strength {factor} of class {class_name!r} must keep the lowest factor of"
                    f" {name} at 0 or more, got {low}"
                )

    @property
    def warps(self) -> bool:
        """Whether pixels move."""
        flips = self.horizontal_flip or self.vertical_flip
        return flips or any(getattr(self, name) for name in _WARPS)

    @property
    def colours(self) -> bool:
        """Whether colours change."""
        factors = any(getattr(self, name) is not None for name in _FACTORS)
        return factors or any(getattr(self, name) for name in _SHIFTS)

    @property
    def erases(self) -> bool:
        """Whether boxes are erased."""
        return self.erasing_probability > 0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other, and their labels too."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    @property
    def off(self) -> bool:
        """Whether every image stays as it is."""
        return not (self.warps or self.colours or self.erases or self.mixes)

    def strengths(self, class_names: Sequence[str]) -> list[float]:
        """Returns the strength of each class, in label order.

        Raises:
            ValueError: if `strength` names a class that is not there.
        """
        unknown = sorted(set(self.strength) - set(class_names))
        if unknown:
            raise ValueError(f"strength names {unknown[0]!r}; the classes are {list(class_names)}")
        return [float(self.strength.get(name, 1.0)) for name in class_names]


def _check_pair(name: str, pair: tuple[float, float], highest: float) -> None:
    rule = "0 <= low <= high" + (f" <= {highest}" if highest < float("inf") else "")
    if len(pair) != 2 or not 0 <= pair[0] <= pair[1] <= highest or pair[1] == float("inf"):
        raise ValueError(f"{name} must be {rule}, got {pair}")


# Named after their use; the reasons stand beside them. The values of `basic`, `illustration` and
# `vehicle` are those of three student studies.
PRESETS = {
    "none": AugmentOptions(),
    # Drawn letters O and X: a mirror image is the same letter, and they stand a little off the
    # middle.
    "basic": AugmentOptions(
        width_shift_range=0.1,
        height_shift_range=0.1,
        horizontal_flip=True,
    ),
    # Drawings on white: they may stand anywhere, a little turned, larger or smaller, but not upside
    # down. The margins are white, so the nearest pixel goes on with them.
    "illustration": AugmentOptions(
        rotation_range=30,
        width_shift_range=0.3,
        height_shift_range=0.3,
        zoom_range=0.2,
        horizontal_flip=True,
        fill_mode="nearest",
    ),
    # Photographs of cars, whole or damaged. The shear of the study is kept as it was given: Keras
    # takes degrees, so 0.3 is next to nothing (a third of a pixel at the edge of 128).
    "vehicle": AugmentOptions(
        rotation_range=30,
        shear_range=0.3,
        horizontal_flip=True,
        fill_mode="nearest",
    ),
    # What not to do: in the study of cars, extreme transforms scored below none at all (0.84
    # against 0.85), because the damage leaves the frame. How far the study went is not known; these
    # values are ours. In half of the images less than 40 % of the original is left to see.
    "extreme": AugmentOptions(
        rotation_range=90,
        width_shift_range=0.5,
        height_shift_range=0.5,
        shear_range=45,
        zoom_range=0.8,
        horizontal_flip=True,
        vertical_flip=True,
    ),
    # Letters and signs: drawn small or large and anywhere, but a mirror image, or one turned far,
    # may be another letter.
    "glyph": AugmentOptions(
        rotation_range=15,
        width_shift_range=0.2,
        height_shift_range=0.2,
        shear_range=10,
        zoom_range=0.4,
    ),
    # Photographs of things that may as well be seen from the other side.
    "photo": AugmentOptions(
        rotation_range=25,
        width_shift_range=0.15,
        height_shift_range=0.15,
        shear_range=15,
        zoom_range=0.3,
        horizontal_flip=True,
        brightness_range=(0.6, 1.4),
    ),
}
