"""PNG folders hold the same pixels under names that any file system takes."""

import csv

import numpy as np
import pytest
from PIL import Image

from records.export import export, png_folders
from tests.records import made


def test_folders_hold_the_same_pixels_under_distinct_safe_names(odd, tmp_path):
    export.export(odd, str(tmp_path / "out"), "folders")
    with open(tmp_path / "out" / "index.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len({line["path"] for line in lines}) == len(made.ODD_KEYS)
    line = iter(lines)
    for split in odd.manifest.splits:
        index = odd.index(split)
        for row in range(len(index)):
            found = next(line)
            path = tmp_path / "out" / found["path"]
            assert path.parent.parent.name == split == found["split"]
            assert found["class"] == odd.manifest.class_names[index.label[row]]
            assert found["domain"] == odd.manifest.domains[index.domain[row]]
            assert found["sha256"] == index.source_sha256[row].tobytes().hex()
            np.testing.assert_array_equal(np.asarray(Image.open(path)), odd.pixels(split, row))
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == len(made.ODD_KEYS) + 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a/b.png", "a%2Fb.png"),
        ("쓴 x".encode(), "쓴 x"),
        (b"..", "%2E."),
        (b"", "%"),
        (b"50%\n", "50%25%0A"),
        (b"\xff", "%FF"),
        (b"n" * 255, "n" * 255),
    ],
)
def test_names_are_escaped(name, expected):
    assert png_folders.escaped(name) == expected


def test_long_names_are_cut_between_letters_and_stay_distinct():
    names = [png_folders.escaped(("가" * 100 + tail).encode(), ".png") for tail in "ab"]
    assert len(set(names)) == 2 and all(len(name.encode()) <= 255 for name in names)
    assert all(name.startswith("가가") and name.endswith(".png") for name in names)
