"""What a user can ask of the pipeline: frozen values, checked when they are made."""

import dataclasses
from collections.abc import Mapping

FILL_MODES = ("nearest", "constant", "reflect")


@dataclasses.dataclass(frozen=True)
class Target:
    """The class distribution that training shall see.

    Attributes:
        name: `natural` (as the rows are), `undersample` (every class as the smallest),
            `oversample` (every class as the largest), `band` (each count clipped to low..high),
            `balanced` (equal shares of the epoch), `sqrt` (shares as the square roots of the
            counts), `effective` (by the effective number of samples), `shares` (as given).
        low: lower end of the band, in draws per epoch.
        high: upper end of the band.
        beta: of `effective`, in [0, 1): 0 leaves the shares natural, near 1 makes them equal.
        shares: weight of each class name for `shares`; they need not sum to 1, others get 0.
        epoch_draws: draws in an epoch for `balanced`, `sqrt`, `effective` and `shares`; 0 means as
            many as there are rows.
    """

    name: str = "natural"
    low: int = 250
    high: int = 1000
    beta: float = 0.999
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epoch_draws: int = 0

    NAMES = (
        *("natural", "undersample", "oversample", "band"),
        *("balanced", "sqrt", "effective", "shares"),
    )

    def __post_init__(self) -> None:
        if self.name not in self.NAMES:
            raise ValueError(f"target must be one of {', '.join(self.NAMES)}, got {self.name!r}")
        if not 1 <= self.low <= self.high:
            raise ValueError(f"band must be 1 <= low <= high, got {self.low}..{self.high}")
        if not 0 <= self.beta < 1:
            raise ValueError(f"beta must lie in [0, 1), got {self.beta}")
        if self.epoch_draws < 0:
            raise ValueError(f"epoch_draws must be 0 or more, got {self.epoch_draws}")
        if self.name == "shares" and not self.shares:
            raise ValueError("target 'shares' needs a share for at least one class")
        total = sum(self.shares.values())
        if self.shares and not (min(self.shares.values()) >= 0 and 0 < total < float("inf")):
            raise ValueError(f"shares must not be negative nor all 0, got {dict(self.shares)}")


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

    def __post_init__(self) -> None:
        bounds = {
            "rotation_range": 180,
            "width_shift_range": 1,
            "height_shift_range": 1,
            "shear_range": 89,
            "zoom_range": 0.99,
            "cval": 255,
        }
        for name, highest in bounds.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise ValueError(f"{name} must lie in 0..{highest}, got {value}")
        if self.fill_mode not in FILL_MODES:
            raise ValueError(f"fill_mode must be one of {FILL_MODES}, got {self.fill_mode!r}")
        low, high = self.brightness_range or (1, 1)
        if not 0 <= low <= high < float("inf"):
            raise ValueError(
                f"brightness_range must be 0 <= low <= high, got {self.brightness_range}"
            )

    @property
    def warps(self) -> bool:
        """Whether pixels move."""
        ranges = (
            *(self.rotation_range, self.width_shift_range, self.height_shift_range),
            *(self.shear_range, self.zoom_range),
        )
        return any(ranges) or self.horizontal_flip or self.vertical_flip


# Named after their use; the reasons stand beside them.
PRESETS = {
    "none": AugmentOptions(),
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
