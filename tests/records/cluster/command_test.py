"""The command as a user runs it: it proposes, a build with the list carries it out."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from absl import flags

from records.cluster import command as cluster_command
from records.format import record_set
from tests import fakes
from tests.records import pictures

STRAYS = [f"그림/photo {number}.png" for number in range(9)] + ["그림/\udcff photo.png"]
NEIGHBOUR = "그림/a photo.png"  # a drawing, for all its name


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Returns a folder with a source, its records, and tags."""
    root = tmp_path_factory.mktemp("cluster")
    drawings, images = 40, pictures.stacked(120, 10)
    names = [f"{('그림', 'plain', 'other')[at // drawings]}/{at}.png" for at in range(120)] + STRAYS
    names[0] = NEIGHBOUR
    for name, image in zip(names, images, strict=True):
        fakes.tree(root / "source", {name: fakes.encoded(image)})
    fakes.tree(root / "source", {"few/only.png": fakes.encoded(images[0])})
    done = fakes.run_module(
        *("records.build_main", f"--source={root / 'source'}", f"--output={root / 'records'}"),
        *("--image_size=32", "--num_workers=1"),
    )
    assert done.returncode == 0, done.stderr
    rows = [
        (name, "photo" if name in STRAYS else "drawing") for name in names if name != STRAYS[-1]
    ]
    with open(root / "tags.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "kind"), *rows, ("plain/gone.png", "drawing")])
    korean = (root / "tags.csv").read_text("utf-8").encode("cp949")
    (root / "tags949.csv").write_bytes(korean)
    return root


def cluster(packed, output, *arguments):
    return fakes.run_module(
        *("records.inspect_main", "cluster", f"--records={packed / 'records'}"),
        *(f"--output={output}", *arguments),
    )


@pytest.fixture(scope="module")
def done(packed):
    found = cluster(packed, packed / "out")
    assert found.returncode == 0 and found.stderr == "", found.stderr
    return found.stdout


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def excluding(done: str) -> list[str]:
    return [line.strip() for line in done.splitlines() if "--exclude=" in line]


def test_strays_are_proposed_and_nothing_else(packed, done):
    listed = read_csv(packed / "out" / "exclusions.csv")
    assert {line["path"] for line in listed} == set(STRAYS[:-1])
    assert "10 of 131 images are proposed for exclusion" in done
    assert "1 have names that are not UTF-8" in done and excluding(done) == [
        r"$'--exclude=그림/\xff photo.png'"
    ]
    said = json.loads((packed / "out" / "clusters.json").read_text("utf-8"))
    assert {group["name"]: group["verdict"] for group in said["groups"]} == {
        "few": "too few images",
        "other": "one kind",
        "plain": "one kind",
        "그림": "two kinds",
    }
    assert said["unlisted"]["not_utf8"] == STRAYS[-1:]
    assert len(read_csv(packed / "out" / "clusters.csv")) == said["images"] == 131


def test_a_build_with_what_was_printed_leaves_them_out(packed, done, tmp_path):
    command = done.splitlines()[-1].split()
    assert command[:3] == ["python", "-m", "records.build_main"]
    assert command[4] == f"--exclusions={packed / 'out' / 'exclusions.csv'}"
    (word,) = excluding(done)
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    built = fakes.run_module(
        *("records.build_main", f"--source={packed / 'source'}", command[4], "--num_workers=1"),
        *(os.fsdecode(said.stdout), f"--output={tmp_path / 'clean'}", "--image_size=32"),
    )
    assert built.returncode == 0, built.stderr
    opened = record_set.open_set(str(tmp_path / "clean"))
    counts = opened.manifest.accounting["그림"]
    assert (counts["written"], counts["excluded"]) == (40, 10)


def test_equal_commands_write_equal_bytes(packed, done, tmp_path):
    cluster(packed, tmp_path / "again")
    for name in sorted(os.listdir(packed / "out")):
        first, second = (folder / name for folder in (packed / "out", tmp_path / "again"))
        page = second.read_bytes().replace(str(tmp_path / "again").encode(), b"OUT")
        assert first.read_bytes().replace(str(packed / "out").encode(), b"OUT") == page


@pytest.mark.slow
def test_tags_are_compared_with(packed, tmp_path):
    tags = (f"--tags={packed / 'tags949.csv'}", "--csv_encoding=cp949", "--tag_column=kind")
    found = cluster(packed, tmp_path / "out", *tags)
    assert found.returncode == 0 and found.stderr == ""
    assert "precision 1.000, recall 1.000, adjusted Rand index over all 1.000" in found.stdout
    assert "1 tags are for images not in the set: 'plain/gone.png'" in found.stdout
    assert "2 images have no tag" in found.stdout
    said = json.loads((tmp_path / "out" / "clusters.json").read_text("utf-8"))
    assert said["tags"]["classes"] == {"그림": {"ari": 1.0, "images": 49, "stray": 9}}
    page = (tmp_path / "out" / "clusters.html").read_text("utf-8")
    assert "Agreement with the tags" in page


@pytest.mark.slow
def test_removed_flags_are_named_and_change_nothing(packed, done, tmp_path):
    found = cluster(packed, tmp_path / "out", "--ablation", "--colour_space=hls")
    assert found.returncode == 0
    assert found.stderr.splitlines() == [
        "--colour_space was removed in 0.6 and has no effect",
        "--ablation was removed in 0.6 and has no effect",
    ]
    table = (tmp_path / "out" / "clusters.csv").read_bytes()
    assert table == (packed / "out" / "clusters.csv").read_bytes()


def test_one_class_of_one_split_or_all_at_once(packed, tmp_path):
    chosen = ("--classes=그림,plain", "--split=train", "--within=all", "--num_clusters=3")
    found = cluster(packed, tmp_path / "out", *chosen)
    assert found.returncode == 0, found.stderr
    table = read_csv(tmp_path / "out" / "clusters.csv")
    assert {line["class"] for line in table} == {"그림", "plain"}
    assert {line["split"] for line in table} == {"train"}
    said = json.loads((tmp_path / "out" / "clusters.json").read_text("utf-8"))
    assert [group["name"] for group in said["groups"]] == ["all images"]
    photos = sum(line["kind"] == "photo" for line in table)
    named = [line["path"] for line in table if "photo" in line["path"]]
    assert photos == len(set(named) - {NEIGHBOUR}) > 0


def test_a_set_larger_than_the_guard_says_so(packed, tmp_path, monkeypatch, capsys):
    flags.FLAGS.mark_as_parsed()
    small = cluster_command.clustering.ClusterOptions(max_rows=30)
    monkeypatch.setattr(cluster_command, "_options", lambda: small)
    opened = record_set.open_set(str(packed / "records"))
    assert cluster_command.run(opened, None, str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert (
        "plain: 30 of 40 images were clustered, the others assigned to the nearest centroid" in said
    )


def test_what_stands_there_already_is_kept(packed, tmp_path):
    edited = fakes.tree(tmp_path / "out", {"exclusions.csv": b"path\n"})
    refused = cluster(packed, edited)
    assert refused.returncode == 1 and "exists and is not an empty folder" in refused.stderr
    assert os.listdir(edited) == ["exclusions.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num_clusters=1"], "num_clusters must lie in 2..100, got 1"),
        (["--seed=-1"], "seed must be at least 0, got -1"),
        (["--classes=그림,cats"], "--classes must be one of few, other, plain, 그림, got 'cats'"),
        (["--colour_space=lab"], "--colour_space was removed in 0.6: "),
        (["--tags=TAGS"], "--tags must have the column 'tag', got 'path', 'kind' (--tag_column)"),
        (["--tags=TAGS", "--tag_column=kind", "--stray_tags=x"], "no image has the tag 'x'"),
        (["--tags=TWICE", "--tag_column=path"], "'a' is listed twice"),
        (["--tags=KOREAN"], "save it as UTF-8 or, for --labels or --tags, name the encoding"),
        (["--csv_encoding=cp949"], "--csv_encoding needs --tags"),
        (["--rows=3"], "--rows belongs to show"),
    ],
)
def test_wrong_use_is_a_line(packed, tmp_path, arguments, said):
    fakes.tree(tmp_path, {"twice.csv": b"path\na\na\n"})
    places = {"TAGS": packed / "tags.csv", "TWICE": tmp_path / "twice.csv"}
    places["KOREAN"] = packed / "tags949.csv"
    for name, path in places.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    refused = cluster(packed, tmp_path / "out", *arguments)
    assert refused.returncode == 2 and said in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not fakes.SHARED_DATA.is_dir(), reason="needs the shared images")
def test_photographs_among_real_illustrations(tmp_path):
    source, names = tmp_path / "source", ("vehicles", "clothing", "smileys", "tools")
    for name in names:
        shutil.copytree(fakes.SHARED_DATA / "illus20" / name, source / name)
    fakes.run_module("records.build_main", f"--source={source}", f"--output={tmp_path / 'records'}")
    tags = f"--tags={fakes.SHARED_DATA / 'illus20' / 'MANIFEST.csv'}"
    found = cluster(tmp_path, tmp_path / "out", tags, "--tag_column=kind")
    assert found.returncode == 0, found.stderr
    said = json.loads((tmp_path / "out" / "clusters.json").read_text("utf-8"))
    two = {group["name"] for group in said["groups"] if group["verdict"] == "two kinds"}
    assert two == {"vehicles", "clothing"}
    assert all(one["ari"] > 0.9 for one in said["tags"]["classes"].values())
    assert said["tags"]["precision"] > 0.97 and said["tags"]["recall"] > 0.97
