"""An export is whole or not there, in every format."""

import os
import signal
import subprocess
import sys

import pytest

from records.common import atomic
from records.export import export, png_folders
from records.format import record_set
from tests import fakes
from tests.records import made


@pytest.mark.parametrize("file_format", export.FORMATS)
def test_an_output_that_exists_is_refused_and_left_alone(odd, tmp_path, file_format):
    output = tmp_path / "out"
    output.mkdir()
    (output / "precious").write_bytes(b"!")
    with pytest.raises(atomic.OutputError, match="exists and is not an empty folder"):
        export.export(odd, str(output), file_format)
    assert (output / "precious").read_bytes() == b"!"
    (output / "precious").unlink()
    export.export(odd, str(output), file_format)
    assert os.listdir(tmp_path) == ["out"]


def test_an_output_inside_the_set_is_refused(odd):
    with pytest.raises(atomic.OutputError, match="inside the record set"):
        export.export(odd, os.path.join(odd.folder, "out"), "folders")


def test_a_failed_export_leaves_nothing(odd, tmp_path, monkeypatch):
    monkeypatch.setattr(png_folders, "_MAX_BYTES", 20_000)  # names the file system refuses
    with pytest.raises(OSError):
        export.export(odd, str(tmp_path / "out"), "folders")
    assert os.listdir(tmp_path) == []


def test_a_killed_export_leaves_no_output_and_the_next_one_clears_up(tmp_path):
    folder = tmp_path / "set"
    made.record_set_of(folder, made.rows([b"%d" % number for number in range(3000)]))
    arguments = ("export", f"--records={folder}", "--format=folders", f"--output={tmp_path}/out")
    command = [sys.executable, "-m", "records.inspect_main", *arguments]
    process = subprocess.Popen(command, cwd=fakes.ROOT)
    temporary = tmp_path / ".tmp-out" / "train" / "a"
    while process.poll() is None and not (temporary.exists() and any(temporary.iterdir())):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(os.listdir(tmp_path)) == [".tmp-out", "set"]
    opened = record_set.open_set(str(folder))
    export.export(opened, str(tmp_path / "out"), "folders")
    assert sorted(os.listdir(tmp_path)) == ["out", "set"]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3000
