"""Checks of option values; each error states the option's name, the rule and the value."""

import math
from collections.abc import Collection
from typing import Any


def at_least(name: str, value: float, least: float, unit: str = "") -> None:
    """Raises a ValueError unless `value >= least`: NaN fails, infinity passes.

    Args:
        unit: follows `least` in the message, such as `MiB`.
    """
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}{unit and f' {unit}'}, got {value}")


def one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raises a ValueError, which lists the choices, unless the value is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def between(name: str, value: float, low: float, high: float, ends: str = "[]") -> None:
    """Raises a ValueError if the value is outside an interval, or NaN.

    Args:
        high: infinity with `ends` of `[)` or `()` allows every finite value.
        ends: `[` or `]` where the end belongs to the interval, `(` or `)` where it does not.
    """
    above = value >= low if ends[0] == "[" else value > low
    below = value <= high if ends[1] == "]" else value < high
    if above and below:
        return
    if high == math.inf:
        rule = f"be {'at least' if ends[0] == '[' else 'above'} {low} and finite"
    elif ends == "[]":
        rule = f"lie in {low}..{high}"
    else:
        rule = f"lie in {ends[0]}{low}, {high}{ends[1]}"
    raise ValueError(f"{name} must {rule}, got {value}")
