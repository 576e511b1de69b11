"""What is written of clusters can be worked with: lists, tables, a page."""

import base64
import csv
import fnmatch
import io
import json
import os
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from records.cluster import clustering, report, separation
from records.cluster import rows as cluster_rows
from records.common import atomic
from tests.records import made, pictures

OPTIONS = clustering.ClusterOptions()
DRAWINGS, PHOTOS = 12, 6
ODD = ('쓴/"a", b.png', "한글/\udcff.jpg", "a/[*?].png", "a/new\nline.png", "<b>/&.png", "a/plain")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Returns (rows, features, groups) of a class of two kinds, where photos have odd names."""
    images = pictures.stacked(DRAWINGS, PHOTOS)
    names = [f"d/{number}".encode() for number in range(DRAWINGS)] + [os.fsencode(k) for k in ODD]
    every = [
        made.Row(name, image=image, split=("train", "test")[number % 4 == 0])
        for number, (name, image) in enumerate(zip(names, images, strict=True))
    ]
    folder = tmp_path_factory.mktemp("report") / "set"
    opened = made.record_set_of(folder, every, class_names=("<i>마스크",), image_size=pictures.SIDE)
    rows = cluster_rows.rows_of(opened, ["train", "test"])
    features = cluster_rows.features_of(rows)
    members = cluster_rows.groups_of(rows, within_class=True)
    return rows, features, cluster_rows.cluster_groups(rows, features, members, OPTIONS, "auto")


def said_of(grouped):
    settings = {"within": "class"}
    return {**report.contents(*grouped, settings), "tags": None}


def lines(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def group_of(rows, stray):
    """Returns a group of all rows, of which some are stray photographs."""
    is_stray = np.array([key in stray for key in rows.keys])
    clusters = clustering.Clusters(
        cluster=1 - is_stray.astype(np.int64),
        distance=np.zeros(len(rows)),
        margin=np.zeros(len(rows)),
        is_photo=is_stray,
        sample=np.arange(len(rows)),
    )
    apart = separation.Separation(separation.TWO_KINDS)
    return cluster_rows.Group("a", np.arange(len(rows)), clusters, apart, is_stray)


# --- the tables ---


def test_every_row_stands_in_the_table_once(grouped):
    rows, features, groups = grouped
    table = lines(report.clusters_csv(rows, features, groups))
    assert [line["path"] for line in table] == [
        key.encode("utf-8", "backslashreplace").decode() for key in rows.keys
    ]
    assert {line["split"] for line in table} == {"train", "test"}
    strays = {line["path"] for line in table if line["stray"] == "yes"}
    assert strays == {key.replace("\udcff", "\\udcff") for key in ODD}
    assert {(one["kind"], one["cluster"], one["stray"]) for one in table} == {
        ("photo", "0", "yes"),
        ("drawing", "1", "no"),
    }


def test_a_name_that_is_not_utf_8_is_named_beside_the_list(grouped):
    rows, _, groups = grouped
    listed, unlisted = report.exclusions(rows, groups)
    assert unlisted == {"not_utf8": ["한글/\udcff.jpg"], "part_of_file": []}
    assert sorted(path for path, _ in listed) == sorted(set(ODD) - {"한글/\udcff.jpg"})
    assert {reason for _, reason in listed} == {"stray photo in <i>마스크"}


NAMES = [*ODD, "cat/가.png", "cat/a.png", "a/x.png", "a/it's\\x41.png", "a/it'sA.png"]
NAMES += [os.fsdecode(f"cat/{letter}고양이.png".encode("cp949")) for letter in "가나다라마"]


@pytest.mark.parametrize("name", NAMES)
def test_the_flag_excludes_its_file_and_no_other(name):
    flag = report.exclude_flag(name)
    assert flag.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {flag}"], capture_output=True, check=True)
    pattern = os.fsdecode(done.stdout).removeprefix("--exclude=")
    assert [each for each in NAMES if fnmatch.fnmatchcase(each, pattern)] == [name]


def test_a_file_goes_only_with_all_its_images(tmp_path):
    keys = [b"a.png#0,0,4,4", b"a.png#4,0,8,4", b"b.png#0,0,4,4", b"c#d.png#1,1,2,2"]
    keys += [b"\xff.png#0,0,4,4", b"\xff.png#4,0,8,4", b"\xfe.png#0,0,4,4"]
    every = [made.Row(key, split="train") for key in keys]
    for key in (b"b.png#4,4,8,8", b"\xfe.png#4,4,8,8"):  # not looked at
        every.append(made.Row(key, split="test"))
    settings = {"boxes": True}
    opened = made.record_set_of(tmp_path / "set", every, settings=settings)
    rows = cluster_rows.rows_of(opened, ["train"])
    listed, unlisted = report.exclusions(rows, [group_of(rows, set(rows.keys))])
    assert [path for path, _ in listed] == ["a.png", "c#d.png"]
    assert unlisted == {
        "not_utf8": ["\udcff.png"],
        "part_of_file": ["b.png#0,0,4,4", "\udcfe.png#0,0,4,4"],
    }


# --- the summary and the page ---


def test_the_summary_counts_everything(grouped):
    said = said_of(grouped)
    (group,) = said["groups"]
    assert said["images"] == group["images"] == DRAWINGS + PHOTOS
    assert (said["proposed"], said["listed"]) == (PHOTOS, PHOTOS - 1)
    assert [one["images"] for one in group["clusters"]] == [PHOTOS, DRAWINGS]
    assert [one["tag"] for one in group["clusters"]] == ["photo", "drawing"]
    assert [one["classes"] for one in group["clusters"]] == [{"<i>마스크": 6}, {"<i>마스크": 12}]
    assert len(group["clusters"][0]["marks"]) == 3
    assert json.loads(atomic.json_bytes(said)) == said


def test_the_page_is_whole_in_itself_and_escapes_names(grouped):
    rows, features, groups = grouped
    page = report.page(said_of(grouped), rows, features, groups, "build 'a&b'").decode()
    assert "&lt;i&gt;마스크" in page and "<i>" not in page and "a&amp;b" in page
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
    shown = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]*)"', page)
    assert len(shown) == DRAWINGS + PHOTOS and all(name for _, name in shown)
    picture = dict((name, data) for data, name in shown)["d/3"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    np.testing.assert_array_equal(pixels, rows.pixels(rows.keys.index("d/3")))


def test_typical_pictures_come_before_doubtful_ones_and_none_twice(grouped):
    rows, _, (group,) = grouped
    inside = group.clusters.cluster == 1
    (_, nearest), *rest = report._examples(rows, group, inside)
    names = [name for _, pictures_of in [("", nearest), *rest] for _, name in pictures_of]
    assert len(names) == len(set(names)) == DRAWINGS
    typical = rows.keys.index(names[0])
    assert group.clusters.distance[typical] == group.clusters.distance[inside].min()


def test_the_chart_has_as_many_images_as_there_are():
    likeness = np.array([0.0, 0.02, 0.5, 0.98, 1.0])
    chart = report.likeness_chart(likeness, likeness > 0.6)
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"/>', chart)]
    assert heights == [90.0, 45.0, 90.0]  # two, one and two of at most two
    assert chart.count("line1") == 1
