"""The charts of the benchmark, as PNG: bars for the tasks, lines for the curves. By matplotlib."""

import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from datapipe.benchmark.scaling import Point
from datapipe.benchmark.systems import OURS
from datapipe.profile.timing import UNITS, Row

_OUR_COLOUR, _GREY, _INK, _FAINT = "#0b6e99", "#c3c8ce", "#22272e", "#6b7480"

# Inches: a panel, the names in it, one bar, the words above the bars; around the panels.
_PANEL, _NAMES, _BAR, _HEAD, _GAP = 6.75, 2.35, 0.28, 0.55, 0.3
_TITLE, _MARGIN = 0.6, 0.25


def bars(rows: Sequence[Row], about: Mapping[str, str], title: str) -> bytes:
    """Returns a chart with a panel for each task and a bar for each system.

    Args:
        rows: of all tasks, at least one.
        about: for each task what it is.
    """
    columns = _columns(rows)
    width, height = len(columns) * _PANEL + _MARGIN, max(map(_height, columns)) + _TITLE
    figure = _figure(width, height, title)
    for number, column in enumerate(columns):
        left, bottom = number * _PANEL + _NAMES, height - _TITLE
        for panel in column:
            tall = _BAR * len(panel)
            bottom -= _HEAD + tall
            box = (left / width, bottom / height, (_PANEL - _NAMES) / width, tall / height)
            _draw_bars(figure.add_axes(box), panel, about[panel[0].task])
            bottom -= _GAP
    return _png(figure)


def _columns(rows: Sequence[Row]) -> list[list[list[Row]]]:
    """Returns the rows of each panel, the panels in one or two columns of about one height."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    panels = [[row for row in rows if row.task == task] for task in tasks]
    halves = [[panels[:cut], panels[cut:]] for cut in range(1, len(panels))]
    return min(halves, key=lambda both: max(map(_height, both)), default=[panels])


def _height(column: Sequence[Sequence[Row]]) -> float:
    return sum(_HEAD + _BAR * len(panel) + _GAP for panel in column)


def _draw_bars(axes: Any, panel: Sequence[Row], about: str) -> None:
    unit, base = UNITS[panel[0].unit], panel[0].base
    panel = sorted(panel, key=lambda row: row.median, reverse=unit.better == "more")
    places, most = range(len(panel)), max(row.highest for row in panel)
    colours = [_OUR_COLOUR if _is_ours(row) else _GREY for row in panel]
    axes.barh(places, [row.median for row in panel], 0.7, color=colours)
    for place, row in zip(places, panel, strict=True):
        axes.plot([row.lowest, row.highest], [place, place], color=_INK, linewidth=0.8)
        text = f"{row.ratio:.2f} ×   {unit.shown(row.median)}"
        at = row.highest + most / 60
        axes.text(at, place, text, va="center", color=_INK, weight=_weight(row))
    axes.set_xlim(0, 1.5 * most)
    axes.set_ylim(len(panel) - 0.5, -0.5)
    axes.set_yticks(places, [row.system for row in panel])
    for label, row in zip(axes.get_yticklabels(), panel, strict=True):
        label.set_weight(_weight(row))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    below = f"times {base}; {unit.name}, {unit.better} is better"
    _head(axes, f"{panel[0].task}: {about}", below, left=_MARGIN - _NAMES)


def _is_ours(row: Row) -> bool:
    return row.system.startswith(OURS)


def _weight(row: Row) -> str:
    return "bold" if _is_ours(row) else "normal"


def curves(rows: Sequence[tuple[Point, Row]], title: str) -> bytes:
    """Returns a chart of what an image costs, a line of panels for each task.

    The left panel goes along the number of rows, in microseconds an image; the right one along the
    size of an image, in nanoseconds a pixel. Where a line is level, only the pixels cost.

    Args:
        rows: of all tasks and points, at least one.
    """
    tasks = list(dict.fromkeys(row.task for _, row in rows))
    height = 3.3 * len(tasks) + _TITLE
    figure = _figure(11, height, title)
    panels = figure.subplots(len(tasks), 2, squeeze=False)
    figure.subplots_adjust(0.06, 0.6 / height, 0.98, 1 - 1.05 / height, wspace=0.16, hspace=0.55)
    for line, task in zip(panels, tasks, strict=True):
        for axes, curve in zip(line, ("rows", "image_size"), strict=True):
            of_panel = [(p, row) for p, row in rows if (p.curve, row.task) == (curve, task)]
            if of_panel:
                _draw_lines(axes, of_panel)
                _head(axes, task, _COSTS[curve])
            else:
                axes.set_visible(False)
    return _png(figure)


_COSTS = {
    "rows": "microseconds an image, less is better",
    "image_size": "nanoseconds a pixel, less is better",
}


def _draw_lines(axes: Any, rows: Sequence[tuple[Point, Row]]) -> None:
    for system in dict.fromkeys(row.system for _, row in rows):
        points = [(point, row) for point, row in rows if row.system == system]
        places = [_place(point) for point, _ in points]
        median, least, most = (
            [_cost(point, getattr(row, rate)) for point, row in points]
            for rate in ("median", "highest", "lowest")
        )
        colour = _OUR_COLOUR if system == OURS else _FAINT
        axes.fill_between(places, least, most, color=colour, alpha=0.15, linewidth=0)
        axes.plot(places, median, color=colour, marker="o", markersize=4, label=system)
    axes.set_xscale("log")
    ticks = sorted({_place(point) for point, _ in rows})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(_along(rows[0][0]), color=_FAINT)
    axes.grid(axis="y", color=_GREY, linewidth=0.5)
    axes.tick_params(length=0, labelcolor=_FAINT)
    axes.spines[["top", "left", "right"]].set_visible(False)
    # Above the panel, where no line can run through it.
    look = {"frameon": False, "labelcolor": _INK, "fontsize": 9, "handlelength": 1.5}
    axes.legend(loc="lower right", bbox_to_anchor=(1.02, 1.07), ncols=2, **look)


def _place(point: Point) -> int:
    return point.num_rows if point.curve == "rows" else point.image_size


def _along(point: Point) -> str:
    if point.curve == "rows":
        return f"rows of {point.image_size}x{point.image_size} pixels"
    return f"pixels high and wide, {point.num_bytes / 1e6:,.0f} MB of rows at each size"


def _cost(point: Point, rate: float) -> float:
    """Returns what an image, or a pixel of it, costs where so many images come in a second."""
    return 1e6 / rate if point.curve == "rows" else 1e9 / (rate * point.image_size**2)


def _figure(width: float, height: float, title: str) -> Any:
    # Not by pyplot, which keeps every figure and looks for a screen.
    figure = importlib.import_module("matplotlib.figure").Figure((width, height), dpi=130)
    figure.text(
        *(_MARGIN / width, 1 - 0.35 / height, title),
        **{"color": _INK, "size": 13, "weight": "bold", "va": "center"},
    )
    return figure


def _head(axes: Any, name: str, below: str, left: float = 0.0) -> None:
    """Writes two lines above the panel, the second in a fainter ink, from `left` inches on."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    for text, points, look in (
        (name, 20, {"color": _INK, "weight": "bold"}),
        (below, 6, {"color": _FAINT, "size": 9}),
    ):
        axes.annotate(text, (0, 1), (72 * left, points), **place, **look)


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
