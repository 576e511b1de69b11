"""The survey as a user runs it: messages, files, wrong flags."""

import base64
import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests import fakes


def inspect(*arguments):
    return fakes.run_module("records.inspect_main", *arguments)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two classes with a copy, a blank image, a file that is none and names of every kind."""
    root = fakes.class_tree(tmp_path_factory.mktemp("set") / "사진 모음", {"가 <b>": 40, "b": 12})
    odd = os.fsdecode(b"\xff<i>.png")
    copied = (root / "b/001.png").read_bytes()
    blank = fakes.encoded(np.full((24, 24, 3), 200, np.uint8))
    return fakes.tree(root, {f"b/{odd}": copied, "b/빈.png": blank, "b/note.jpg": b"text"})


@pytest.fixture(scope="module")
def surveyed(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "deep" / "survey"
    done = inspect("survey", f"--source={source}", "--image_size=24", f"--output={output}")
    assert done.returncode == 0, done.stderr
    return done.stdout, output


@pytest.fixture(scope="module")
def records(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("records") / "set"
    flags = (f"--source={source}", "--image_size=24", "--splits=train=0.5,test=0.5")
    assert fakes.run_module("records.build_main", *flags, f"--output={output}").returncode == 0
    return output


def said(folder):
    return json.loads((folder / "survey.json").read_text("utf-8"))


def kinds(folder):
    return {finding["kind"]: finding for finding in said(folder)["findings"]}


def test_the_text_says_counts_findings_and_what_to_do(surveyed):
    text, output = surveyed
    lines = text.splitlines()
    assert re.match(r"class +images +share", lines[0])
    assert "54 images in 2 classes" in text and "formats: PNG RGB 54" in text
    assert re.search(r"^band +500 +", text, re.MULTILINE)
    assert "1 file cannot be used (1 x not_an_image): b/note.jpg" in text
    assert r"b/\udcff<i>.png" in text and lines[-1] == f"{output}/survey.html"


def test_json_holds_the_facts_and_every_item(surveyed, source):
    _, output = surveyed
    found, facts = kinds(output), said(output)
    assert set(found) >= {"unreadable", "uniform", "equal", "imbalance", "odd_brightness"}
    assert [item["name"] for item in found["uniform"]["items"]] == ["b/빈.png"]
    assert [item["name"] for item in found["equal"]["items"]] == ["b/\udcff<i>.png"]
    assert facts["source"] == str(source) and facts["images"] == 54
    assert facts["counts"] == {"all": [14, 40]} and facts["class_names"] == ["b", "가 <b>"]
    assert facts["left_out"]["files"][0]["key"] == "b/note.jpg"
    assert facts["looks"]["brightness"]["b"]["lowest"] > 0


def test_the_page_is_whole_in_itself_and_escapes_names(surveyed):
    _, output = surveyed
    page = (output / "survey.html").read_text("utf-8")
    assert "가 &lt;b&gt;" in page and "가 <b>" not in page and "<i>" not in page
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert all(Image.open(io.BytesIO(base64.b64decode(each))).width > 20 for each in pictures)
    assert len(pictures) == len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) >= 4
    assert page.count("<svg") == page.count('role="img"') == 6
    assert "Findings" in page[: page.index("<h2>Classes")]


def test_the_same_source_gives_the_same_bytes(surveyed, source, tmp_path):
    _, output = surveyed
    flags = (f"--source={source}", "--image_size=24", "--num_workers=3")
    assert inspect("survey", *flags, f"--output={tmp_path}").returncode == 0
    for name in ("survey.json", "survey.html"):
        assert (tmp_path / name).read_bytes() == (output / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["survey.html", "survey.json"]


def test_records_say_the_same_of_their_images(surveyed, records, tmp_path):
    _, output = surveyed
    done = inspect("survey", f"--records={records}", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    before, after = said(output), said(tmp_path)
    for name in ("images", "class_names", "looks", "imbalance", "left_out", "image_size"):
        assert before[name] == after[name]
    assert after["files"] is None and list(after["counts"]) == ["train", "test"]
    assert after["targets"]["counted"] == "train"
    for kind in ("unreadable", "uniform", "equal", "odd_brightness"):
        names = [[i["name"] for i in kinds(folder)[kind]["items"]] for folder in (output, tmp_path)]
        assert names[0] == names[1]
    assert "does not know the sizes" in (tmp_path / "survey.html").read_text("utf-8")


def test_one_split_without_files(records):
    done = inspect("survey", f"--records={records}", "--split=test", "--distance=0")
    assert done.returncode == 0 and re.match(r"class +test +share", done.stdout), done.stderr
    assert "27 images of test in 2 classes" in done.stdout and "target for test" in done.stdout
    assert "skipped" not in done.stdout and "cannot be used" not in done.stdout


def test_the_page_of_one_split_says_so(records, tmp_path):
    done = inspect("survey", f"--records={records}", "--split=test", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "survey.html").read_text("utf-8")
    assert "27 images of test in 2 classes" in page and "<th>test</th>" in page
    assert "no file skipped" not in page and "every file can be read" not in page
    assert said(tmp_path)["split"] == "test" and said(tmp_path)["left_out"]["files"] == []


def test_given_splits_and_labels_of_a_csv(tmp_path):
    root = fakes.tree(
        tmp_path / "t", {f"{n}.png": fakes.encoded(fakes.pixels(n)) for n in range(40)}
    )
    lines = [f"{n}.png,{'ab'[n % 2]},{('train', 'val')[n % 4 // 2]}" for n in range(40)]
    (root / "l.csv").write_text("path,label,split\n" + "\n".join(lines))
    done = inspect(
        "survey", f"--source={root}", "--labels=l.csv", "--splits=given", "--image_size=24"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^class +train +validation +total$", done.stdout, re.MULTILINE)
    assert "0 findings" in done.stdout and "excluded: 1 x not_in_csv" in done.stdout


def test_a_file_that_crashes_its_decoder_is_named(tmp_path, monkeypatch):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "DEADLY")
    root = fakes.class_tree(tmp_path / "t", {"a": 12, "b": 12})
    fakes.tree(root, {"a/bad.png": fakes.encoded(fakes.pixels(1), pnginfo=text)})
    monkeypatch.setenv("PYTHONPATH", str(fakes.ROOT / "tests/faults/inject"))
    monkeypatch.setenv("FAULT_CRASH", "DEADLY")
    done = inspect("survey", f"--source={root}")
    assert done.returncode == 0, done.stderr
    assert "(1 x crashed_decoder): a/bad.png" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "--records or --source must be given, and not both"),
        (("--records={records}", "--source={source}"), 2, "and not both"),
        (("--records=nowhere",), 2, "--records must be an existing folder, got 'nowhere'"),
        (("--records={source}",), 1, "no record set in"),
        (("--records={records}", "--split=x"), 2, "--split must be one of train, test, got 'x'"),
        (("--records={records}", "--image_size=8"), 2, "--image_size has no effect where --rec"),
        (("--source=nowhere",), 2, "--source must be an existing folder, zip or tar, got 'nowh"),
        (("--source={source}", "--split=x"), 2, "--split needs --records"),
        (("--source={source}", "--splits=train=1"), 2, "--splits must be 'given' here"),
        (("--source={source}", "--splits=given"), 1, "the rule (split folder, folder)"),
        (("--source={source}", "--labels=nowhere.csv"), 2, "--labels must be folder, suffix"),
        (("--source={source}", "--group_column=g"), 2, "--group_column needs a CSV"),
        (("--source={source}", "--image_size=0"), 2, "image_size must lie in 1..4096"),
        (("--source={source}", "--num_workers=-1"), 2, "--num_workers must be at least 0"),
        (("--source={source}", "--distance=1"), 2, "--distance must be at least 0 and below 1"),
        (("--source={source}", "--output={source}/b"), 2, "--output must not lie inside --source"),
        (("--records={records}", "--output={records}"), 2, "--output must not lie inside --rec"),
        (
            ("--records={records}", "--output={records}/x/y"),
            2,
            "--output must not lie inside --rec",
        ),
        (("--source={source}", "--output={source}/b/빈.png"), 2, "--output must be a folder"),
        (("--source={source}", "--rows=1"), 2, "--rows belongs to show"),
        (("--source={source}", "--exclude=*"), 1, "no image found in"),
    ],
)
def test_wrong_use_is_one_line(source, records, arguments, code, message):
    given = [argument.format(source=source, records=records) for argument in arguments]
    done = inspect("survey", *given)
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2


def test_flags_of_a_source_belong_to_no_other_command(source):
    done = inspect("show", f"--source={source}")
    assert done.returncode == 2 and "--source belongs to survey" in done.stderr


@pytest.mark.skipif(not fakes.SHARED_DATA.is_dir(), reason="needs the shared images")
def test_what_is_known_to_be_wrong_with_real_images_is_found(tmp_path):
    done = inspect("survey", f"--source={fakes.SHARED_DATA}/cardamage", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    found = kinds(tmp_path)
    assert [i["name"] for i in found["unreadable"]["items"]] == ["damage/Vandalism_url.html"]
    assert "7 files are byte-identical duplicates, in 5 sets" in found["equal"]["what"]
    assert all("photo_unavailable" in i["name"] for i in found["uniform"]["items"])
