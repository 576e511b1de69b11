"""Suspected label errors: the list, the corrections and the page hold the same images."""

import csv

import pytest

from models.multirun import label_review
from tests import fakes


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"dark": 20, "light": 20})


def issue(records, row):
    key = records.index("train").key(row)
    evidence = {"probability_of_label": 0.2, "probability_of_predicted": 0.8}
    return {"key": key, "label": "dark", "predicted": "light <b>", **evidence}


def test_corrections_assign_the_predicted_class(records, tmp_path):
    issues = [issue(records, 3), issue(records, 1)]
    listed, overrides, page = label_review.write(issues, records, "train", str(tmp_path))
    with open(listed, encoding="utf-8", newline="") as file:
        assert [line["key"] for line in csv.DictReader(file)] == [each["key"] for each in issues]
    with open(overrides, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["path"], line["label"]) for line in lines] == [
        (each["key"], "light <b>") for each in issues
    ]
    with open(page, encoding="utf-8") as file:
        text = file.read()
    assert "2 of 24 labels may be wrong" in text and "light &lt;b&gt;" in text
    assert text.count('src="data:image/png') == 2


def test_a_page_without_issues_says_so(records, tmp_path):
    *_, page = label_review.write([], records, "train", str(tmp_path))
    with open(page, encoding="utf-8") as file:
        assert "0 of 24 labels may be wrong" in file.read()
