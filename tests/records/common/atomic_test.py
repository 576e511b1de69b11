"""Tests for records.common.atomic."""

import errno
import hashlib
import json
import os

import pytest

from records.common import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    seen = []

    def pieces():
        for piece in (b"ab", b"", b"c"):
            seen.append((tmp_path / "file").exists())
            yield piece

    digest = atomic.write_stream(str(tmp_path / "file"), pieces())
    assert (tmp_path / "file").read_bytes() == b"abc" and not any(seen)
    assert digest == hashlib.sha256(b"abc").hexdigest() == atomic.sha256_of(str(tmp_path / "file"))
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("write", [atomic.write_whole, atomic.write_unsynced])
def test_a_file_is_replaced_in_one_step(tmp_path, write):
    (tmp_path / "file").write_bytes(b"old")
    before = (tmp_path / "file").stat().st_ino
    write(str(tmp_path / "file"), b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_ino != before


def test_an_error_names_the_file_and_what_was_written(tmp_path):
    def pieces():
        yield b"123"
        raise OSError(errno.ENOSPC, "No space left")

    path = str(tmp_path / "file")
    with pytest.raises(OSError, match=r"No space left \(after 3 bytes\)") as caught:
        atomic.write_stream(path, pieces())
    assert caught.value.filename == path and not os.path.exists(path)


@pytest.mark.parametrize("value", [{"a": [1, None]}, {"손": "\udc80"}, {}])
def test_json_is_utf_8_and_comes_back(value):
    data = atomic.json_bytes(value)
    assert data.endswith(b"\n") and json.loads(data.decode("utf-8")) == value


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_gets_its_name_at_the_end(tmp_path, kind):
    target = tmp_path / "above" / "out"
    with atomic.output(str(target)) as temporary:
        if kind == "file":
            with open(temporary, "w") as file:
                file.write("x")
        else:
            os.mkdir(temporary)
        assert not target.exists()
    assert target.is_dir() == (kind == "folder") and names(target.parent) == ["out"]


def test_an_output_whose_work_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), atomic.output(str(tmp_path / "out")) as temporary:
        os.mkdir(temporary)
        raise KeyError
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".tmp-out").mkdir()
    (tmp_path / ".tmp-out/half").write_bytes(b"x")
    with atomic.output(str(tmp_path / "out")) as temporary, open(temporary, "wb"):
        pass
    assert names(tmp_path) == ["out"] and (tmp_path / "out").is_file()


def test_an_existing_output_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x").write_bytes(b"x")
    (tmp_path / "link").symlink_to("nowhere")
    filled = "exists and is not an empty folder"
    for name, what in {
        "file": "exists already",
        "folder": filled,
        "link": "exists already",
    }.items():
        message = f"{name} {what}"
        with pytest.raises(atomic.OutputError, match=message), atomic.output(str(tmp_path / name)):
            raise AssertionError
