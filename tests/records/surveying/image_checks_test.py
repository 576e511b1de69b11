"""Outlying classes and images, single colours and odd sizes are found; a clean set has none."""

import numpy as np

from tests import fakes
from tests.records.surveying import made


def test_a_clean_set_has_no_finding(tmp_path):
    assert made.surveyed(tmp_path, made.clean()) == {}


def test_twenty_equal_classes_have_no_finding(tmp_path):
    assert made.surveyed(tmp_path, made.clean({f"{at:02d}": 25 for at in range(20)})) == {}


def test_a_bright_class_is_named(tmp_path):
    files = made.clean()
    bright = {f"밝은/{seed}.png": made.shifted(seed, 120) for seed in range(500, 530)}
    found = made.surveyed(tmp_path, {**files, **bright})
    finding = found["odd_brightness"]
    assert made.names(finding) == ["밝은"]
    assert finding.what.startswith("1 class is an outlier in brightness: 밝은 (median 1")
    assert "--brightness_range" in finding.advice


def test_an_outlier_is_named_with_its_distance(tmp_path):
    files = {f"a/{seed:03d}.png": made.shifted(seed, 20) for seed in range(80)}
    files |= {f"b/{seed:03d}.png": made.shifted(seed, 20) for seed in range(100, 180)}
    files["b/달.png"] = made.shifted(999, 200)
    (finding,) = made.surveyed(tmp_path, files).values()
    assert finding.kind == "outlier" and made.names(finding) == ["b/달.png"]
    assert "brightness 2" in finding.items[0].detail and "robust z +" in finding.items[0].detail
    assert finding.items[0].rows == (160,)


def test_a_class_of_two_kinds_is_said_once_instead_of_many_outliers(tmp_path):
    grey = {
        f"a/{seed:03d}.png": fakes.encoded(fakes.pixels(seed)[..., :1].repeat(3, 2))
        for seed in range(50)
    }
    coloured = {f"a/x{seed}.png": fakes.encoded(fakes.pixels(seed)) for seed in range(200, 216)}
    found = made.surveyed(tmp_path, {**grey, **coloured, **made.clean({"b": 60})})
    assert "outlier" not in found
    assert "24% of its images are outliers in colourfulness" in found["mixed_class"].what


def test_images_of_one_colour_are_named(tmp_path):
    blank = np.full((24, 24, 3), 250, np.uint8)
    blank[0, 0] = 240
    found = made.surveyed(tmp_path, {**made.clean(), "soft/빈.png": fakes.encoded(blank)})
    assert made.names(found["uniform"]) == ["soft/빈.png"]
    assert found["uniform"].items[0].detail == "contrast 0.3"


def test_tiny_and_long_images_are_named_with_their_size(tmp_path):
    files = made.clean()
    files["edgy/tiny.png"] = fakes.encoded(fakes.pixels(500, 7))
    files["edgy/wide.png"] = fakes.encoded(fakes.pixels(501, 80)[:20])
    files["edgy/just.png"] = fakes.encoded(fakes.pixels(502, 60)[:, :20])
    found = made.surveyed(tmp_path, files)
    assert {kind: [(i.name, i.detail) for i in f.items] for kind, f in found.items()} == {
        "tiny": [("edgy/tiny.png", "7x7")],
        "long": [("edgy/wide.png", "80x20")],
    }
