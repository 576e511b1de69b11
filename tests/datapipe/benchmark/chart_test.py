import io

import pytest
from PIL import Image

from datapipe.benchmark import chart
from datapipe.benchmark.scaling import Point
from datapipe.profile.timing import Row


def row(task, system="datapipe", unit="images_per_second", median=100.0):
    return Row(task, system, unit, median, median / 2, median * 2, 3, 1.5, "base")


def opened(png):
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG" and len(image.getcolors(1 << 20)) > 10  # something is drawn
    return image


@pytest.mark.parametrize(
    ("heights", "columns"),
    [
        ([3], [[3]]),
        ([3, 3], [[3], [3]]),
        ([7, 3, 5, 3, 3, 5, 5], [[7, 3, 5], [3, 3, 5, 5]]),
        ([1, 1, 9], [[1, 1], [9]]),
    ],
)
def test_panels_stand_in_two_columns_of_about_one_height(heights, columns):
    rows = [row(f"T{number}") for number, count in enumerate(heights) for _ in range(count)]
    assert [[len(panel) for panel in column] for column in chart._columns(rows)] == columns


def test_bars_are_drawn_for_every_unit():
    pytest.importorskip("matplotlib")
    units = ("images_per_second", "seconds", "mebibytes")
    rows = [row(unit, system, unit) for unit in units for system in ("datapipe", "other")]
    one = opened(chart.bars(rows[:2], {units[0]: "about"}, "title"))
    three = opened(chart.bars(rows, dict.fromkeys(units, "about"), "title"))
    assert three.width > 1.5 * one.width and three.height > one.height


def test_curves_are_drawn_with_and_without_all_points():
    pytest.importorskip("matplotlib")
    points = [Point("rows", 10, 8), Point("rows", 100, 8), Point("image_size", 10, 16)]
    rows = [(point, row(task)) for task in ("READ", "TRAIN_FEED") for point in points]
    both = opened(chart.curves(rows, "title"))
    one = opened(chart.curves(rows[:2], "title"))
    assert both.height > one.height


@pytest.mark.parametrize(
    ("point", "cost"), [(Point("rows", 10, 8), 0.5), (Point("image_size", 10, 10), 5.0)]
)
def test_a_cost_is_that_of_an_image_or_a_pixel(point, cost):
    assert chart._cost(point, 2e6) == pytest.approx(cost)
