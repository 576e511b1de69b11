"""What the augmentation did to single images, as values and in words.

A value is what the module that changes images makes of the random numbers where nothing else is
on. So it is the value that was used, not a second computation of it.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from datapipe import randomness
from datapipe.augment import chain, colour, erasing, mixing, warp
from datapipe.augment.options import AugmentOptions
from datapipe.plan.sampling import SamplingPlan
from records.common.backend import tf

_OFF = AugmentOptions()
_Read = Callable[[AugmentOptions, tf.Tensor, tf.Tensor, int], tf.Tensor]


def values(
    options: AugmentOptions,
    plan: SamplingPlan,
    positions: tf.Tensor,
    labels: tf.Tensor,
    size: int,
) -> dict[str, np.ndarray]:
    """Returns the value of each change that is on, for consecutive positions of the stream.

    Args:
        options: what is changed.
        plan: of the stream; its seed keys the changes.
        positions: int64 [n], each one more than the one before; they begin and end with a pair
            where images are mixed.
        labels: int32 [n].
        size: height and width of the images, in pixels.

    Returns:
        By name, float [n] or [n, k]: `rotation` and `shear` in degrees, `shift` (x, y) as shares of
        the picture, `zoom` (x, y), `mirrored` and `upside down` as 0 or 1, `brightness`, `contrast`
        and `saturation` as factors, `hue` in degrees, `channels` (red, green, blue) of 255,
        `erased` as the share of the picture, `mixup` and `cutmix` as the image's own share.
    """
    found = {}
    for name, change in _CHANGES.items():
        alone = _alone(options, change.fields)
        if not alone.off:
            made = chain.Augmentation(alone, seed=plan.seed, class_names=plan.class_names)
            numbers = made.numbers(positions, labels)
            uniform, strength = numbers[:, : randomness.UNIFORMS], numbers[:, -1]
            found[name] = np.asarray(change.read(alone, uniform, strength, size))
    return found


def words(found: Mapping[str, np.ndarray], number: int) -> tuple[str, ...]:
    """Returns what was done to one image, a short text for each change that it has.

    Args:
        found: as from `values`.
        number: of the image.
    """
    said = (_CHANGES[name].say(*np.atleast_1d(value[number])) for name, value in found.items())
    return tuple(filter(None, said))


def _alone(options: AugmentOptions, fields: tuple[str, ...]) -> AugmentOptions:
    """Returns the options with all changes off but those of some fields."""
    switches = {field for change in _CHANGES.values() for field in change.fields}
    off = {field: getattr(_OFF, field) for field in sorted(switches.difference(fields))}
    return dataclasses.replace(options, **off)


def _degrees(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.atan2(y, x) * (180 / np.pi)


def _map(read: Callable[[tf.Tensor, int], tf.Tensor]) -> _Read:
    """Returns what reads a value from the affine maps, float32 [n, 6] = (a, b, c, d, e, f)."""
    return lambda options, u, strength, size: read(warp.matrices(options, size, u, strength), size)


def _factor(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int) -> tf.Tensor:
    """Reads brightness or contrast: either multiplies every channel."""
    return colour.maps(options, u, strength)[0][:, 0, 0]


def _chroma(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int) -> tf.Tensor:
    """Reads s cos(h) for saturation s and hue h: the trace is 1 for luma and 2 s cos(h)."""
    return (tf.linalg.trace(colour.maps(options, u, strength)[0]) - 1) / 2


def _hue(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int) -> tf.Tensor:
    cos = tf.clip_by_value(_chroma(options, u, strength, size), -1, 1)
    # The trace does not tell left from right; column 6 of the numbers does.
    return tf.sign(u[:, 6] - 0.5) * tf.acos(cos) * (180 / np.pi)


def _channels(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int) -> tf.Tensor:
    return colour.maps(options, u, strength)[1] * 255


def _erased(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int) -> tf.Tensor:
    return _area(erasing.boxes(options, u, size, strength)) / (size * size)


def _mixup(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int) -> tf.Tensor:
    """Reads the share of a blended image that is its own; 1 for one with a box of another."""
    share, boxes = mixing.shares(options, u, size)
    return tf.where(_area(boxes) > 0, 1.0, share)


def _cutmix(options: AugmentOptions, u: tf.Tensor, strength: tf.Tensor, size: int) -> tf.Tensor:
    """Reads the share of an image that the box of its partner leaves; 1 without a box."""
    return 1 - _area(mixing.shares(options, u, size)[1]) / (size * size)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


@dataclasses.dataclass(frozen=True)
class _Change:
    """How one change is read and said.

    Attributes:
        fields: of the options, which turn it on.
        read: gives the value of each image, from options without any other change.
        say: takes the value of one image and gives a short text, or none where it has no change.
    """

    fields: tuple[str, ...]
    read: _Read
    say: Callable[..., str]


def _signed(value: float, digits: int = 0) -> str:
    rounded = round(float(value), digits)
    return f"{rounded:+.{digits}f}" if rounded else "0"


def _number(name: str) -> Callable[[float], str]:
    return lambda value: f"{name} {value:.2f}"


def _own_share(name: str) -> Callable[[float], str]:
    return lambda value: f"{name}, own {value:.2f}" if value < 1 else ""


_MIXING = ("mixup_alpha", "cutmix_alpha")  # they share their numbers

# In the order of a caption.
_CHANGES = {
    "rotation": _Change(
        ("rotation_range",),
        _map(lambda maps, size: _degrees(maps[:, 3], maps[:, 0])),
        lambda value: f"rotation {_signed(value)}°",
    ),
    "shift": _Change(
        ("width_shift_range", "height_shift_range"),
        _map(lambda maps, size: tf.stack([maps[:, 2], maps[:, 5]], axis=1) / size),
        lambda x, y: f"shift x {_signed(x * 100)} y {_signed(y * 100)} %",
    ),
    "shear": _Change(
        ("shear_range",),
        _map(lambda maps, size: _degrees(-maps[:, 1], maps[:, 4])),
        lambda value: f"shear {_signed(value, 1)}°",
    ),
    "zoom": _Change(
        ("zoom_range",),
        _map(lambda maps, size: tf.stack([maps[:, 0], maps[:, 4]], axis=1)),
        lambda x, y: f"zoom x {x:.2f} y {y:.2f}",
    ),
    "mirrored": _Change(
        ("horizontal_flip",),
        _map(lambda maps, size: tf.cast(maps[:, 0] < 0, tf.float32)),
        lambda value: "mirrored" if value else "",
    ),
    "upside down": _Change(
        ("vertical_flip",),
        _map(lambda maps, size: tf.cast(maps[:, 4] < 0, tf.float32)),
        lambda value: "upside down" if value else "",
    ),
    "brightness": _Change(("brightness_range",), _factor, _number("brightness")),
    "contrast": _Change(("contrast_range",), _factor, _number("contrast")),
    "saturation": _Change(("saturation_range",), _chroma, _number("saturation")),
    "hue": _Change(("hue_range",), _hue, lambda value: f"hue {_signed(value)}°"),
    "channels": _Change(
        ("channel_shift_range",),
        _channels,
        lambda *rgb: "channels " + " ".join(map(_signed, rgb)),
    ),
    "erased": _Change(
        ("erasing_probability",),
        _erased,
        lambda value: f"erased {value * 100:.0f} %" if value else "",
    ),
    "mixup": _Change(_MIXING, _mixup, _own_share("mixup")),
    "cutmix": _Change(_MIXING, _cutmix, _own_share("cutmix")),
}
