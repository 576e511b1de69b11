"""A set written in other forms and read back, by their own readers where they are installed."""

import csv
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from records.common import outputs
from records.export import export, png_folders
from records.export import tar as archive
from records.format import manifest, record_set
from records.inspect import verify
from tests import fakes
from tests.records import made


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Returns a set whose keys are hard to write as file names."""
    return made.record_set_of(tmp_path_factory.mktemp("odd") / "set", made.rows(made.ODD_KEYS))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- tar ---


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
    "traversal": (lambda m: [*m, ("../../evil", b"!")], "'../../evil', which is no part"),
    "absolute": (lambda m: [*m, ("/tmp/evil", b"!")], "which is no part"),
    "link": (lambda m: [*m, (special("x", tarfile.SYMTYPE, "/etc/passwd"), b"")], "no regular"),
    "linked shard": (
        lambda m: [(special(SHARD, tarfile.SYMTYPE, "/etc/passwd"), b""), *m], "no regular file",
    ),
    "hard link": (lambda m: [(special("x", tarfile.LNKTYPE, SHARD), b""), *m], "no regular file"),
    "device": (lambda m: [(special("x", tarfile.CHRTYPE), b""), *m], "no regular file"),
    "pipe": (lambda m: [(special("x", tarfile.FIFOTYPE), b""), *m], "no regular file"),
    "folder": (lambda m: [(special("x", tarfile.DIRTYPE), b""), *m], "no regular file"),
    "twice": (lambda m: [*m, m[-1]], "stands a second time"),
    "long name": (lambda m: [*m, ("n" * 300, b"!")], "no regular file"),
    "foreign file": (lambda m: [*m, ("run.sh", b"!")], "'run.sh', which is no part"),
    "no manifest": (lambda m: [x for x in m if x[0] != "manifest.json"], "holds no manifest"),
    "missing": (lambda m: [x for x in m if x[0] != SHARD], f"lacks '{SHARD}'"),
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
        outputs.whole(str(tmp_path / "back")) as temporary,
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
    path = tar_of(tmp_path / "x.tar", [("manifest.json", wrong), (name or "x", b"!")])
    with pytest.raises(ValueError, match="is no name of a file of a record set"):
        archive.read(path, str(tmp_path / "back"))


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7])
def test_a_member_cannot_claim_more_than_there_is(tmp_path, size):
    header = bytearray(tarfile.TarInfo("manifest.json").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + b"\0" * 1024)
    with pytest.raises(archive.ArchiveError, match="claims"):
        archive.read(str(tmp_path / "x.tar"), str(tmp_path / "back"))


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, b"\0" * 2048])
def test_what_is_no_tar_is_refused(tmp_path, data):
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(archive.ArchiveError, match=r"no plain tar|holds no manifest"):
        archive.read(str(tmp_path / "x.tar"), str(tmp_path / "back"))


# --- folders ---


def test_folders_hold_the_same_pixels_under_distinct_safe_names(odd, tmp_path):
    export.export(odd, str(tmp_path / "out"), "folders")
    with open(tmp_path / "out" / "index.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len({line["path"] for line in lines}) == len(made.ODD_KEYS)
    line = iter(lines)
    for split in odd.manifest.splits:
        index = odd.index(split)
        for row in range(len(index)):
            found = next(line)
            path = tmp_path / "out" / found["path"]
            assert path.parent.parent.name == split == found["split"]
            assert found["class"] == odd.manifest.class_names[index.label[row]]
            assert found["domain"] == odd.manifest.domains[index.domain[row]]
            assert found["sha256"] == index.source_sha256[row].tobytes().hex()
            np.testing.assert_array_equal(np.asarray(Image.open(path)), odd.pixels(split, row))
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == len(made.ODD_KEYS) + 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a/b.png", "a%2Fb.png"),
        ("쓴 x".encode(), "쓴 x"),
        (b"..", "%2E."),
        (b"", "%"),
        (b"50%\n", "50%25%0A"),
        (b"\xff", "%FF"),
        (b"n" * 255, "n" * 255),
    ],
)
def test_names_are_escaped(name, expected):
    assert png_folders.escaped(name) == expected


def test_long_names_are_cut_between_letters_and_stay_distinct():
    names = [png_folders.escaped(("가" * 100 + tail).encode(), ".png") for tail in "ab"]
    assert len(set(names)) == 2 and all(len(name.encode()) <= 255 for name in names)
    assert all(name.startswith("가가") and name.endswith(".png") for name in names)


# --- DALI ---


def test_dali_indexes_say_where_each_frame_stands(odd, tmp_path):
    export.export(odd, str(tmp_path / "out"), "dali")
    for split in odd.manifest.splits.values():
        (shard,) = split.shards
        data = (tmp_path / "out" / shard.file).read_bytes()
        assert data == Path(odd.path(shard)).read_bytes()
        text = (tmp_path / "out" / shard.file.replace(".tfrecord", ".idx")).read_text()
        assert text == "".join(f"{at} {size}\n" for at, size in frames(data))


def frames(data):
    """Yields what NVIDIA's tfrecord2idx prints of a file."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little") + 16
        yield at, size
        at += size


# --- TensorFlow Datasets ---

READ_WITH_TFDS = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
rows = []
for split in builder.info.splits:
    for example in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)):
        image = example.pop("image")
        label = builder.info.features["label"].int2str(int(example.pop("label")))
        texts = {name: value.hex() for name, value in example.items()}
        rows.append([split, str(image.dtype), image.shape, image.tobytes().hex(), label, texts])
print(json.dumps(rows))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None,
    reason="tensorflow-datasets is not installed",
)
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_tensorflow_datasets_reads_every_row(tmp_path, encoding):
    opened = made.record_set_of(tmp_path / "set", made.rows(made.ODD_KEYS), encoding=encoding)
    export.export(opened, str(tmp_path / "out"), "tfds")
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_TFDS, str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = iter(json.loads(done.stdout))
    for split in opened.manifest.splits:
        index = opened.index(split)
        for row in range(len(index)):
            name, dtype, shape, pixels, label, texts = next(rows)
            assert (name, dtype, shape) == (split, "uint8", [made.SIZE, made.SIZE, 3])
            assert pixels == opened.pixels(split, row).tobytes().hex()
            assert label == opened.manifest.class_names[index.label[row]]
            assert bytes.fromhex(texts["key"]) == index.keys[row]
            domain = opened.manifest.domains[index.domain[row]]
            assert bytes.fromhex(texts["domain"]).decode() == domain
            assert bytes.fromhex(texts["group"]).startswith(b"group ")
    assert next(rows, None) is None


def test_class_names_that_would_become_one_are_refused(tmp_path):
    opened = made.record_set_of(
        tmp_path / "set", made.rows([b"a", b"b", b"c"]), class_names=("x\n", "x\\n")
    )
    with pytest.raises(ValueError, match="cannot be printed"):
        export.export(opened, str(tmp_path / "out"), "tfds")
    assert os.listdir(tmp_path) == ["set"]


# --- all ---


@pytest.mark.parametrize("file_format", export.FORMATS)
def test_an_output_that_exists_is_refused_and_left_alone(odd, tmp_path, file_format):
    output = tmp_path / "out"
    output.mkdir()
    (output / "precious").write_bytes(b"!")
    with pytest.raises(outputs.OutputError, match="exists and is no empty folder"):
        export.export(odd, str(output), file_format)
    assert contents(output) == {"precious": b"!"}
    (output / "precious").unlink()
    export.export(odd, str(output), file_format)
    assert os.listdir(tmp_path) == ["out"]


def test_an_output_inside_the_set_is_refused(odd):
    with pytest.raises(outputs.OutputError, match="inside the record set"):
        export.export(odd, os.path.join(odd.folder, "out"), "folders")


def test_a_failed_export_leaves_nothing(odd, tmp_path, monkeypatch):
    monkeypatch.setattr(png_folders, "_MOST_BYTES", 20_000)  # names the file system refuses
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
