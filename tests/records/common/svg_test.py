"""Charts as inline SVG: what is drawn lies where the values are, and names are escaped."""

import re

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
