"""A tar gives back the same set, and a hostile or damaged one is refused and leaves nothing."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from records.common import atomic
from records.export import export
from records.export import tar as archive
from records.format import manifest
from records.inspect import verify
from tests.records import made


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_tar_comes_back_equal_to_the_byte(odd, tmp_path):
    export.export(odd, str(tmp_path / "set.tar"), "tar")
    back = archive.read(str(tmp_path / "set.tar"), str(tmp_path / "back"))
    assert back.digest == odd.manifest.digest
    assert contents(tmp_path / "back") == contents(Path(odd.folder))
    assert verify.verify(str(tmp_path / "back")) == []


def test_equal_sets_give_equal_tars_that_any_tar_reads(odd, tmp_path):
    for name in ("one.tar", "two.tar"):
        export.export(odd, str(tmp_path / name), "tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert tar.getnames() == sorted(os.listdir(odd.folder))
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in tar} == {(0, 0, 0, "")}


def tar_of(path, members):
    """Writes a tar of (name or TarInfo, bytes)."""
    with tarfile.open(path, "w:", format=tarfile.GNU_FORMAT) as tar:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def changed(members, name, data):
    return [(member, data if member == name else old) for member, old in members]


SHARD = "train-00000-of-00001.tfrecord"
HOSTILE_TARS = {  # what is done to the members -> what is said
    "traversal": (lambda m: [*m, ("../../evil", b"!")], "'../../evil' is not part"),
    "absolute": (lambda m: [*m, ("/tmp/evil", b"!")], "is not part of a record set"),
    "link": (lambda m: [*m, (special("x", tarfile.SYMTYPE, "/etc/passwd"), b"")], "not a regular"),
    "linked shard": (
        lambda m: [(special(SHARD, tarfile.SYMTYPE, "/etc/passwd"), b""), *m], "not a regular",
    ),
    "hard link": (lambda m: [(special("x", tarfile.LNKTYPE, SHARD), b""), *m], "not a regular"),
    "device": (lambda m: [(special("x", tarfile.CHRTYPE), b""), *m], "not a regular"),
    "pipe": (lambda m: [(special("x", tarfile.FIFOTYPE), b""), *m], "not a regular"),
    "sparse": (lambda m: [(special(SHARD, tarfile.GNUTYPE_SPARSE), b""), *m], "not a regular"),
    "folder": (lambda m: [(special("x", tarfile.DIRTYPE), b""), *m], "not a regular"),
    "twice": (lambda m: [*m, m[-1]], "occurs twice"),
    "long name": (lambda m: [*m, ("n" * 300, b"!")], "is not part of a record set"),
    "foreign file": (lambda m: [*m, ("run.sh", b"!")], "'run.sh' is not part"),
    "no manifest": (lambda m: [x for x in m if x[0] != "manifest.json"], "it has no manifest"),
    "missing": (lambda m: [x for x in m if x[0] != SHARD], f"{SHARD}: is missing"),
    "changed": (lambda m: changed(m, SHARD, dict(m)[SHARD][:-1] + b"!"), "its SHA-256 differs"),
    "cut": (lambda m: changed(m, SHARD, dict(m)[SHARD][:-1]), "the manifest says"),
    "other manifest": (lambda m: changed(m, "manifest.json", b"[]"), "is damaged"),
    "deep manifest": (lambda m: changed(m, "manifest.json", b"[" * 100_000), "recursion"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_TARS)
def test_a_hostile_tar_leaves_nothing(odd, tmp_path, case):
    change, message = HOSTILE_TARS[case]
    members = [(name, data) for name, data in contents(Path(odd.folder)).items()]
    path = tar_of(tmp_path / "x.tar", change(members))
    with (
        pytest.raises((archive.ArchiveError, manifest.ManifestError), match=message),
        atomic.output(str(tmp_path / "back")) as temporary,
    ):
        archive.read(path, temporary)
    assert os.listdir(tmp_path) == ["x.tar"]


@pytest.mark.parametrize("name", ["../evil.index.npz", "/evil", "a/b-00000-of-00001.tfrecord", ""])
def test_a_manifest_cannot_name_files_elsewhere(odd, tmp_path, name):
    text = (Path(odd.folder) / "manifest.json").read_text()
    wrong = manifest.from_json(text)
    shard = manifest.Shard(name, 0, 1, "")
    split = manifest.Split((0, 0), (shard,), shard)
    wrong = manifest.to_json(made.dataclasses.replace(wrong, splits={"train": split}))
    path = tar_of(tmp_path / "x.tar", [("manifest.json", wrong)])
    with pytest.raises(ValueError, match="is not a file name of a record set"):
        archive.read(path, str(tmp_path / "back"))


@pytest.mark.parametrize(
    "size",
    [b"77777777777\0", b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7, b"\xff" * 12],
)
def test_a_member_cannot_claim_more_than_there_is(tmp_path, size):
    header = bytearray(tarfile.TarInfo("manifest.json").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + b"\0" * 1024)
    with pytest.raises(archive.ArchiveError, match=r"claims|not an uncompressed tar"):
        archive.read(str(tmp_path / "x.tar"), str(tmp_path / "back"))


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, b"\0" * 2048])
def test_what_is_no_tar_is_refused(tmp_path, data):
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(archive.ArchiveError, match=r"not an uncompressed tar|it has no manifest"):
        archive.read(str(tmp_path / "x.tar"), str(tmp_path / "back"))
