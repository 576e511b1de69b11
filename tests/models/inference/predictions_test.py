"""Predictions of files as text, CSV and JSON."""

import csv
import json
import os
import tracemalloc

import numpy as np
import pytest

from models.inference import predictions
from models.inference.inputs import InputFile
from models.inference.predictions import Line

NAMES = ("고양이", "dog, big", "\udcff")
LINES = [
    Line(InputFile("사진", "a/1.png"), np.array([0.1, 0.7, 0.2], np.float32)),
    Line(InputFile("사진", "a/\udcfe\n2.png"), None, "truncated: 7 bytes"),
    Line(InputFile("", "3.png"), np.array([1 / 3, 1 / 3, 1 / 3], np.float32)),
    Line(InputFile("x.zip", "4.png"), np.array([0, 1e-9, 1], np.float32)),
]


def test_the_screen_shows_the_first_and_counts_all():
    table, more, classes = predictions.screen(LINES, NAMES, shown=2)
    first, second = [line.split() for line in table.splitlines()[1:]]
    assert first == ["사진/a/1.png", "dog,", "big", "0.7000", "\\udcff", "0.2000"]
    assert second == ["3.png", "고양이", "0.3333", "dog,", "big", "0.3333"]  # of equals the first
    assert more == "and 1 more"
    assert classes == "files by class: 고양이 1, dog, big 1, \\udcff 1"


def test_nothing_read_is_nothing_to_show():
    assert predictions.screen(LINES[1:2], NAMES) == []


def test_one_class_has_no_runner_up():
    (table, _) = predictions.screen(
        [Line(InputFile("", "1.png"), np.ones(1, np.float32))], ("only",)
    )
    assert table.splitlines()[1].split() == ["1.png", "only", "1.0000", "-"]


def test_csv_has_a_line_for_each_file_and_every_bit(tmp_path):
    path = str(tmp_path / "예측.CSV")
    predictions.write(LINES, NAMES, path, {})
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["source", "key", "predicted", "error", *(f"p:{name}" for name in NAMES)]
    assert [tuple(row[:4]) for row in rows] == [
        ("사진", "a/1.png", "dog, big", ""),
        ("사진", "a/\udcfe\n2.png", "", "truncated: 7 bytes"),
        ("", "3.png", "고양이", ""),
        ("x.zip", "4.png", "\udcff", ""),
    ]
    assert rows[1][4:] == ["", "", ""]
    for line, row in zip(LINES, rows, strict=True):
        if line.probabilities is not None:
            assert np.array_equal(np.array(row[4:], np.float32), line.probabilities)


def test_json_says_the_same(tmp_path):
    path = str(tmp_path / "x.json")
    predictions.write(LINES, NAMES, path, {"run": "r"})
    said = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert (said["run"], said["class_names"]) == ("r", list(NAMES))
    assert said["files"][1] == {
        "source": "사진",
        "key": "a/\udcfe\n2.png",
        "error": "truncated: 7 bytes",
    }
    assert said["files"][3]["predicted"] == "\udcff"
    assert np.array_equal(
        np.array(said["files"][3]["probabilities"], np.float32), LINES[3].probabilities
    )


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_the_same_lines_give_the_same_bytes(tmp_path, name):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        predictions.write(LINES, NAMES, str(tmp_path / folder / name), {})
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_writing_takes_the_memory_of_a_line_and_not_of_all(tmp_path, name):
    classes = [f"c{number}" for number in range(200)]
    values = np.random.default_rng(1).random((500, 200), np.float32)
    lines = [Line(InputFile("", f"{n}.png"), row) for n, row in enumerate(values)]
    path = str(tmp_path / name)
    tracemalloc.start()
    try:
        predictions.write(lines, classes, path, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < os.path.getsize(path) / 4


@pytest.mark.parametrize("lines", [[], LINES[:1]], ids=len)
def test_json_of_few_files(tmp_path, lines):
    predictions.write(lines, NAMES, str(tmp_path / "x.json"), {})
    said = json.loads((tmp_path / "x.json").read_text("utf-8"))
    assert [line["key"] for line in said["files"]] == [line.file.key for line in lines]
