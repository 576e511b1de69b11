"""A comparison as text: its tables, and what is said of images, groups and verdicts."""

import pytest

from models.multirun import comparison, page
from tests.models.multirun.comparison_test import labels_of, planted, write


def text_of(tmp_path, accuracies, **options):
    return page.text(comparison.compare(planted(tmp_path, accuracies, **options), "test"))


def test_tables_have_a_line_for_each_variation(tmp_path):
    lines = text_of(tmp_path, {"base": 0.7, "good": 0.9}, seeds=3).splitlines()
    assert lines[1].split()[:4] == ["variation", "runs", "accuracy", "by"]
    assert lines[3].split()[:2] == ["good", "3"]
    assert [line.split()[1] for line in lines if line.startswith("base ")] == ["3", "baseline"]
    assert any(line.startswith("good") and line.endswith("better") for line in lines)


def test_equal_variations_have_no_significant_difference(tmp_path):
    text = text_of(tmp_path, {"base": 0.8, "same": 0.8})
    assert "within noise" not in text
    assert any(line.endswith(" no significant difference") for line in text.splitlines())


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (None, "exchanged image by image, 60 images"),
        (3, "exchanged group by group, 3 groups"),
    ],
)
def test_it_says_what_was_exchanged(tmp_path, groups, said):
    assert said in text_of(tmp_path, {"x": 0.7, "y": 0.8}, images=60, groups=groups)


def test_images_of_one_run_alone_are_said_to_be_excluded(tmp_path):
    labels, keys = labels_of(50), [f"{number}.png" for number in range(50)]
    write(tmp_path / "x", labels, labels, keys=keys)
    write(tmp_path / "y", labels[10:], labels[10:], keys=keys[10:])
    found = [comparison.variation(str(tmp_path / name), "test") for name in "xy"]
    text = page.text(comparison.compare(found, "test"))
    assert "40 images that all runs predicted (excluding up to 10 of a run" in text


def test_pictures_are_missing_where_no_records_hold_the_images(tmp_path):
    compared = comparison.compare(planted(tmp_path, {"x": 0.5, "y": 0.9}, images=20), "test")
    with open(page.write(compared, str(tmp_path)), encoding="utf-8") as file:
        text = file.read()
    assert "Images that y and the baseline classify differently" in text and "<img" not in text
