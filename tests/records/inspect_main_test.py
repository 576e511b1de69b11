"""The commands of inspect_main as a user runs them."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from records.format import record_set
from tests import fakes
from tests.records import made

ATTRIBUTES = {"mask": ("쓴", "벗은"), "age": ("young", "old")}


def inspect(*arguments):
    return fakes.run_module("records.inspect_main", *arguments)


@pytest.fixture
def combined(tmp_path):
    """Returns a set whose classes are combinations and whose manifest has much to say."""
    names = tuple(f"mask={mask}, age={age}" for mask in ATTRIBUTES["mask"] for age in
                  ATTRIBUTES["age"])  # fmt: skip
    made.record_set_of(
        tmp_path / "combined",
        [made.Row(b"\xff/%d" % label, label=label, split="train") for label in range(4)],
        class_names=names,
        attributes=ATTRIBUTES,
        notes={"first_frame_of_animation": 2},
        reasons={"not_an_image": 3},
    )
    return tmp_path / "combined"


def first_shard(records):
    return sorted(records.glob("train-*.tfrecord"))[0]


# --- show ---


def test_show_lists_counts_and_rows(records):
    shown = inspect("show", f"--records={records}", "--rows=1")
    assert shown.returncode == 0
    assert re.search(r"^total +240 +80 +80", shown.stdout, re.MULTILINE)
    assert "train 0: " in shown.stdout


def test_show_says_what_the_build_noted(combined):
    shown = inspect("show", f"--records={combined}")
    assert "attribute mask: 쓴, 벗은" in shown.stdout
    assert "note: 2 x first_frame_of_animation" in shown.stdout
    assert "skipped: 3 x not_an_image" in shown.stdout


def test_show_prints_a_row_as_json(combined):
    shown = inspect("show", f"--records={combined}", "--split=train", "--row=2")
    said = json.loads(shown.stdout)
    index = record_set.open_set(str(combined)).index("train")
    assert said["key"] == "\udcff/2" and said["class"] == "mask=벗은, age=young"
    assert said["attributes"] == {"mask": "벗은", "age": "young"}
    assert said["offset"] == index.offset[2] and said["length"] == index.length[2]
    assert said["image_shape"] == [8, 8, 3] and len(said["channel_means"]) == 3
    assert said["source_sha256"] == index.source_sha256[2].tobytes().hex()


def test_show_writes_a_contact_sheet_with_its_legend(combined, tmp_path):
    path = tmp_path / "sheet.png"
    shown = inspect("show", f"--records={combined}", f"--contact_sheet={path}")
    assert shown.stdout.splitlines()[2] == "line 3: mask=벗은, age=young (1 images in train)"
    assert Image.open(path).size == (12 * 10 + 2, 4 * 10 + 2)


def test_output_cut_off_by_its_reader_is_no_error(records):
    command = f"{sys.executable} -m records.inspect_main show --records={records} --rows=200"
    done = subprocess.run(
        f"{command} | head -1", shell=True, cwd=fakes.ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""


# --- verify ---


def test_verify_says_it_and_exits_with_1(records):
    good = inspect("verify", f"--records={records}")
    assert good.returncode == 0 and "every byte is as written" in good.stdout
    data = bytearray(first_shard(records).read_bytes())
    data[60] ^= 1
    first_shard(records).write_bytes(data)
    bad = inspect("verify", f"--records={records}")
    assert bad.returncode == 1 and bad.stderr == ""
    assert f"FAULT {first_shard(records).name}, record 0 (key" in bad.stdout


def test_many_faults_of_a_file_are_cut_short(records):
    first_shard(records).write_bytes(b"")
    done = inspect("verify", f"--records={records}")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 22
    assert ": and " in done.stdout.splitlines()[-2]


def test_verify_reads_the_sources_again(pristine, tmp_path):
    source = shutil.copytree(pristine.parent / "source", tmp_path / "source")
    arguments = ("verify", f"--records={pristine}", f"--sources={source}")
    assert "every file is unchanged" in inspect(*arguments).stdout
    (source / "a" / "003.png").write_bytes(b"other")
    done = inspect(*arguments)
    assert done.returncode == 1 and "(key 'a/003.png')" in done.stdout


# --- audit ---


def test_audit_lists_counts_and_writes_all_findings(tmp_path):
    rows = [made.Row(b"%d" % n, source=b"x", split=("train", "test")[n % 2]) for n in range(9)]
    made.record_set_of(tmp_path / "set", rows)
    path = tmp_path / "findings.csv"
    done = inspect("audit", f"--records={tmp_path}/set", "--lines=3", f"--output={path}")
    assert done.returncode == 1
    assert done.stdout.count("equal_across_splits: ") == 3
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["kind"] for line in lines] == ["equal_across_splits"] * 8
    assert re.search(r"^equal files in two splits +8$", done.stdout, re.MULTILINE)


def test_audit_of_a_clean_set_exits_with_0(records):
    done = inspect("audit", f"--records={records}", "--distance=0.01")
    assert done.returncode == 0, done.stdout


# --- diff ---


def test_diff_of_equal_sets_exits_with_0(records, pristine):
    done = inspect("diff", f"--records={records}", f"--other={pristine}")
    assert (done.returncode, done.stdout) == (0, "the two sets are byte-identical\n")


def test_diff_names_what_differs(tmp_path):
    rows = [made.Row(b"%d" % number) for number in range(5)]
    made.record_set_of(tmp_path / "one", rows)
    made.record_set_of(tmp_path / "two", rows[2:])
    done = inspect("diff", f"--records={tmp_path}/one", f"--other={tmp_path}/two", "--lines=1")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "images in split train: 5 in --records, 3 in --other",
        "2 images only in --records",
        "  '0'",
        "  and 1 more",
    ]


# --- export, import ---


def test_a_set_goes_through_a_tar(records, tmp_path):
    tar, back = tmp_path / "set.tar", tmp_path / "back"
    out = inspect("export", f"--records={records}", "--format=tar", f"--output={tar}")
    assert (out.returncode, out.stdout) == (0, f"400 images as tar: {tar}\n")
    done = inspect("import", f"--archive={tar}", f"--records={back}")
    assert (done.returncode, done.stdout) == (0, f"400 images, every byte as written: {back}\n")
    assert {p.name: p.read_bytes() for p in back.iterdir()} == {
        p.name: p.read_bytes() for p in Path(records).iterdir()
    }
    again = inspect("import", f"--archive={tar}", f"--records={back}")
    assert again.returncode == 1 and "exists and is not an empty folder" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "name one of show, survey, verify, "),
        (("polish", "--records=x"), 2, "got 'polish'"),
        (("verify",), 2, "--records must be given"),
        (("show", "--records=nowhere"), 2, "an existing folder, got 'nowhere'"),
        (("show", "--records=."), 1, "no record set in '.'"),
        (("show", "--records=.", "--rows=-1"), 2, "--rows must be at least 0, got -1"),
        (("verify", "--records=.", "--rows=1"), 2, "--rows belongs to show"),
        (("show", "--records=.", "--lines=1"), 2, "--lines belongs to audit and diff"),
        (("show", "--records=.", "--output=x"), 2, "--output belongs to survey and "),
        (("show", "--records=x", "--bogus"), 2, "unknown flag --bogus"),
        (("show", "--records={set}", "--row=0"), 2, "--split must be given"),
        (("show", "--records={set}", "--split=x"), 2, "--split must be one of train, got 'x'"),
        (("show", "--records={set}", "--split=train", "--row=4"), 2, "lie in 0..3, got 4"),
        (("show", "--records={set}", "--contact_sheet=x.jpg"), 2, "end in .png, got 'x.jpg'"),
        (("verify", "--records={set}", "--sources=nowhere"), 1, "'nowhere'"),
        (("audit", "--records={set}", "--distance=1"), 2, "below 1, got 1.0"),
        (("audit", "--records={set}", "--lines=-1"), 2, "--lines must be at least 0, got -1"),
        (("diff", "--records={set}"), 2, "--other must be given"),
        (("export", "--records={set}", "--output=x"), 2, "--format must be given"),
        (("export", "--records={set}", "--format=tar"), 2, "--output must be given"),
        (("export", "--records={set}", "--format=zip", "--output=x"), 2, "must be one of"),
        (
            ("export", "--records={set}", "--format=dali", "--output={set}"),
            1,
            "be inside the record set",
        ),
        (("import", "--records=x"), 2, "--archive must be given"),
        (("import", "--archive=nowhere", "--records=x"), 2, "must be a file, got 'nowhere'"),
        (
            ("import", "--archive={set}/manifest.json", "--records=/tmp/x"),
            1,
            "not an uncompressed tar",
        ),
    ],
)
def test_wrong_use_is_one_line(combined, arguments, code, message):
    done = inspect(*(argument.replace("{set}", str(combined)) for argument in arguments))
    assert done.returncode == code and message in done.stderr
    assert "Traceback" not in done.stderr
