"""Charts as inline SVG: what is drawn lies where the values are, and names are escaped."""

import re

import pytest

from records.common import svg as charts


def heights(svg):
    """Returns the heights of the steps of the outline, from its highest 0 down."""
    return [float(y) for y in re.findall(r"V([\d.]+) h", svg)]


def test_a_histogram_has_a_step_for_each_bin():
    svg = charts.histogram("bright & <b>", [0, 5, 10, 0])
    assert 'aria-label="bright &amp; &lt;b&gt;"' in svg and 'role="img"' in svg
    empty, half, full, last = heights(svg)
    assert empty == last and full < half < empty
    assert half - full == empty - half  # half of the images, half of the height


def test_marks_lie_at_their_share_of_the_width():
    svg = charts.histogram("x", [1] * 10, middle=0.5, others=0.1, dots=[0.0, 1.0])
    width = float(svg.split()[3])
    assert f'class="line line1" x1="{width / 2:.1f}"' in svg
    assert f'class="grid" x1="{width / 10:.1f}"' in svg
    assert re.findall(r'<circle class="dot line1" cx="([\d.]+)"', svg) == ["0.0", f"{width:.1f}"]


def test_a_histogram_of_nothing_is_flat():
    assert len(set(heights(charts.histogram("x", [0, 0, 0])))) == 1
    assert charts.histogram("x", []).endswith("</svg>")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [2.4, 3.6]), (0.012, 0.034, [0.01, 0.035])],
)
def test_ticks_are_round_and_enclose(low, high, ticks):
    found = charts.nice_ticks(low, high)
    assert found[0] == ticks[0] and found[-1] == ticks[-1] and 3 <= len(found) <= 9


def test_charts_leave_out_what_is_not_finite():
    chart = charts.line_chart("Loss & co", [charts.Series("a<b", [1.0, float("nan"), 3.0])])
    assert "Loss &amp; co" in chart and "a&lt;b" in chart and "nan" not in chart
    assert charts.line_chart("Loss", [charts.Series("a", [float("nan")])]) == ""
