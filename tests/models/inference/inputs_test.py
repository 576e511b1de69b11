"""Every file that is named is found once, or said to be unusable."""

import io
import os
import tarfile
import zipfile

import pytest

from models.inference import inputs
from records.image import decode
from tests import fakes

FILES = {
    "가/1.png": fakes.encoded(fakes.pixels(1)),
    "b/\udcff 2.png": fakes.encoded(fakes.pixels(2)),
    "b/notes.txt": b"text",
    "b/.DS_Store": b"hidden",
}
KEYS = ["b/notes.txt", "b/\udcff 2.png", "가/1.png"]  # in the order of their bytes


@pytest.fixture
def folder(tmp_path):
    return fakes.tree(tmp_path / "사진", FILES)


def archived(path, kind):
    """Packs the files as a zip or a tar with the given compression."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for key, data in FILES.items():
                if key.isascii() or "가" in key:  # a zip of zipfile holds UTF-8 only
                    archive.writestr(key, data)
        return path
    with tarfile.open(path, f"w:{kind}") as archive:
        for key, data in FILES.items():
            entry = tarfile.TarInfo(key)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_a_folder_gives_all_but_hidden_files_in_order(folder):
    given = inputs.find([str(folder)])
    assert [file.key for file in given.files] == KEYS
    assert {file.source for file in given.files} == {str(folder)}
    assert [file.read() for file in given.files] == [FILES[key] for key in KEYS]
    assert given.num_hidden == 1


@pytest.mark.parametrize("kind", ["zip", "", "gz", "xz"])
def test_an_archive_of_any_name_gives_what_the_folder_does(tmp_path, kind):
    given = inputs.find([str(archived(tmp_path / "photos.jpg", kind))])
    keys = [key for key in KEYS if kind != "zip" or "\udcff" not in key]
    assert [file.key for file in given.files] == keys
    assert [file.read() for file in given.files] == [FILES[key] for key in keys]
    assert given.num_hidden == 1


def test_single_files_keep_their_order_and_names(folder, monkeypatch):
    monkeypatch.chdir(folder / "b")
    paths = [str(folder / "가/1.png"), "\udcff 2.png"]
    given = inputs.find(paths)
    assert [file.name for file in given.files] == paths
    assert [(file.source, file.key) for file in given.files] == [
        (str(folder / "가"), "1.png"),
        ("", "\udcff 2.png"),
    ]
    assert [file.read() for file in given.files] == [FILES["가/1.png"], FILES["b/\udcff 2.png"]]


def test_what_is_no_file_is_named_with_its_reason(folder):
    (folder / "b/gone.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "b/pipe.png")
    cut = archived(folder.parent / "cut.tar.gz", "gz")
    cut.write_bytes(cut.read_bytes()[:-40])
    given = inputs.find([str(cut), str(folder), str(folder / "b/pipe.png")])
    reasons = {file.name: file.error for file in given.files if file.error}
    assert reasons == {
        str(cut): "unreadable",
        f"{folder}/b/gone.png": "dangling_link",
        f"{folder}/b/pipe.png": "not_a_regular_file",
    }
    with pytest.raises(decode.ImageError, match=r"unreadable: .*cut.tar.gz"):
        given.files[0].read()
    with pytest.raises(decode.ImageError, match="not_a_regular_file"):
        given.files[-1].read()
    assert len(given.files) == 1 + len(KEYS) + 2 + 1
