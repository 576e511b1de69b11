"""The preview as a command: what it writes, prints, warns of and refuses."""

import pytest
from PIL import Image

from tests import fakes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    counts = {"a": 8, "마스크": 8}
    return fakes.built(tmp_path_factory.mktemp("preview"), counts, ratios={"train": 1})


def preview(opened, *line):
    return fakes.run_module("datapipe.preview_main", f"--records={opened.folder}", *line)


@pytest.mark.slow
def test_a_preset_that_destroys_the_pictures_is_warned_of(opened, tmp_path):
    path = tmp_path / "preview.html"
    line = ("--augment=extreme", "--originals=2", "--variants=1", f"--output={path}")
    done = preview(opened, *line)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [said[0].split(), said[1].split()[1], said[2].split()[1]] == [
        ["original", "class", "row", "variants"],
        "a",
        "마스크",
    ]
    assert said[3].startswith("visible share of a picture after moving: median 4")
    assert said[4].startswith("warning: half of the pictures show less than 4")
    assert said[5:] == [str(path)]
    found = path.read_text("utf-8")
    assert found.count("data:image/png") == 4 and "augment extreme; target natural" in found
    assert "half of the pictures show less than 4" in found and "마스크, row" in found


@pytest.mark.slow
def test_a_png_holds_the_pictures_alone(opened, tmp_path):
    path = tmp_path / "preview.png"
    done = preview(opened, "--originals=2", "--variants=3", f"--output={path}")
    assert done.returncode == 0, done.stderr
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (4 * 130 + 2, 2 * 132)


@pytest.mark.slow
def test_the_plan_is_explained_without_a_picture(opened):
    done = preview(opened, "--explain_plan", "--target=balanced")
    assert done.returncode == 0, done.stderr
    assert "target balanced: 16 draws an epoch" in done.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("--variants=10", "--output=a.html"), "--variants must be at most 9, got 10"),
        (("--output=a.jpg",), "--output must end in .html or .png, got 'a.jpg'"),
    ],
)
def test_wrong_use_is_one_line(opened, line, message):
    done = preview(opened, *line)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
