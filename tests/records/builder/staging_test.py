"""Tests for records.builder.staging."""

import fcntl
import json
import os

import pytest

from records.builder import staging
from records.builder.shard_writer import BuildError
from tests import fakes

SETTINGS = {"pixels": {"image_size": 16}, "all": {"image_size": 16, "seed": 0}}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def working(output):
    return output.with_name("out.building")


def begin(folder, settings=SETTINGS, restart=False):
    staging.begin(folder, settings, restart=restart)


def finish(folder, data=b"{}"):
    """Puts a finished set into the working folder."""
    with open(os.path.join(folder, staging.SET, "manifest.json"), "wb") as file:
        file.write(data)


@pytest.mark.parametrize("name", ["thesis.doc", "train-00000-of-00001.tfrecord", "rejects.jsonl"])
def test_an_output_with_other_files_is_refused(output, name):
    fakes.tree(output, {name: b"x"})
    with pytest.raises(BuildError, match=f"is not a record set, it holds '{name}'"):
        staging.check_output(str(output), replace=True)


def test_other_files_in_a_set_are_not_replaced(output):
    fakes.tree(output, {"manifest.json": b"{}", "thesis.doc": b"x"})
    staging.check_output(str(output), replace=False)
    with pytest.raises(BuildError, match=r"holds 'thesis\.doc', which does not belong"):
        staging.check_output(str(output), replace=True)


def test_a_file_is_not_an_output(output):
    output.write_bytes(b"x")
    with pytest.raises(BuildError, match="exists and is not a folder"):
        staging.check_output(str(output), replace=True)


def test_a_folder_is_locked_by_one_process(output):
    fakes.tree(working(output), {"holder.json": b'{"pid": 7, "host": "there"}'})
    descriptor = os.open(working(output), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    message = "another build is writing into .*: process 7 on there"
    with pytest.raises(BuildError, match=message), staging.locked(str(output)):
        raise AssertionError
    os.close(descriptor)
    with staging.locked(str(output)) as folder:
        assert json.loads((working(output) / "holder.json").read_text())["pid"] == os.getpid()
        assert folder == str(working(output))


def test_a_working_folder_that_cannot_be_made_is_an_error():
    with pytest.raises(FileNotFoundError), staging.locked("/proc/out"):
        pass  # where making a folder fails as if its parent were missing


def test_a_folder_that_its_owner_removes_while_we_lock_it_is_made_again(output, monkeypatch):
    working(output).mkdir()
    flock = fcntl.flock

    def lock(*arguments):
        monkeypatch.setattr(staging.fcntl, "flock", flock)
        working(output).rmdir()
        return flock(*arguments)

    monkeypatch.setattr(staging.fcntl, "flock", lock)
    with staging.locked(str(output)) as folder:
        assert os.path.isdir(folder)


@pytest.mark.parametrize("name", ["thesis.doc", "manifest.json", "set"])
def test_a_working_folder_of_others_is_refused_and_left_alone(output, name):
    fakes.tree(working(output), {name: b"x"})
    with (
        pytest.raises(BuildError, match=f"holds '{name}' and was not left by a build"),
        staging.locked(str(output)),
    ):
        raise AssertionError
    assert (working(output) / name).read_bytes() == b"x"


@pytest.mark.parametrize("left", [["holder.json"], ["build.json", "holder.json"]])
def test_a_working_folder_that_was_being_removed_is_taken(output, left):
    fakes.tree(working(output), {name: b"{}" for name in left})
    with staging.locked(str(output)) as folder:
        begin(folder)
    assert not working(output).exists()


def test_only_a_folder_with_chunks_outlives_a_failed_build(output):
    for has_chunks in (False, True):
        with pytest.raises(KeyError), staging.locked(str(output)) as folder:
            begin(folder)
            if has_chunks:
                fakes.tree(working(output), {"chunks/00000.images": b"x"})
            raise KeyError
        assert working(output).exists() == has_chunks
    assert staging.settings_of_left(str(working(output))) == SETTINGS


def test_chunks_of_other_pixels_are_only_discarded_when_asked(output):
    fakes.tree(working(output), {"chunks/00000.images": b"x", "holder.json": b"{}"})
    with staging.locked(str(output)) as folder:
        begin(folder)
        begin(folder, {**SETTINGS, "all": {"seed": 1}})  # the splits may differ
        other = {"pixels": {"image_size": 17}, "all": {}}
        with pytest.raises(BuildError, match=r"unfinished build .*image_size is 16, now 17"):
            begin(folder, other)
        begin(folder, other, restart=True)
        assert os.listdir(os.path.join(folder, staging.CHUNKS)) == []


def test_the_switch_gives_the_set_its_name(output):
    with staging.locked(str(output)) as folder:
        begin(folder)
        finish(folder)
        staging.switch(folder, str(output), replace=False)
    assert os.listdir(output) == ["manifest.json"] and not working(output).exists()


@pytest.mark.parametrize("replace", [False, True])
def test_another_set_is_exchanged_only_when_asked(output, replace):
    fakes.tree(output, {"manifest.json": b"old"})
    with staging.locked(str(output)) as folder:
        begin(folder)
        finish(folder, b"new")
        if replace:
            staging.switch(folder, str(output), replace=True)
        else:
            with pytest.raises(BuildError, match="another set has appeared"):
                staging.switch(folder, str(output), replace=False)
    assert (output / "manifest.json").read_bytes() == (b"new" if replace else b"old")


@pytest.mark.parametrize(
    ("existing", "wanted", "sentences"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": 2}, {"a": 3, "c": 4}, ["a is 1, now 3", "b is 2, now None",
                                              "c is None, now 4"]),
        ({"a": "x" * 300}, {}, [f"a is '{'x' * 199}... (302 characters), now None"]),
    ],
)  # fmt: skip
def test_differences_are_named(existing, wanted, sentences):
    assert staging.difference(existing, wanted) == sentences
