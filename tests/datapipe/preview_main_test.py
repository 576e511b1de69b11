"""The preview as a command: what it writes, prints, warns of and refuses."""

import numpy as np
import pytest
from PIL import Image

from tests import fakes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    counts = {"a": 8, "마스크": 8}
    return fakes.built(tmp_path_factory.mktemp("preview"), counts, ratios={"train": 1})


def preview(opened, *line):
    return fakes.run_module("datapipe.preview_main", f"--records={opened.folder}", *line)


def test_a_preset_that_destroys_the_pictures_is_warned_of(opened, tmp_path):
    path = tmp_path / "preview.png"
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
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width <= 1600
        reds = np.asarray(image)[:140].astype(int)
        assert ((reds[..., 0] - reds[..., 1]) > 120).any()


def test_the_plan_is_explained_without_a_picture(opened):
    done = preview(opened, "--explain_plan", "--target=balanced")
    assert done.returncode == 0, done.stderr
    assert "target balanced: 16 draws an epoch" in done.stdout


def test_wrong_use_is_one_line(opened):
    done = preview(opened, "--variants=10", "--output=a.png")
    assert done.returncode == 2
    assert "--variants must be at most 9, got 10" in done.stderr
    assert "Traceback" not in done.stderr
