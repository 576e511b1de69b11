import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.training import checkpoints
from records.common import atomic
from tests import fakes

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.float64(np.nan).reshape(()),
    np.array(7, np.int64),
    np.zeros((0, 4), np.uint8),
    np.array([True, False]),
    np.full(3, 1.5, np.float16),
]


def saved(step, folder):
    checkpoint = checkpoints.Checkpoint(step, {"한": [1, 2.5, None]}, ARRAYS)
    checkpoints.save(checkpoint, str(folder))
    return os.path.join(folder, f"checkpoint-{step:010d}")


def test_what_is_saved_comes_back_and_two_are_kept(tmp_path):
    assert checkpoints.newest(str(tmp_path / "none")) is None
    for step in (5, 30, 200):
        saved(step, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-0000000030", "checkpoint-0000000200"]
    found = checkpoints.newest(str(tmp_path))
    assert (found.step, found.state) == (200, {"한": [1, 2.5, None]})
    for array, was in zip(found.arrays, ARRAYS, strict=True):
        assert array.dtype == was.dtype
        np.testing.assert_array_equal(array, was)
    assert checkpoints.at(30, str(tmp_path)).step == 30
    checkpoints.remove(str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", [0, 3, 25, 40, 200, -40, -1])
def test_a_flipped_byte_is_found_and_the_one_before_taken(tmp_path, place):
    saved(1, tmp_path)
    path = saved(2, tmp_path)
    data = bytearray(Path(path).read_bytes())
    data[place] ^= 0x40
    Path(path).write_bytes(data)
    told = []
    assert checkpoints.newest(str(tmp_path), told.append).step == 1
    assert len(told) == 1 and path in told[0] and "is damaged" in told[0]


def test_every_cut_and_an_added_byte_are_found(tmp_path):
    saved(1, tmp_path)
    path = Path(saved(2, tmp_path))
    whole = path.read_bytes()
    for data in [whole[:length] for length in range(len(whole))] + [whole + b"x"]:
        path.write_bytes(data)
        assert checkpoints.newest(str(tmp_path), lambda _: None).step == 1


def test_none_that_is_whole_is_an_error(tmp_path):
    for step in (1, 2):
        Path(saved(step, tmp_path)).write_bytes(b"torn")
    with pytest.raises(
        checkpoints.CheckpointError,
        match=r"all 2 checkpoints in .* are damaged; remove them",
    ):
        checkpoints.newest(str(tmp_path), lambda _: None)
    with pytest.raises(checkpoints.CheckpointError, match=r"0000000001 is damaged"):
        checkpoints.at(1, str(tmp_path))


def test_a_file_that_was_being_written_is_none(tmp_path):
    saved(1, tmp_path)
    (tmp_path / f"{atomic.TEMPORARY_PREFIX}checkpoint-0000000002").write_bytes(b"half")
    assert checkpoints.newest(str(tmp_path)).step == 1


def test_objects_are_never_read(tmp_path):
    path = Path(saved(1, tmp_path))
    content = path.read_bytes()[:-32].replace(b'"<f4"', b'"|O8"')
    path.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(checkpoints.CheckpointError, match="is damaged: cannot create an OBJECT"):
        checkpoints.at(1, str(tmp_path))


FULL = """
import sys, numpy
from models.training import checkpoints
folder = sys.argv[1]
checkpoints.save(checkpoints.Checkpoint(1, {}, [numpy.zeros(1000)]), folder)
try:
    checkpoints.save(checkpoints.Checkpoint(2, {}, [numpy.zeros(1 << 20)]), folder)
except OSError as error:
    print("refused", error)
print(checkpoints.newest(folder).step)
"""


def test_a_full_disk_keeps_the_old_one_and_leaves_nothing_behind(tmp_path):
    # A limit on the size of files stands for the disk.
    command = f"ulimit -f 1000; trap '' XFSZ; exec {sys.executable} -c '{FULL}' {tmp_path}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=fakes.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("refused") and done.stdout.endswith("\n1\n"), done.stdout
    assert "checkpoint-0000000002" in done.stdout
    assert os.listdir(tmp_path) == ["checkpoint-0000000001"]
