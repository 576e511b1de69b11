import errno
import gzip
import io
import os
import stat
import tarfile
import unicodedata
import zipfile

import pytest

from records.image import decode
from records.source import trees
from tests import fakes

DATA = {"b/2.png": b"two" * 100, "a/한 1.png": b"one", "a.png": b"three"}
ORDER = ["a.png", "a/한 1.png", "b/2.png"]  # by bytes: `.` stands before `/`


def write_zip(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for key, data in files.items():
            archive.writestr(key, data)


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data, change in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            archive.addfile(info, io.BytesIO(data))


def as_is(info):
    pass


def changed(**fields):
    return lambda info: [setattr(info, name, value) for name, value in fields.items()]


def make(kind, root, files):
    """Returns the same files as a tree of each kind."""
    if kind == "folder":
        return trees.open_tree(str(fakes.tree(root / "tree", files)))
    if kind == "iterator":
        return trees.from_items(files.items())
    path = str(root / f"x.{kind}")
    if kind.startswith("zip"):
        method = zipfile.ZIP_DEFLATED if kind == "zip" else zipfile.ZIP_STORED
        write_zip(path, files, compression=method)
    else:
        members = [(name, data, as_is) for name, data in files.items()]
        write_tar(path, members, "w" if kind == "tar" else f"w:{kind.partition('.')[2]}")
    return trees.open_tree(path)


@pytest.mark.parametrize("kind", ["folder", "iterator", "zip", "zip0", "tar", "tar.gz", "tar.xz"])
def test_the_same_files_whatever_holds_them(tmp_path, kind):
    tree = make(kind, tmp_path, DATA)
    entries = list(tree.entries())
    assert [os.fsdecode(entry.key) for entry in entries] == ORDER
    assert [entry.reason for entry in entries] == ["", "", ""]
    for key, data in DATA.items():
        assert tree.read(key) == data
    for entry in entries:  # by its place alone, as a worker does
        assert trees.read(tree.path, entry.key, entry.span) == DATA[os.fsdecode(entry.key)]
    with pytest.raises(decode.ImageError, match="unreadable"):
        tree.read("nowhere.png")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_stamp_changes_with_the_file(tmp_path, kind):
    before = {entry.key: entry.stamp for entry in make(kind, tmp_path / "1", {"a": b"1"}).entries()}
    again = {entry.key: entry.stamp for entry in make(kind, tmp_path / "2", {"a": b"22"}).entries()}
    assert before.keys() == again.keys() and before != again


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("1", "2"):
        (tmp_path / name).mkdir()


def test_hostile_tars_are_named_and_not_followed(tmp_path):
    members = [
        ("../up.png", b"x", as_is),
        ("/etc/passwd", b"x", as_is),
        ("a/../../up2.png", b"x", as_is),
        ("link.png", b"", changed(type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        ("hard.png", b"", changed(type=tarfile.LNKTYPE, linkname="good.png")),
        ("pipe.png", b"", changed(type=tarfile.FIFOTYPE)),
        ("null.png", b"", changed(type=tarfile.CHRTYPE)),
        ("__MACOSX/._good.png", b"x", as_is),
        ("./good.png", b"good", as_is),
    ]
    for mode, name in (("w", "x.tar"), ("w:gz", "x.tgz")):
        write_tar(tmp_path / name, members, mode)
        tree = trees.open_tree(str(tmp_path / name))
        assert {os.fsdecode(entry.key): entry.reason for entry in tree.entries()} == {
            "../up.png": "unsafe_name",
            "/etc/passwd": "unsafe_name",
            "a/../../up2.png": "unsafe_name",
            "link.png": "link_in_archive",
            "hard.png": "link_in_archive",
            "pipe.png": "not_a_regular_file",
            "null.png": "not_a_regular_file",
            "__MACOSX/._good.png": "hidden",
            "good.png": "",
        }
        assert tree.read("good.png") == b"good"


def test_hostile_zips_are_named_and_not_followed(tmp_path):
    path = tmp_path / "x.zip"
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../up.png", b"x")
        archive.writestr("..\\up2.png", b"x")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.png", bytes(20 << 20))
        archive.writestr("lzma.png", b"x", zipfile.ZIP_LZMA)
        archive.writestr("good.png", b"good")
    tree = trees.open_tree(str(path))
    assert {os.fsdecode(entry.key): entry.reason for entry in tree.entries()} == {
        "../up.png": "unsafe_name",
        "..\\up2.png": "unsafe_name",
        "link.png": "link_in_archive",
        "bomb.png": "bomb",
        "lzma.png": "unsupported_compression",
        "good.png": "",
    }
    assert tree.read("good.png") == b"good"


def test_names_of_a_zip_that_are_not_marked_are_their_bytes(tmp_path):
    write_zip(tmp_path / "x.zip", {"aa.png": b"1", "bb.png": b"2"})
    data = (tmp_path / "x.zip").read_bytes()
    data = data.replace(b"aa.png", b"\xea\xb0\x80png").replace(b"bb.png", b"\xff\xfe.png")
    (tmp_path / "x.zip").write_bytes(data)  # as Info-ZIP writes UTF-8, and as any bytes
    tree = trees.open_tree(str(tmp_path / "x.zip"))
    assert [entry.key for entry in tree.entries()] == ["가png".encode(), b"\xff\xfe.png"]
    assert tree.read("가png") == b"1"


def test_what_a_zip_says_of_a_file_is_held_against_its_bytes(tmp_path):
    path = tmp_path / "x.zip"
    write_zip(path, {"a.png": b"good" * 50})
    data = path.read_bytes()
    (entry,) = trees.open_tree(str(path)).entries()
    for damaged in (data.replace(b"goodgood", b"goodgood"[::-1], 1), b"XX" + data[2:]):
        path.write_bytes(damaged)
        with pytest.raises(decode.ImageError, match="damaged_in_archive"):
            trees.read(str(path), entry.key, entry.span)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(b"no archive"), "is not a readable folder, zip or tar"),
        (lambda p: p.write_bytes(b""), "is not a readable folder, zip or tar"),
        (lambda p: write_tar(p, [("a", b"1", as_is), ("a", b"2", as_is)]), "holds 'a' twice"),
        (lambda p: write_tar(p, [("z", bytes(60 << 20), as_is)], "w:xz"), "more than 1000 times"),
    ],
)
def test_archives_that_cannot_be_meant_are_refused(tmp_path, write, message):
    write(tmp_path / "x")
    with pytest.raises(trees.TreeError, match=message):
        trees.open_tree(str(tmp_path / "x"))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_or_cut_tar_is_refused_and_not_taken_for_its_end(tmp_path, mode, harm):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(5):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 700
            archive.addfile(info, io.BytesIO(bytes(700)))
    data = bytearray(buffer.getvalue())
    header = 3 * (512 + 1024)  # of the fourth file
    data = data[: header + 700] if harm == "cut" else data
    data[header + 130] ^= 1
    data = bytes(data) if mode == "w" else gzip.compress(bytes(data))
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(trees.TreeError, match="is damaged or cut at byte 4608"):
        trees.open_tree(str(tmp_path / "x.tar"))


def test_a_tar_whose_last_file_is_a_zip_is_a_tar(tmp_path):
    write_zip(tmp_path / "inner.zip", {"inside.png": b"x"})
    inner = (tmp_path / "inner.zip").read_bytes()
    write_tar(tmp_path / "x.tar", [("a.png", b"a", as_is), ("z.zip", inner, as_is)])
    entries = trees.open_tree(str(tmp_path / "x.tar")).entries()
    assert [entry.key for entry in entries] == [b"a.png", b"z.zip"]


def test_a_zip_that_claims_more_than_it_is(tmp_path):
    write_zip(tmp_path / "x.zip", {"./a.png": b"good" * 50})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.rindex(b"PK\1\2") + 20  # the stored size in the central directory
    data[at : at + 4] = (1 << 31).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    (entry,) = trees.open_tree(str(tmp_path / "x.zip")).entries()
    assert (entry.key, entry.reason) == (b"a.png", "damaged_in_archive")


def test_errors_of_the_machine_are_not_those_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "1/a").touch()

    def fail(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(trees.os, "open", fail)
    with pytest.raises(OSError, match="Too many open files"):
        trees.read(str(tmp_path / "1"), b"a", None)


def test_a_cut_zip_is_refused(tmp_path):
    write_zip(tmp_path / "x.zip", DATA)
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(trees.TreeError, match="is not a readable folder, zip or tar"):
        trees.open_tree(str(tmp_path / "x.zip"))


def test_odd_names_are_kept_and_distinct(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "고양이.png") for form in ("NFC", "NFD"))
    names = [os.fsencode(n) for n in (nfc, nfd, "a b.png", "new\nline.png", "[x]*.png", "-f.png")]
    names += [b"\xff\xfe.png", "가".encode() * 83 + b".png\xc3\xa9"]
    assert len(names[-1]) == 255
    for name in names:
        with open(os.fsencode(tmp_path) + b"/1/" + name, "wb") as file:
            file.write(name)
    tree = trees.open_tree(str(tmp_path / "1"))
    keys = [entry.key for entry in tree.entries()]
    assert keys == sorted(names) and len(set(names)) == 8
    assert all(tree.read(os.fsdecode(key)) == key for key in keys)


def test_folders_are_walked_in_the_order_of_whole_keys(tmp_path):
    names = ["a/b.png", "a-b.png", "a/b/c.png", "a0.png", "a.png", "B/x", "é/1", "z"]
    fakes.tree(tmp_path / "1", {name: b"" for name in names if name != "a/b.png"})
    keys = [entry.key for entry in trees.open_tree(str(tmp_path / "1")).entries()]
    assert keys == sorted(keys) and len(keys) == 7


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "1/large"
    path.touch()
    os.truncate(path, decode.MAX_FILE_BYTES + 1)  # takes no space
    with pytest.raises(decode.ImageError, match="file_too_large"):
        trees.open_tree(str(tmp_path / "1")).read("large")


def test_file_key():
    assert trees.file_key("a#b.png#1,2,3,4") == "a#b.png"
