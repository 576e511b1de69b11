"""The build as a user runs it: flags, messages, exit codes."""

import json
import os
import tarfile
import zipfile

import pytest

from records.format import manifest, record_set
from tests import fakes


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """30 + 6 people with three pictures each, the class in the suffix of the name."""
    root = tmp_path_factory.mktemp("masks") / "마스크 tree"
    seed = 0
    for split, people in (("train", 30), ("test", 6)):
        for person in range(people):
            for suffix in ("01", "02", "03"):
                seed += 1
                key = f"{split}/{person:04d}_{suffix}.jpg"
                fakes.tree(root, {key: fakes.encoded(fakes.pixels(seed), "JPEG")})
    return root


SUFFIX = ("--labels=suffix", "--label_map=01=worn,02=worn,03=unworn", "--image_size=16")
GIVEN = (*SUFFIX, "--splits=given,validation=0.2")


def run(source, *more):
    return fakes.run_module("records.build_main", f"--source={source}", *more)


def test_a_dry_run_counts_exactly_and_writes_nothing(masks, tmp_path):
    done = run(masks, *GIVEN, "--dry_run")
    assert done.returncode == 0 and done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:4] == [
        ["class", "test", "train", "validation", "total"],
        ["unworn", "6", "24", "6", "36"],
        ["worn", "12", "48", "12", "72"],
        ["total", "18", "72", "18", "108"],
    ]
    assert "extensions: .jpg 108" in done.stdout and "nothing was written" in done.stdout
    assert [line[0] for line in lines[6:10]] == ["encoding", "raw", "png", "jpeg"]
    assert lines[7][1] == "768"
    assert os.listdir(tmp_path) == []


def test_a_build_holds_what_the_dry_run_said(masks, tmp_path):
    done = run(masks, *GIVEN, f"--output={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    info = manifest.load(f"{tmp_path}/out")
    assert info.class_names == ("unworn", "worn")
    assert {name: split.class_counts for name, split in info.splits.items()} == {
        "test": (6, 12),
        "train": (24, 48),
        "validation": (6, 12),
    }
    assert info.settings["labels"]["value_map"]["label"]["02"] == "worn"


def test_archives_give_the_set_of_the_folder(masks, tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(masks, ".")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(masks.rglob("*.jpg"), reverse=True):
            archive.write(path, path.relative_to(masks))
    digests = set()
    for number, source in enumerate((masks, tmp_path / "x.tar.gz", tmp_path / "x.zip")):
        done = run(source, *GIVEN, f"--output={tmp_path}/{number}")
        assert done.returncode == 0, done.stderr
        digests.add(manifest.load(f"{tmp_path}/{number}").digest)
    assert len(digests) == 1


def test_attributes_of_a_csv_and_of_names(tmp_path):
    files = {
        f"faces/{person}/{face}.png": fakes.encoded(fakes.pixels(10 * person + number))
        for person in range(12)
        for number, face in enumerate(("mask1", "mask2", "incorrect_mask", "normal"))
    }
    root = fakes.tree(tmp_path / "tree", files)
    lines = "".join(f"faces/{p},{'fm'[p % 2]},{20 + 4 * p}\n" for p in range(12))
    (tmp_path / "people.csv").write_text("path,gender,age\n" + lines)
    done = run(
        root,
        f"--labels={tmp_path}/people.csv",
        r"--label_pattern=/(?P<mask>mask|incorrect_mask|normal)\d*\.png$",
        "--attributes=mask,gender,age",
        "--bands=age=30,60",
        "--image_size=16",
        "--splits=train=0.5,test=0.5",
        f"--output={tmp_path}/out",
    )
    assert done.returncode == 0, done.stderr
    opened = record_set.open_set(f"{tmp_path}/out")
    info = opened.manifest
    assert len(info.class_names) == 3 * 2 * 3
    for split in info.splits:
        index = opened.index(split)
        for row in range(len(index)):
            values = record_set.attribute_values(info.attributes, index.label[row])
            _, person, face = index.key(row).split("/")
            age = 20 + 4 * int(person)
            assert values == {
                "mask": face.removesuffix(".png").rstrip("12"),
                "gender": "fm"[int(person) % 2],
                "age": "<30" if age < 30 else "30-<60" if age < 60 else ">=60",
            }
    people = [{k.split("/")[1] for k in map(opened.index(s).key, range(24))} for s in info.splits]
    assert not people[0] & people[1]  # the pictures of a person stay together


def test_boxes_are_cut_out_and_clamped_ones_counted(tmp_path):
    root = fakes.tree(tmp_path / "tree", {"a.png": fakes.encoded(fakes.pixels(1, 64))})
    (tmp_path / "l.csv").write_text(
        "path,label,x0,y0,x1,y1\na.png,cat,0,0,32,32\na.png,dog,40,40,90,60\n"
    )
    done = run(
        root,
        f"--labels={tmp_path}/l.csv",
        "--box_columns=x0,y0,x1,y1",
        "--image_size=16",
        "--splits=train=1",
        f"--output={tmp_path}/out",
    )
    assert done.returncode == 0, done.stderr
    assert "1 x box_clamped, in the set" in done.stdout
    opened = record_set.open_set(f"{tmp_path}/out")
    keys = {opened.index("train").key(row) for row in (0, 1)}
    assert keys == {"a.png#0,0,32,32", "a.png#40,40,90,60"}


@pytest.mark.skipif(not fakes.SHARED_DATA.is_dir(), reason="needs the shared images")
def test_ages_that_a_spreadsheet_made_dates_are_repaired_by_a_map():
    folder = fakes.SHARED_DATA / "faces_csv"
    flags = (
        f"--labels={folder}/labels.csv",
        "--path_column=file",
        "--path_match=name",
        "--label_column=age",
        "--classes=0-2,3-9,10-19,20-29,30-39,40-49,50-59,60-69,more than 70",
        "--dry_run",
    )
    done = run(folder / "images", *flags)
    assert done.returncode == 1 and "must be one of 0-2, 3-9, 10-19" in done.stderr
    done = run(folder / "images", *flags, "--label_map=03-Sep=3-9,Oct-19=10-19,*=*")
    assert done.returncode == 0, done.stderr
    ages = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()}
    assert (ages["3-9"], ages["10-19"], ages["total"]) == ("383", "315", "3,000")


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--labels=nowhere.csv"], 2, "--labels must be folder, suffix, pattern or a CSV file"),
        (["--labels=pattern"], 2, "--label_pattern must be given"),
        (["--label_pattern=x"], 2, "--label_pattern needs --labels=pattern or a CSV"),
        (["--labels=suffix", "--group_column=g"], 2, "--group_column needs a CSV"),
        (
            ["--labels=suffix", "--label_map=01"],
            2,
            "a map must be from=to,... or a CSV file, got '01'",
        ),
        (["--labels=suffix", "--label_map=01=a"], 1, "the label '02' is not in the map of 01"),
        (["--labels=suffix", "--classes=01,02"], 1, "the class must be one of 01, 02, got '03'"),
        (["--labels=suffix", "--bands=label"], 2, "bands must be name=number"),
        (["--overrides=nowhere.csv"], 2, "--overrides must be a CSV file, got 'nowhere.csv'"),
        (["--labels=suffix", "--bands=age=30"], 2, "a map or bands for 'age' have no effect"),
        (["--labels=suffix", "--label_map=age:1=2"], 2, "the class depends on label"),
        (["--splits=folds=1"], 2, "at least 2 folds, got 1"),
        (["--splits=given,validation=1.5"], 2, "must sum to less than 1"),
        (["--encoding=webp"], 2, "--encoding"),
        (["--max_image_mb=0"], 2, "memory_limit must be at least 1 MiB, got 0"),
        (["--labels=pattern", "--label_pattern=("], 2, "is not a regular expression"),
    ],
)
def test_wrong_use_is_one_line(masks, tmp_path, flags, code, message):
    done = run(masks, *flags, f"--output={tmp_path}/out")
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_is_wrong_use(tmp_path):
    done = run(tmp_path / "nowhere", f"--output={tmp_path}/out")
    assert done.returncode == 2 and "must be an existing folder, zip or tar" in done.stderr


def test_a_second_set_is_refused_with_the_difference_and_replaced_if_asked(masks, tmp_path):
    flags = (*SUFFIX, f"--output={tmp_path}/out")
    assert run(masks, *flags).returncode == 0
    done = run(masks, *flags, "--seed=3", "--encoding=png")
    assert done.returncode == 1
    assert "encoding is 'raw', now 'png'; seed is 0, now 3" in done.stderr
    done = run(masks, *flags, "--seed=3", "--encoding=png", "--replace")
    assert done.returncode == 0 and manifest.load(f"{tmp_path}/out").encoding == "png"
    done = run(masks, *flags, "--seed=3", "--encoding=png")
    assert done.returncode == 0 and "there already, nothing to do" in done.stdout


def test_the_rejects_name_each_file_once(tmp_path):
    root = fakes.class_tree(tmp_path / "tree", {"a": 8, "b": 8})
    odd = {"a/bad\n1.jpg": b"x", "a/.hidden": b"", "b/page.jpg": b"<html>", "note": b""}
    fakes.tree(root, odd)
    flags = ("--image_size=8", "--exclude=b/007.png", f"--output={tmp_path}/out")
    done = run(root, *flags)
    assert done.returncode == 0
    lines = (tmp_path / "out/rejects.jsonl").read_text("utf-8").splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == sorted([*odd, "b/007.png"])
