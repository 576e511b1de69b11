"""Charts as inline SVG, whose colours follow the style sheet of the page.

Inline SVG follows the light or dark mode of the reader, stays sharp in print and needs no script
and no image file; a chart is a few kilobytes.
"""

import dataclasses
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 34
_SMALL = 150, 30
_STACKED = 450, 90


@dataclasses.dataclass(frozen=True)
class Series:
    """A named line; points that are not finite are not drawn."""

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
        return _x((epoch - 1) / max(epochs - 1, 1))

    def y(value: float) -> float:
        return _y((value - low) / (high - low))

    parts = [_horizontal_line(y(tick), f"{tick:g}") for tick in ticks]
    step = max(1, math.ceil(epochs / 8))
    parts += [_tick_below(x(epoch), str(epoch)) for epoch in range(1, epochs + 1, step)]
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 4, "epoch", "end"))
    for number, line in enumerate(series):
        points = " ".join(
            f"{x(epoch):.1f},{y(value):.1f}"
            for epoch, value in enumerate(line.values, 1)
            if math.isfinite(value)
        )
        legend = _LEFT + 110 * number
        parts += [
            f'<polyline class="line line{number}" points="{points}"/>',
            f'<circle class="dot line{number}" cx="{legend}" cy="{_HEIGHT - 8}" r="4"/>',
            _text(legend + 9, _HEIGHT - 4, line.name),
        ]
    return _svg(title, _WIDTH, _HEIGHT, parts)


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Returns an SVG of accuracy over confidence: points with 95 % intervals, and the diagonal.

    Args:
        bins: each with `confidence`, `accuracy`, `interval` and `count`; empty ones are not drawn.
    """
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts += [_horizontal_line(_y(tick), f"{tick:g}"), _tick_below(_x(tick), f"{tick:g}")]
    parts.append(f'<line class="grid" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    for one in bins:
        if one["count"]:
            (low, high), x = one["interval"], _x(one["confidence"])
            parts += [
                f'<line class="line line0" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(low):.1f}"'
                f' y2="{_y(high):.1f}"/>',
                f'<circle class="dot line0" cx="{x:.1f}" cy="{_y(one["accuracy"]):.1f}" r="4">'
                f"<title>{one['count']:,} images</title></circle>",
            ]
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 4, "confidence", "end"))
    return _svg("Reliability", _WIDTH, _HEIGHT, parts)


def histogram(
    title: str,
    counts: Sequence[float],
    *,
    middle: float | None = None,
    others: float | None = None,
    dots: Sequence[float] = (),
) -> str:
    """Returns a small SVG of a distribution without axes, for a table cell.

    Args:
        title: the text alternative.
        counts: of equal bins from left to right.
        middle: position of a line that marks the median, 0..1 of the width.
        others: position of a fainter line to compare it with, 0..1.
        dots: positions of single values, 0..1.
    """
    width, height = _SMALL
    highest = max(counts, default=0) or 1
    steps = [(height - 2) * (1 - count / highest) + 1 for count in counts]
    across = width / max(len(steps), 1)
    outline = " ".join(f"V{step:.1f} h{across:.2f}" for step in steps)
    parts = [
        f'<path class="dot line0" d="M0,{height - 1} {outline} V{height - 1} Z"/>',
        f'<line class="grid" x1="0" x2="{width}" {_at_y(height - 0.5)}/>',
    ]
    for position, style in ((others, "grid"), (middle, "line line1")):
        if position is not None:
            x = f"{position * width:.1f}"
            parts.append(f'<line class="{style}" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
    parts += [
        f'<circle class="dot line1" cx="{position * width:.1f}" cy="{height - 3}" r="2.2"/>'
        for position in dots
    ]
    return _svg(title, width, height, parts)


def stacked_histogram(title: str, counts: Sequence[Sequence[int]], label: str) -> str:
    """Returns an SVG of two distributions, one stacked on the other.

    Args:
        title: the text alternative.
        counts: of the lower and of the upper one, in equal bins from left to right.
        label: for the right end of the axis; the left end is 0.
    """
    width, height = _STACKED
    bar = width // len(counts[0])
    scale = height / max(1, *map(sum, zip(*counts, strict=True)))
    parts = []
    for place, (lower, upper) in enumerate(zip(*counts, strict=True)):
        for number, count, below in ((0, lower, 0), (1, upper, lower)):
            if count:
                top = height - (count + below) * scale
                parts.append(
                    f'<rect class="dot line{number}" x="{place * bar}" y="{top:.1f}"'
                    f' width="{bar - 1}" height="{count * scale:.1f}"/>'
                )
    parts += [_text(0, height + 13, "0"), _text(width, height + 13, label, "end")]
    return _svg(title, width, height + 16, parts)


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


def _at_y(value: float) -> str:
    return f'y1="{value:.1f}" y2="{value:.1f}"'


# --- parts; shares of the plot area are 0..1, left to right and bottom to top ---


def _x(share: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _y(share: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)


def _svg(title: str, width: int, height: int, parts: Iterable[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">'
    return "".join([head, *parts, "</svg>"])


def _text(x: float, y: float, text: str, anchor: str = "") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}"' + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text class="tick" {where}>{html.escape(text)}</text>'


def _tick_below(x: float, text: str) -> str:
    return _text(x, _HEIGHT - _BOTTOM + 16, text, "middle")


def _horizontal_line(y: float, text: str) -> str:
    line = f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {_at_y(y)}/>'
    return line + _text(_LEFT - 6, y + 4, text, "end")
