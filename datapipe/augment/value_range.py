"""The ranges of pixel values that a model can be given, by name."""

from records.common import checks

RANGES = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}


def scale_of(name: str) -> tuple[float, float]:
    """Returns (scale, offset): a stored uint8 times scale plus offset lies in the range.

    Raises:
        ValueError: if there is no range of that name.
    """
    checks.one_of("input range", name, RANGES)
    low, high = RANGES[name]
    return (high - low) / 255, low
