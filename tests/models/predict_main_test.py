"""A source file gets what its row got in evaluation, to the bit; trained once, in a fold."""

import csv
import dataclasses
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from models import experiment, run_folder
from models.inference import preprocess
from records.builder import build
from records.format import record_set
from records.image import decode
from records.source import listing as sources
from tests import fakes

pytestmark = pytest.mark.slow

# Each case prints one line of JSON: the exit code and what was said, or the error.
SCRIPT = """
import contextlib, io, json, sys
from absl import flags
from models import predict_main
from records.common import cli

for arguments in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS.get_key_flags_for_module(predict_main.__name__):
        flag.unparse()
    out, err = io.StringIO(), io.StringIO()
    try:
        rest = flags.FLAGS(["predict_main", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = predict_main.main(rest[1:])
        found = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    except (ValueError, RuntimeError, flags.Error) as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    print("CASE " + json.dumps(found))
"""

CASES = {
    "raw": ["--run_dir=raw", "--output=raw.csv", "source"],
    "png": ["--run_dir=png", "--output=png.csv", "source"],
    "jpeg": ["--run_dir=jpeg", "--output=jpeg.csv", "source"],
    "zip": ["--run_dir=raw", "--output=zip.json", "source.zip"],
    "two": ["--run_dir=raw", "--output=two.csv", "source/밝음/000.png", "source/밝음/\udcff.jpg"],
    "one": ["--run_dir=raw", "--output=one.csv", "source/밝음/000.png"],
    "alone": ["--run_dir=alone", "--output=alone.csv", "source"],
    "older": ["--run_dir=older", "--output=older.csv", "source"],
    "broken": ["--run_dir=raw", "--output=broken.json", "broken", "source/밝음/000.png"],
    "all broken": ["--run_dir=raw", "broken/가.jpg"],
    "seen": ["--run_dir=raw", "--grad_cam=seen", "source/밝음", "broken"],
    "dark": ["--run_dir=raw", "--grad_cam=dark", "--grad_cam_class=어두움", "source/밝음"],
}
WRONG = [
    ([], "UsageError: --run_dir must be given"),
    (["--run_dir=raw"], "UsageError: name the files, folders or archives to predict"),
    (["--run_dir=gone", "source"], "UsageError: --run_dir must be an existing folder, got 'gone'"),
    (
        ["--run_dir=raw", "source", "nowhere"],
        "the file, folder or archive 'nowhere' does not exist",
    ),
    (["--run_dir=raw", "--output=x.txt", "source"], "--output must end in .csv or .json"),
    (["--run_dir=raw", "--output=gone/x.csv", "source"], "must be in an existing folder"),
    (
        ["--run_dir=raw", "--output=there.csv", "source"],
        "OutputError: .*there.csv exists already; choose another",
    ),
    (["--run_dir=raw", "--output=full.csv", "source"], "OutputError: .*full.csv exists and is no"),
    (["--run_dir=raw", "--batch_size=0", "source"], "--batch_size must be at least 1, got 0"),
    (["--run_dir=raw", "--grad_cam_class=a", "source"], "--grad_cam_class only applies to"),
    (
        ["--run_dir=raw", "--grad_cam=x", "--grad_cam_class=a", "source"],
        "UsageError: --grad_cam_class must be one of 밝음, 어두움, got 'a'",
    ),
    (
        ["--run_dir=raw", "--grad_cam=x.csv", "--output=x.csv", "source"],
        "--output and --grad_cam must differ",
    ),
    (["--run_dir=raw", "--grad_cam=source", "source"], "OutputError: .*source exists and is no"),
    (["--run_dir=raw", "empty"], "NoFilesError: no file in empty, 1 hidden"),
    (["--run_dir=source", "source"], "RunError: no finished run in 'source'"),
    (["--run_dir=forgetful", "source"], "RunError: run.json has no image recipe"),
]


def made_source(root):
    """Writes two classes of PNG and JPEG files, one rotated, one tall, one not named in UTF-8."""
    fakes.class_tree(root, {"밝음": 12, "어두움": 12}, size=40)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.tile(fakes.pixels(50, 70), (1, 2, 1))
    return fakes.tree(
        root,
        {
            "밝음/\udcff.jpg": fakes.encoded(wide, "JPEG", exif=exif.tobytes()),
            "어두움/tall, one.jpg": fakes.encoded(wide.swapaxes(0, 1), "JPEG"),
        },
    )


def built(root, encoding):
    options = build.BuildOptions(decode.ImagePolicy(32, "crop"), encoding=encoding)
    folder = str(root / f"{encoding}.records")
    listing = sources.from_folders(str(root / "source"))
    build.build(listing, folder, options, num_workers=1, show_progress=False)
    return record_set.open_set(folder)


def another(root, name, **changes):
    """Copies the trained run, with other facts."""
    shutil.copytree(root / "raw", root / name)
    run = dataclasses.replace(run_folder.load(str(root / "raw")), **changes)
    run_folder.save(run, str(root / name))
    return run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Builds in every encoding, trains once, and evaluates."""
    root = tmp_path_factory.mktemp("runs")
    made_source(root / "source")
    opened = {encoding: built(root, encoding) for encoding in decode.ENCODINGS}
    arguments = ("--model=lenet", "--epochs=1", "--batch_size=8", "--folds=3", "--fold=1")
    records, run_dir = f"--records={root}/raw.records", f"--run_dir={root}/raw"
    done = fakes.run_module("models.train_main", records, run_dir, *arguments, "--report=test")
    assert done.returncode == 0, done.stderr
    for encoding in ("png", "jpeg"):
        info = opened[encoding].manifest
        facts = {"records": opened[encoding].folder, "records_digest": info.digest, "fold": ()}
        run = another(root, encoding, **facts, pixels=preprocess.facts(info))
        experiment.evaluate(run, str(root / encoding), opened[encoding], "test")
    another(root, "alone", records="/gone")
    another(root, "older", pixels={})
    another(root, "forgetful", pixels={}, records="/gone")
    good = (root / "source/밝음/000.png").read_bytes()
    broken = {"가.jpg": b"<html>", "cut.png": good[:200], "good.png": good, ".hidden": b"x"}
    fakes.tree(root / "broken", broken)
    fakes.tree(root, {"empty/.hidden": b"", "there.csv": b"mine", "full.csv/x": b"mine"})
    with zipfile.ZipFile(root / "source.zip", "w") as archive:
        for path in (root / "source").glob("*/*.png"):
            archive.write(path, path.relative_to(root / "source"))
    return root


@pytest.fixture(scope="module")
def found(root):
    cases = [*CASES.values(), *(case for case, _ in WRONG)]
    names = [*CASES, *range(len(WRONG))]
    return dict(zip(names, fakes.cases(SCRIPT, cases, cwd=root), strict=True))


def lines_of(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return {line["key"]: line for line in csv.DictReader(file)}


def numbers(line):
    return [line[column] for column in ("predicted", "p:밝음", "p:어두움")]


@pytest.mark.parametrize("encoding", decode.ENCODINGS)
def test_a_file_gets_what_its_row_got(root, found, encoding):
    evaluated = lines_of(root / encoding / "predictions-test.csv")
    predicted = lines_of(root / f"{encoding}.csv")
    assert found[encoding]["code"] == 0 and found[encoding]["err"] == ""
    assert len(predicted) == 26 and len(evaluated) > 3
    for key, line in evaluated.items():
        assert numbers(predicted[key]) == numbers(line)
    assert {line["source"] for line in predicted.values()} == {"source"}


def test_what_jpeg_records_lose_matters(root, found):
    raw, png, jpeg = (lines_of(root / f"{name}.csv") for name in ("raw", "png", "jpeg"))
    assert raw == png
    assert sum(numbers(raw[key]) != numbers(jpeg[key]) for key in raw) > 20


def test_an_archive_is_predicted_as_the_folder(root, found):
    said = json.loads((root / "zip.json").read_text("utf-8"))
    folder = lines_of(root / "raw.csv")
    assert len(said["files"]) == 24 and said["class_names"] == ["밝음", "어두움"]
    for line in said["files"]:
        digits = [f"{value:.9g}" for value in line["probabilities"]]
        assert [line["predicted"], *digits] == numbers(folder[line["key"]])
        assert line["source"] == "source.zip"


@pytest.mark.parametrize("name", ["two", "one"])
def test_the_number_of_files_changes_no_bit(root, found, name):
    folder, few = lines_of(root / "raw.csv"), lines_of(root / f"{name}.csv")
    assert len(few) == {"two": 2, "one": 1}[name]
    for key, line in few.items():
        assert line["source"] == "source/밝음"
        assert numbers(line) == numbers(folder[f"밝음/{key}"])


@pytest.mark.parametrize("name", ["alone", "older"])
def test_the_run_or_its_records_suffice(root, found, name):
    assert lines_of(root / f"{name}.csv") == lines_of(root / "raw.csv")


def test_the_screen_shows_the_first_and_counts_all(found):
    lines = found["raw"]["out"].splitlines()
    assert lines[0].split() == ["file", "class", "probability", "runner-up"]
    assert lines[1].split()[0] == "source/밝음/000.png" and lines[21] == "and 6 more"
    assert "source/밝음/\\udcff.jpg" in found["raw"]["out"]
    assert lines[-1] == "26 files predicted, all in raw.csv"


def test_broken_files_are_named_and_the_others_predicted(root, found):
    case = found["broken"]
    assert case["code"] == 1
    said = [line.split(": ")[:2] for line in case["err"].splitlines()]
    assert said == [["broken/cut.png", "truncated"], ["broken/가.jpg", "not_an_image"]]
    assert case["out"].splitlines()[-1] == (
        "2 files predicted, 2 cannot be read, 1 hidden excluded, all in broken.json"
    )
    said = json.loads((root / "broken.json").read_text("utf-8"))
    errors = {
        line["key"]: line["error"].partition(":")[0] for line in said["files"] if "error" in line
    }
    assert errors == {"cut.png": "truncated", "가.jpg": "not_an_image"}
    good = [line["probabilities"] for line in said["files"] if "error" not in line]
    assert good[0] == good[1]
    assert found["all broken"]["code"] == 1
    assert found["all broken"]["out"] == "0 files predicted, 1 cannot be read\n"


def test_pictures_are_named_by_line_and_file(root, found):
    names = sorted(path.name for path in (root / "seen").iterdir())
    assert names[:2] == ["000001-000.png", "000002-001.png"]
    assert names[-2:] == ["000013-\udcff.png", "000015-good.png"]  # 14 is broken
    assert len(names) == 14
    assert "heat maps for the predicted class, 4 x 4 cells, of layer conv3" in found["seen"]["out"]
    shown = np.asarray(Image.open(root / "seen/000001-000.png"))
    pixels = decode.preprocess(
        (root / "source/밝음/000.png").read_bytes(), decode.ImagePolicy(32, "crop")
    )
    np.testing.assert_array_equal(shown[::7, :224:7], pixels)


def test_the_class_that_is_looked_for_can_be_chosen(root, found):
    assert "heat maps for 어두움" in found["dark"]["out"]
    seen, dark = ((root / folder / "000001-000.png").read_bytes() for folder in ("seen", "dark"))
    first = lines_of(root / "raw.csv")["밝음/000.png"]["predicted"]
    assert (seen == dark) == (first == "어두움")


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_use(found, number):
    assert re.search(WRONG[number][1], found[number]["error"])


def test_what_stands_there_already_is_kept_and_nothing_beside_it(root, found):
    assert (root / "there.csv").read_bytes() == (root / "full.csv/x").read_bytes() == b"mine"
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


def test_the_binary_itself(root, found):
    paths = (f"{root}/broken", f"{root}/source/밝음/\udcff.jpg")
    done = fakes.run_module("models.predict_main", f"--run_dir={root}/raw", *paths)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "\\udcff.jpg" in done.stdout and len(done.stderr.splitlines()) == 2
