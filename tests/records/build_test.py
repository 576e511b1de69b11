"""Real builds: the same bytes every time, no file lost, no half set."""

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from records import audit, build, images, manifest, record_set, schema, sources, tfrecord, writer
from tests import fakes

OPTIONS = build.BuildOptions(policy=images.ImagePolicy(size=16))


def make(source, output, options=OPTIONS, num_workers=1, **listing):
    found = sources.from_folders(str(source), **listing)
    return build.build(found, str(output), options, num_workers=num_workers, show_progress=False)


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
        "notes.txt": "outside_class_folders",
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
            expected = images.preprocess(data, OPTIONS.policy)
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


def test_another_set_into_the_same_folder_is_refused(dirty_tree, tmp_path):
    make(dirty_tree, tmp_path / "out")
    other = dataclasses.replace(OPTIONS, seed=1)
    with pytest.raises(writer.BuildError, match="seed is 0, wanted 1"):
        make(dirty_tree, tmp_path / "out", other)
    with pytest.raises(writer.BuildError, match="the source images differ"):
        make(dirty_tree, tmp_path / "out", exclude=["*/000.png"])


@pytest.mark.parametrize("name", ["thesis.doc", "train-00000-of-00001.tfrecord", "rejects.jsonl"])
def test_a_folder_with_files_of_others_is_refused_and_left_alone(dirty_tree, tmp_path, name):
    fakes.tree(tmp_path / "out", {name: b"x"})
    with pytest.raises(writer.BuildError, match=f"holds '{name}' and is no unfinished build"):
        make(dirty_tree, tmp_path / "out")
    assert contents(tmp_path / "out") == {name: b"x"}


def test_an_unfinished_build_with_a_file_of_others_is_left_alone(dirty_tree, tmp_path):
    left = {".tmp-build": b"", "train-00000-of-00001.tfrecord": b"x", "z.doc": b"x"}
    fakes.tree(tmp_path / "out", left)
    with pytest.raises(writer.BuildError, match=r"holds 'z\.doc'"):
        make(dirty_tree, tmp_path / "out")
    assert contents(tmp_path / "out") == left


def test_two_builds_do_not_write_into_one_folder(dirty_tree, tmp_path):
    make(dirty_tree, tmp_path / "whole")
    fakes.tree(tmp_path / "out", {".tmp-build": b""})
    with open(tmp_path / "out/.tmp-build") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        with pytest.raises(writer.BuildError, match="another build is writing into"):
            make(dirty_tree, tmp_path / "out")
    make(dirty_tree, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_build_that_ended_between_the_look_and_the_lock_is_left_alone(
    dirty_tree, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    fakes.tree(output, {".tmp-build": b"", "train-00000-of-00001.tfrecord": b"finished"})

    def lock(*_):  # the other build ends just now
        (output / ".tmp-build").unlink()
        (output / manifest.FILE_NAME).write_bytes(b"finished")

    monkeypatch.setattr(build.fcntl, "flock", lock)
    with pytest.raises(writer.BuildError, match="another build has just ended in"):
        make(dirty_tree, output)
    assert (output / "train-00000-of-00001.tfrecord").read_bytes() == b"finished"


def test_a_finished_set_that_lost_a_file_is_not_called_there(dirty_tree, tmp_path):
    make(dirty_tree, tmp_path / "out")
    next((tmp_path / "out").glob("train-*.tfrecord")).unlink()
    with pytest.raises(writer.BuildError, match="holds this record set, but damaged"):
        make(dirty_tree, tmp_path / "out")


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


def test_a_tree_that_cannot_be_read_is_one_error(tmp_path, monkeypatch):
    root = fakes.class_tree(tmp_path / "tree", {"a": 3})
    monkeypatch.setattr(writer, "content_digests", lambda images, **_: [None] * len(images))
    with pytest.raises(writer.BuildError, match="none of 3 files can be read"):
        make(root, tmp_path / "out")


def test_nothing_usable_is_an_error_that_names_a_file(tmp_path):
    fakes.tree(tmp_path / "tree", {"a/1.jpg": b"x", "b/2.jpg": b""})
    with pytest.raises(
        writer.BuildError, match=r"none of 2 images can be used; the first, 'a/1.jpg': not_an_image"
    ):
        make(tmp_path / "tree", tmp_path / "out")


def test_a_file_that_changes_between_the_readings_stays_out(tmp_path, monkeypatch):
    root = fakes.class_tree(tmp_path / "tree", {"a": 3})
    path = str(root / "a/001.png")
    image = sources.SourceImage("a/001.png", path, "a")
    entry = writer.Entry(image, 0, b"digest of what was there before")
    job = writer.ShardJob(str(tmp_path / "shard"), (entry,), OPTIONS.policy)
    result = writer.write_shard(job, lambda count: None)
    assert result.shard is None and result.rejects[0].reason == "changed_during_build"


def test_a_plain_tensorflow_reader_reads_the_shards(dirty_tree, tmp_path):
    from records.backend import tf

    make(dirty_tree, tmp_path / "out")
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "key": tf.io.FixedLenFeature([], tf.string),
    }
    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tfrecord"))
    parsed = [tf.io.parse_single_example(x, spec) for x in tf.data.TFRecordDataset(shards)]
    assert len({item["key"].numpy() for item in parsed}) == 91
    assert {len(item["image"].numpy()) for item in parsed} == {16 * 16 * 3}


def written(output):
    return [*output.glob("*.tfrecord"), *output.glob("*.npz")] if output.exists() else []


def test_killed_while_writing_leaves_no_set_and_builds_equal(tmp_path):
    root = fakes.class_tree(tmp_path / "tree", {"a": 700, "b": 700}, size=64)
    whole = tmp_path / "whole"
    make(root, whole)
    num_files = len(written(whole))
    assert num_files == 12  # shards and indexes: that many moments to kill at
    output = tmp_path / "out"
    arguments = (f"--source={root}", f"--output={output}", "--image_size=16", "--num_workers=1")
    command = [sys.executable, "-m", "records.build_main", *arguments]
    killed_at = []
    for wanted in (12, 11, 10, 9, 8, 6, 4, 2, 1):
        shutil.rmtree(output, ignore_errors=True)
        process = subprocess.Popen(command, cwd=fakes.ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(written(output)) < wanted:
            os.sched_yield()
        workers = workers_of(process.pid)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
            os.sched_yield()
        assert not any(alive(worker) for worker in workers)
        if (output / manifest.FILE_NAME).exists():  # it was faster: then the set must be whole
            assert record_set.open_set(str(output)) and not audit.verify(str(output))
            continue
        killed_at.append(len(written(output)))
        for shard in output.glob("*.tfrecord"):
            assert all(isinstance(item, bytes) for _, item in tfrecord.scan(shard.read_bytes()))
    assert len(killed_at) >= 3 and max(killed_at) >= 4, killed_at
    assert subprocess.run(command, cwd=fakes.ROOT, capture_output=True).returncode == 0
    assert contents(output).keys() - {".tmp-build"} == contents(whole).keys()
    for name, data in contents(whole).items():
        assert (output / name).read_bytes() == data


def test_a_killed_worker_is_an_error_and_not_a_hang(tmp_path):
    root = fakes.class_tree(tmp_path / "tree", {"a": 1500, "b": 1500})
    command = [sys.executable, "-m", "records.build_main", f"--source={root}", "--num_workers=2"]
    process = subprocess.Popen(
        [*command, f"--output={tmp_path / 'out'}", "--image_size=512"],
        cwd=fakes.ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (victims := workers_of(process.pid)):
        os.sched_yield()
    os.kill(victims[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and f"process {victims[0]} ended by SIGKILL" in errors
    assert not (tmp_path / "out" / manifest.FILE_NAME).exists()


def test_ctrl_c_stops_with_one_line_and_130(tmp_path):
    root = fakes.class_tree(tmp_path / "tree", {"a": 700, "b": 700})
    output = tmp_path / "out"
    command = [sys.executable, "-m", "records.build_main", f"--source={root}", "--num_workers=2"]
    process = subprocess.Popen(
        [*command, f"--output={output}", "--image_size=256"],
        cwd=fakes.ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not written(output):
        os.sched_yield()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "build_main.py: error: stopped; the same command starts again\n"
    assert not (output / manifest.FILE_NAME).exists()


def alive(process):
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def workers_of(parent):
    """Returns the processes below `parent` that decode images."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as line:
                is_child = stat.read().rsplit(") ", 1)[1].split()[1] == str(parent)
                if is_child and "spawn_main" in line.read():
                    found.append(int(name))
        except (OSError, IndexError):
            continue
    return found


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
    options = dataclasses.replace(OPTIONS, ratios=ratios)
    build.build(listing, str(tmp_path / "out"), options, num_workers=1, show_progress=False)
    opened = record_set.open_set(str(tmp_path / "out"))
    assert opened.manifest.domains == ("손",)
    example = opened.example("train", 0)
    assert example.domain == "손".encode() and example.group.startswith(b"person ")
    groups = {s: {opened.example(s, r).group for r in range(len(opened.index(s)))} for s in ratios}
    assert not groups["train"] & groups["test"]
    assert isinstance(example, schema.Example)
