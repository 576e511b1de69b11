"""Real builds: the same bytes every time, no file lost, no half set."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from records.builder import accounting, build, layout, shard_writer
from records.format import example as schema
from records.format import record_set
from records.image import decode
from records.source import listing as sources
from records.source import rules, trees
from tests import fakes

OPTIONS = build.BuildOptions(policy=decode.ImagePolicy(size=16))


def make(source, output, options=OPTIONS, num_workers=1, exclude=(), **how):
    found = sources.from_folders(str(source), exclude=exclude)
    return build.build(
        found, str(output), options, num_workers=num_workers, show_progress=False, **how
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def dirty_tree(tmp_path_factory):
    """60 + 30 good images and one of each thing that goes wrong."""
    root = fakes.class_tree(tmp_path_factory.mktemp("tree"), {"worn 쓴": 60, "unworn": 30})
    return fakes.tree(
        root,
        {
            "unworn/copy.png": (root / "worn 쓴/000.png").read_bytes(),  # equal bytes, other label
            "unworn/page.html": b"<html>",
            "unworn/empty.jpg": b"",
            "worn 쓴/half.jpg": fakes.encoded(fakes.pixels(9, 64), "JPEG")[:700],
            "worn 쓴/.hidden": b"x",
            "notes.txt": b"x",
        },
    )


def test_every_file_is_accounted_for(dirty_tree, tmp_path):
    built = make(dirty_tree, tmp_path / "out")
    assert built.manifest.accounting == {
        "": {"found": 1, "written": 0, "quarantined": 0, "excluded": 1},
        "unworn": {"found": 33, "written": 31, "quarantined": 2, "excluded": 0},
        "worn 쓴": {"found": 62, "written": 60, "quarantined": 1, "excluded": 1},
    }
    files = [path for path in dirty_tree.rglob("*") if path.is_file()]
    assert len(files) == sum(c["found"] for c in built.manifest.accounting.values())
    lines = (tmp_path / "out" / "rejects.jsonl").read_text("utf-8").splitlines()
    reasons = {json.loads(line)["key"]: json.loads(line)["reason"] for line in lines}
    assert reasons == {
        "notes.txt": "no_label",
        "unworn/empty.jpg": "empty",
        "unworn/page.html": "not_an_image",
        "worn 쓴/.hidden": "hidden",
        "worn 쓴/half.jpg": "truncated",
    }
    assert built.label_conflicts == (("unworn/copy.png", "worn 쓴/000.png"),)


def test_rows_hold_the_pixels_of_their_files(dirty_tree, tmp_path):
    make(dirty_tree, tmp_path / "out")
    opened = record_set.open_set(str(tmp_path / "out"))
    seen = 0
    for split in opened.manifest.splits:
        index = opened.index(split)
        for row in range(len(index)):
            example = opened.example(split, row)
            data = (dirty_tree / os.fsdecode(example.key)).read_bytes()
            expected = decode.preprocess(data, OPTIONS.policy)
            np.testing.assert_array_equal(opened.pixels(split, row), expected)
            name = opened.manifest.class_names[example.label]
            assert os.fsdecode(example.key).startswith(name) and example.label == index.label[row]
            seen += 1
    assert seen == 91


def test_exact_duplicates_stand_in_one_split(tmp_path):
    root = fakes.class_tree(tmp_path / "tree", {"a": 20, "b": 20})
    for name in ("a", "b"):
        for number in range(20):
            data = (root / f"{name}/{number:03d}.png").read_bytes()
            fakes.tree(root, {f"{name}/again {number}.png": data})
    make(root, tmp_path / "out")
    opened = record_set.open_set(str(tmp_path / "out"))
    where = {}
    for split in opened.manifest.splits:
        for digest in opened.index(split).source_sha256:
            where.setdefault(digest.tobytes(), set()).add(split)
    assert len(where) == 40 and all(len(splits) == 1 for splits in where.values())


@pytest.mark.parametrize("num_workers", [2, 3])
def test_bytes_do_not_depend_on_the_workers(dirty_tree, tmp_path, num_workers):
    make(dirty_tree, tmp_path / "one")
    make(dirty_tree, tmp_path / "more", num_workers=num_workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "more")


def test_bytes_do_not_depend_on_folder_order_or_clock(dirty_tree, tmp_path):
    files = sorted(path for path in dirty_tree.rglob("*") if path.is_file())
    for path in reversed(files):
        fakes.tree(tmp_path / "tree", {str(path.relative_to(dirty_tree)): path.read_bytes()})
    os.utime(tmp_path / "tree/notes.txt", (4e9, 4e9))
    make(dirty_tree, tmp_path / "one")
    make(tmp_path / "tree", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_build_of_the_same_set_does_nothing(dirty_tree, tmp_path):
    first = make(dirty_tree, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = make(dirty_tree, tmp_path / "out")
    assert first.fresh and not again.fresh and again.manifest == first.manifest
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def seeded(seed):
    return dataclasses.replace(OPTIONS, splits=layout.SplitOptions(seed=seed))


def test_another_set_into_the_same_folder_is_refused(dirty_tree, tmp_path):
    make(dirty_tree, tmp_path / "out")
    with pytest.raises(shard_writer.BuildError, match="seed is 0, now 1"):
        make(dirty_tree, tmp_path / "out", seeded(1))
    with pytest.raises(shard_writer.BuildError, match="the source images differ"):
        make(dirty_tree, tmp_path / "out", exclude=["*/000.png"])
    assert not (tmp_path / "out.building").exists()


def test_a_set_is_replaced_in_one_step_when_that_is_asked_for(dirty_tree, tmp_path):
    output = tmp_path / "out"
    make(dirty_tree, output)
    before = output.stat().st_ino
    make(dirty_tree, output, seeded(1), replace=True)
    make(dirty_tree, tmp_path / "other", seeded(1))
    assert contents(output) == contents(tmp_path / "other") and output.stat().st_ino != before
    assert not (tmp_path / "out.building").exists()


def test_a_link_to_a_folder_stays_a_link(dirty_tree, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    make(dirty_tree, tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real/manifest.json").exists()


@pytest.mark.parametrize("replace", [False, True])
def test_what_appears_in_the_output_meanwhile_is_not_replaced(
    dirty_tree, tmp_path, monkeypatch, replace
):
    finish = build._finish

    def slow(*arguments):
        fakes.tree(tmp_path / "out", {"thesis.doc": b"x"})
        return finish(*arguments)

    monkeypatch.setattr(build, "_finish", slow)
    with pytest.raises(
        shard_writer.BuildError, match=r"is not a record set, it holds 'thesis\.doc'"
    ):
        make(dirty_tree, tmp_path / "out", replace=replace)
    assert contents(tmp_path / "out") == {"thesis.doc": b"x"}


def test_another_unfinished_build_survives_a_build_that_has_nothing_to_do(dirty_tree, tmp_path):
    make(dirty_tree, tmp_path / "out")
    refused = dataclasses.replace(OPTIONS, splits=layout.SplitOptions(on_conflict="refuse"))
    with pytest.raises(shard_writer.BuildError, match="different labels"):
        make(dirty_tree, tmp_path / "out", refused, replace=True)
    assert not make(dirty_tree, tmp_path / "out").fresh
    assert list((tmp_path / "out.building/chunks").iterdir())


def test_an_unfinished_build_of_other_pixels_is_not_thrown_away_unasked(dirty_tree, tmp_path):
    options = dataclasses.replace(OPTIONS, splits=layout.SplitOptions(on_conflict="refuse"))
    with pytest.raises(
        shard_writer.BuildError, match="1 groups of equal images have different labels"
    ):
        make(dirty_tree, tmp_path / "out", options)
    larger = dataclasses.replace(options, policy=decode.ImagePolicy(size=17))
    with pytest.raises(
        shard_writer.BuildError, match=r"unfinished build .*\(image_size is 16, now 17\)"
    ):
        make(dirty_tree, tmp_path / "out", larger)
    assert make(dirty_tree, tmp_path / "out").resumed == (1, 4)  # only the splits are others now
    make(dirty_tree, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_set_that_lost_a_file_is_not_called_there(dirty_tree, tmp_path):
    make(dirty_tree, tmp_path / "out")
    next((tmp_path / "out").glob("train-*.tfrecord")).unlink()
    with pytest.raises(shard_writer.BuildError, match="holds this record set, but it is damaged"):
        make(dirty_tree, tmp_path / "out")


def test_an_iterator_of_arrays_gives_the_set_of_a_folder(tmp_path):
    pixels = {f"{'ab'[n % 2]}/{n}.png": fakes.pixels(n, 20) for n in range(40)}
    files = {key: decode.encode(image, "png") for key, image in pixels.items()}
    make(fakes.tree(tmp_path / "tree", files), tmp_path / "one")
    tree = trees.from_items((key, decode.encode(image, "png")) for key, image in pixels.items())
    listing = sources.list_images(tree, rules.by_folder())
    build.build(listing, str(tmp_path / "two"), OPTIONS, num_workers=2, show_progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_class_names_that_are_not_utf8_survive(tmp_path):
    for name in (b"caf\xe9", b"tea"):
        folder = os.fsencode(tmp_path) + b"/tree/" + name
        os.makedirs(folder)
        for number in range(4):
            with open(folder + b"/%d.png" % number, "wb") as file:
                file.write(fakes.encoded(fakes.pixels(number + 9 * len(name))))
    make(tmp_path / "tree", tmp_path / "out")
    opened = record_set.open_set(str(tmp_path / "out"))
    assert [os.fsencode(name) for name in opened.manifest.class_names] == [b"caf\xe9", b"tea"]
    arguments = ("records.inspect_main", "show", f"--records={tmp_path}/out")
    shown = fakes.run_module(*arguments)
    assert shown.returncode == 0 and "caf\\udce9" in shown.stdout


def test_nothing_usable_is_an_error_that_names_a_file(tmp_path):
    fakes.tree(tmp_path / "tree", {"a/1.jpg": b"x", "b/2.jpg": b""})
    with pytest.raises(
        shard_writer.BuildError,
        match=r"none of 2 images can be used; the first, 'a/1.jpg': not_an_image",
    ):
        make(tmp_path / "tree", tmp_path / "out")


def test_a_file_that_went_away_after_the_listing_is_named(tmp_path):
    root = fakes.class_tree(tmp_path / "tree", {"a": 9})
    listing = sources.from_folders(str(root))
    (root / "a/001.png").unlink()
    os.mkfifo(root / "a/001.png")
    (root / "a/002.png").unlink()
    build.build(listing, str(tmp_path / "out"), OPTIONS, num_workers=1, show_progress=False)
    found = {r.key: r.reason for r in accounting.read_omitted(str(tmp_path / "out"))}
    assert found == {"a/001.png": "not_a_regular_file", "a/002.png": "unreadable"}


def test_a_plain_tensorflow_reader_reads_the_shards(dirty_tree, tmp_path):
    from records.common.backend import tf

    make(dirty_tree, tmp_path / "out")
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "key": tf.io.FixedLenFeature([], tf.string),
    }
    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tfrecord"))
    parsed = [tf.io.parse_single_example(x, spec) for x in tf.data.TFRecordDataset(shards)]
    assert len({item["key"].numpy() for item in parsed}) == 91
    assert {len(item["image"].numpy()) for item in parsed} == {16 * 16 * 3}


def test_build_workers_do_not_load_tensorflow():
    code = "import sys, records.build_main; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=fakes.ROOT, capture_output=True)
    assert done.stdout == b"False\n"


def test_records_name_group_and_domain(tmp_path):
    fakes.class_tree(tmp_path / "tree", {"a": 6})
    rows = "".join(f"a/{n:03d}.png,A,person {n // 2},손\n" for n in range(6))
    (tmp_path / "labels.csv").write_text("path,label,group,domain\n" + rows, "utf-8")
    listing = sources.from_csv(str(tmp_path / "tree"), str(tmp_path / "labels.csv"))
    ratios = {"train": 0.5, "test": 0.5}
    options = dataclasses.replace(OPTIONS, splits=layout.SplitOptions(ratios))
    build.build(listing, str(tmp_path / "out"), options, num_workers=1, show_progress=False)
    opened = record_set.open_set(str(tmp_path / "out"))
    assert opened.manifest.domains == ("손",)
    example = opened.example("train", 0)
    assert example.domain == "손".encode() and example.group.startswith(b"person ")
    groups = {s: {opened.example(s, r).group for r in range(len(opened.index(s)))} for s in ratios}
    assert not groups["train"] & groups["test"]
    assert isinstance(example, schema.Example)
