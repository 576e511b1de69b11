"""Charts as inline SVG: no script, no picture file, colours from the page's style sheet."""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 34
_SMALL = 150, 30


@dataclasses.dataclass(frozen=True)
class Series:
    """A named line; points that are not finite are left out."""

    name: str
    values: Sequence[float]


def line_chart(title: str, series: Sequence[Series]) -> str:
    """Returns an SVG of values over epochs 1, 2, ..., with ticks, grid and legend."""
    finite = [value for line in series for value in line.values if math.isfinite(value)]
    if not finite:
        return ""
    ticks = nice_ticks(min(finite), max(finite))
    epochs = max(len(line.values) for line in series)
    low, high = ticks[0], ticks[-1]

    def x(epoch: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((epoch - 1) / max(epochs - 1, 1))

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {_at_y(y(tick))}/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">'
            f"{tick:g}</text>"
        )
    for epoch in _epoch_ticks(epochs):
        parts.append(
            f'<text class="tick" x="{x(epoch):.1f}" y="{_HEIGHT - _BOTTOM + 16}"'
            f' text-anchor="middle">{epoch}</text>'
        )
    parts.append(
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">epoch</text>'
    )
    for number, line in enumerate(series):
        points = " ".join(
            f"{x(epoch):.1f},{y(value):.1f}"
            for epoch, value in enumerate(line.values, 1)
            if math.isfinite(value)
        )
        parts.append(f'<polyline class="line line{number}" points="{points}"/>')
        at = _LEFT + 110 * number
        parts.append(f'<circle class="dot line{number}" cx="{at}" cy="{_HEIGHT - 8}" r="4"/>')
        parts.append(
            f'<text class="tick" x="{at + 9}" y="{_HEIGHT - 4}">{html.escape(line.name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Returns an SVG of accuracy over confidence: points with 95 % intervals beside the diagonal.

    Args:
        bins: each with `confidence`, `accuracy`, `interval` and `count`; empty ones are left out.
    """
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + width * value

    def y(value: float) -> float:
        return _TOP + height * (1 - value)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Reliability">']
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts += [
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {_at_y(y(tick))}/>',
            f'<text class="tick" x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">'
            f"{tick:g}</text>",
            f'<text class="tick" x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}"'
            f' text-anchor="middle">{tick:g}</text>',
        ]
    parts.append(f'<line class="grid" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    for each in bins:
        if each["count"]:
            (low, high), at = each["interval"], x(each["confidence"])
            parts += [
                f'<line class="line line0" x1="{at:.1f}" x2="{at:.1f}" y1="{y(low):.1f}"'
                f' y2="{y(high):.1f}"/>',
                f'<circle class="dot line0" cx="{at:.1f}" cy="{y(each["accuracy"]):.1f}" r="4">'
                f"<title>{each['count']:,} images</title></circle>",
            ]
    parts.append(
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">confidence'
        "</text>"
    )
    return "".join([*parts, "</svg>"])


def histogram(
    title: str,
    counts: Sequence[float],
    *,
    middle: float | None = None,
    others: float | None = None,
    dots: Sequence[float] = (),
) -> str:
    """Returns a small SVG of a distribution without axes, to stand in a table.

    Args:
        title: what it shows, for those who cannot see it.
        counts: of even bins from left to right.
        middle: where a line marks the median, as a share of the width.
        others: where a fainter line marks what to compare it with.
        dots: where single values lie that are to be seen.
    """
    width, height = _SMALL
    highest = max(counts, default=0) or 1
    steps = [(height - 2) * (1 - count / highest) + 1 for count in counts]
    across = width / max(len(steps), 1)
    outline = " ".join(f"V{step:.1f} h{across:.2f}" for step in steps)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">',
        f'<path class="dot line0" d="M0,{height - 1} {outline} V{height - 1} Z"/>',
        f'<line class="grid" x1="0" x2="{width}" {_at_y(height - 0.5)}/>',
    ]
    for place, style in ((others, "grid"), (middle, "line line1")):
        if place is not None:
            at = f"{place * width:.1f}"
            parts.append(f'<line class="{style}" x1="{at}" x2="{at}" y1="0" y2="{height}"/>')
    parts += [
        f'<circle class="dot line1" cx="{place * width:.1f}" cy="{height - 3}" r="2.2"/>'
        for place in dots
    ]
    return "".join([*parts, "</svg>"])


def nice_ticks(low: float, high: float) -> list[float]:
    """Returns four to eight round, evenly spaced numbers that enclose low..high."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = min(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _epoch_ticks(epochs: int) -> list[int]:
    step = max(1, math.ceil(epochs / 8))
    return list(range(1, epochs + 1, step))


def _at_y(value: float) -> str:
    return f'y1="{value:.1f}" y2="{value:.1f}"'
