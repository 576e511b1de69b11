"""The binary on made-up runs, in one process of its own: it defines flags."""

import json
import os
import re

import numpy as np
import pytest

from models.metrics.table import Table
from models.reporting import predictions
from tests import fakes

# Each case prints one line of JSON: what was said, or the error.
SCRIPT = """
import contextlib, io, json, sys
from absl import flags
from models import compare_main
from models.multirun import comparison
from records.common import cli

for arguments in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS.get_key_flags_for_module(compare_main.__name__):
        flag.unparse()
    said = io.StringIO()
    try:
        rest = flags.FLAGS(["compare_main", *arguments])
        with contextlib.redirect_stdout(said):
            compare_main.main(rest[1:])
        found = {"said": said.getvalue()}
    except (cli.UsageError, comparison.ComparisonError, flags.Error) as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    print("CASE " + json.dumps(found))
"""

RUNS = [
    ["--runs=plain,good/", "--split=test"],
    ["--runs=plain,seeds", "--metric=accuracy", "--output=out"],
    ["--runs=folds,other/folds"],
]
WRONG = [
    ([], "UsageError: --runs must name at least 2 different folders, got ''"),
    (["--runs=plain"], "UsageError: --runs must name at least 2 different folders, got 'plain'"),
    (["--runs=plain,./plain"], "at least 2 different folders, got 'plain,./plain'"),
    (["--runs=plain,gone"], "UsageError: --runs must be an existing folder, got 'gone'"),
    (["--runs=plain,good", "more"], "only flags are understood, got 'more'"),
    (["--runs=plain,good", "--metric=f1"], "flag --metric=f1: value should be one of"),
    (
        ["--runs=plain,good", "--split=validation"],
        "plain --split=validation writes it",
    ),
    (["--runs=plain,begun"], "begun/predictions-test.csv is missing: the run is not finished"),
]


def run(folder, accuracy, *, seed=0, split="test"):
    """Makes the folder of a run that is right so often."""
    rng, labels = np.random.default_rng([1, seed]), np.arange(400) % 2
    wrong = rng.random(400) > accuracy
    sure = np.eye(2, dtype=np.float32)[labels ^ wrong]
    keys = tuple(map(str, range(400)))
    folder.mkdir(parents=True)
    name = predictions.path(str(folder), split)
    predictions.write(Table(keys, ("",) * 400, np.arange(400), labels, sure), ("a", "b"), name)
    return fakes.tree(folder, {"run.json": b"{}"} if split == "test" else {"fold-00/a": b""})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    run(root / "plain", 0.7)
    run(root / "good", 0.9, seed=1)
    for seed in range(3):
        run(root / f"seeds/seed-{seed}", 0.9, seed=2 + seed)
    run(root / "folds", 0.8, seed=5, split="pooled")
    run(root / "other/folds", 0.8, seed=6, split="pooled")
    (root / "begun").mkdir()
    return root


@pytest.fixture(scope="module")
def found(folder):
    return fakes.cases(SCRIPT, [*RUNS, *(case for case, _ in WRONG)], cwd=folder)


def written(path):
    return json.loads(path.read_text("utf-8"))


@pytest.mark.slow
def test_runs_are_told_by_the_names_of_their_folders(found, folder):
    said = found[0]["said"].splitlines()
    assert said[0] == "test: 400 images that all runs predicted"
    assert [line.split()[0] for line in said[1:4]] == ["variation", "plain", "good"]
    assert said[7].startswith("good") and said[7].endswith(" better")
    assert said[-2] == str(folder / "plain/comparison-test.json")
    assert said[-1] == str(folder / "plain/comparison-test.html")
    first = written(folder / "plain/comparison-test.json")["lines"][0]
    assert (first["name"], first["folders"]) == ("plain", [str(folder / "plain")])


def test_a_folder_of_seeds_is_one_variation(found, folder):
    said = written(folder / "out/comparison-test.json")
    names = [os.path.basename(path) for path in said["lines"][1]["folders"]]
    assert names == ["seed-0", "seed-1", "seed-2"] and said["metric"] == "accuracy"
    assert said["lines"][1]["difference"]["pairs"] == 1
    assert found[1]["said"].splitlines()[3].split()[:2] == ["seeds", "3"]


def test_cross_validations_are_compared_by_what_they_pooled(found, folder):
    said = written(folder / "folds/comparison-pooled.json")
    assert said["split"] == "pooled"
    assert [line["name"] for line in said["lines"]] == [
        str(folder / "folds"),
        str(folder / "other/folds"),
    ]
    assert "no significant difference" in found[2]["said"]


@pytest.mark.parametrize(("number", "message"), [(k, m) for k, (_, m) in enumerate(WRONG)])
def test_what_cannot_be_compared_is_refused(found, number, message):
    assert message in found[len(RUNS) + number]["error"]


def test_a_page_shows_what_differs(found, folder):
    page = (folder / "plain/comparison-test.html").read_text("utf-8")
    assert "good and the baseline classify differently" in page
    assert "only the baseline is correct" in page
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
