"""Damage of every kind, done to real shards, and what verify says."""

import dataclasses
import os
import random
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from records.common import errors
from records.format import example, manifest, record_set, sharding, tfrecord
from records.inspect import verify
from tests import fakes
from tests.records import made


def first_shard(records):
    return sorted(records.glob("train-*.tfrecord"))[0]


def key_of(records, row):
    return record_set.open_set(str(records)).index("train").key(row)


def faults(records):
    return [str(fault) for fault in verify.verify(str(records))]


def test_a_whole_set_has_no_fault(records):
    assert faults(records) == []


def test_a_flipped_byte_is_named_by_shard_and_record(records):
    key = key_of(records, 3)
    index = record_set.open_set(str(records)).index("train")
    data = bytearray(first_shard(records).read_bytes())
    data[int(index.offset[3]) + 100] ^= 4
    first_shard(records).write_bytes(data)
    sha, record = faults(records)
    assert sha.endswith("its SHA-256 differs from the manifest's")
    assert f"{first_shard(records).name}, record 3 (key {key!r}): damaged" in record
    assert record.endswith("the checksum of the payload differs")


def test_a_record_taken_out_is_named(records):
    key = key_of(records, 5)
    data = first_shard(records).read_bytes()
    offsets = [offset for offset, _ in tfrecord.scan(data)]
    first_shard(records).write_bytes(data[: offsets[5]] + data[offsets[6] :])
    size, record = faults(records)
    assert "the manifest says" in size
    assert record == f"{first_shard(records).name}, record 5 (key {key!r}): is missing"


def test_a_cut_shard_names_the_first_record_lost_and_the_rest(records):
    index = record_set.open_set(str(records)).index("train")
    data = first_shard(records).read_bytes()
    rows = int((index.shard == 0).sum())
    first_shard(records).write_bytes(data[: int(index.offset[rows - 2]) + 50])
    size, cut, lost = faults(records)
    assert "bytes, the manifest says" in size
    assert f"record {rows - 2} (key {key_of_index(index, rows - 2)!r}): damaged" in cut
    assert f"record {rows - 1}" in lost and lost.endswith("is missing")


def key_of_index(index, row):
    return index.key(row)


def test_missing_extra_swapped_and_empty_files_are_named(records):
    shards = sorted(records.glob("train-*.tfrecord"))
    assert len(shards) >= 1
    data = shards[0].read_bytes()
    shards[0].unlink()
    assert faults(records) == [f"{shards[0].name}: is missing"]
    shards[0].write_bytes(b"")
    assert f"{shards[0].name}: has 0 bytes" in faults(records)[0]
    test_shard = next(records.glob("test-*.tfrecord"))
    shards[0].write_bytes(test_shard.read_bytes())
    assert any("holds a foreign record" in fault for fault in faults(records))
    shards[0].write_bytes(data)
    (records / "train-00007-of-00008.tfrecord").write_bytes(data)
    assert faults(records) == ["train-00007-of-00008.tfrecord: is not part of this record set"]


def test_missing_rejects_are_named(records):
    (records / "rejects.jsonl").unlink()
    assert faults(records) == ["rejects.jsonl: is missing"]


def test_a_damaged_index_is_named(records):
    path = records / "train.index.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert faults(records) == ["train.index.npz: its SHA-256 differs from the manifest's"]


def test_any_flipped_bit_names_its_record_and_no_other(records):
    rng, path = random.Random(0), first_shard(records)
    data, index = path.read_bytes(), record_set.open_set(str(records)).index("train")
    for _ in range(100):
        position = rng.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        row = np.searchsorted(index.offset[index.shard == 0], position // 8, side="right") - 1
        named = [fault for fault in verify.verify(str(records)) if fault.key is not None]
        assert [(fault.file, fault.row) for fault in named] == [(path.name, row)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "manifest.json is missing"),
        ("{", "is damaged"),
        ('{"format_version": 99}', "format_version must lie in 1..2, got 99"),
        ({'"a"': '"A"'}, "its digest differs"),
        ({'"image_size": 8': '"image_size": 4'}, "its digest differs"),
        ("[]", "is damaged"),
    ],
)
def test_unreadable_manifests_are_refused(records, text, message):
    path = records / "manifest.json"
    if text is None:
        path.unlink()
    elif isinstance(text, dict):
        ((before, after),) = text.items()
        edited = path.read_text().replace(before, after)
        assert edited != path.read_text()
        path.write_text(edited)
    else:
        path.write_text(text)
    with pytest.raises(manifest.ManifestError, match=message):
        verify.verify(str(records))


def test_opening_sees_a_wrong_size_without_reading(records):
    with open(first_shard(records), "ab") as file:
        file.write(b"!")
    with pytest.raises(manifest.ManifestError, match="inspect_main verify"):
        record_set.open_set(str(records))


def test_reading_a_damaged_row_names_it(records):
    opened = record_set.open_set(str(records))
    data = bytearray(first_shard(records).read_bytes())
    data[60] ^= 1
    first_shard(records).write_bytes(data)
    with pytest.raises(
        errors.DamagedRecordError, match=f"row 0, key {opened.index('train').key(0)!r}"
    ):
        opened.example("train", 0)


# --- shards that mean harm, under digests that agree with them ---

IMAGE = bytes(made.SIZE * made.SIZE * 3)
RIGHT = example.Example(key=b"a.png", label=0, image=IMAGE, domain=b"studio")
SHARD = sharding.file_name("train", 0, 1)


def payload_of(**changes):
    return example.encode(dataclasses.replace(RIGHT, **changes))


def claim(length):
    """Returns a header with a right checksum that claims any length."""
    size = length.to_bytes(8, "little")
    return size + tfrecord.checksum(size).to_bytes(4, "little") + b"x" * 100


def message(*values):
    """Returns protobuf fields of number 1."""
    return b"".join(b"\x0a" + bytes(varint(len(value))) + value for value in values)


def varint(value):
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


HOSTILE_PAYLOADS = {  # a record that the index points to -> what is said of it
    "another label": (payload_of(label=1), "has the label 1, the index says 0"),
    "huge label": (payload_of(label=10**9), "has the label 1000000000"),
    "negative label": (payload_of(label=2**64 - 1), "has the label"),
    "another key": (payload_of(key=b"b.png"), "has the key 'b.png'"),
    "another domain": (payload_of(domain=b"x"), "has the domain 'x', the index says 'studio'"),
    "short image": (payload_of(image=IMAGE[:-1]), "191 bytes, not 8 x 8 x 3"),
    "long image": (payload_of(image=IMAGE * 2), "384 bytes, not 8 x 8 x 3"),
    "no image": (payload_of(image=b""), "0 bytes, not 8 x 8 x 3"),
    "empty": (b"", "cannot be read"),
    "no protobuf": (b"\xff" * 500, "cannot be read"),
    "giant length": (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a field claims"),
    "giant inner length": (message(b"\x0a\xff\xff\xff\xff\x0f"), "a field claims"),
    "endless varint": (b"\x80" * 500, "a varint is truncated or too long"),
    "empty features": (message(message(b"") * 1000), "cannot be read"),
    "a million features": (message(b"\x0a\x00" * 1_000_000), "claims|is longer|cannot be read"),
    "twice": (payload_of() + payload_of(), "must occur once, found 2 times"),
}


@pytest.mark.parametrize("case", HOSTILE_PAYLOADS)
def test_a_wrong_record_is_named_though_all_digests_agree(tmp_path, case):
    payload, said = HOSTILE_PAYLOADS[case]
    made.record_set_of(tmp_path / "set", [made.Row(b"a.png", payload=payload)])
    first = verify.verify(str(tmp_path / "set"))[0]
    assert first.file == SHARD
    assert re.search(said, first.what)


@pytest.mark.parametrize("length", [2**40, 2**63, 2**64 - 1, 10_000])
def test_a_record_that_claims_too_much_is_named(tmp_path, length):
    made.record_set_of(tmp_path / "set", [made.Row(b"a.png")], shards={"train": claim(length)})
    said = [str(fault) for fault in verify.verify(str(tmp_path / "set"))]
    assert any(f"claims {length} bytes" in fault for fault in said) or "outside" in said[0]


@pytest.mark.parametrize("label", [-1, 2, 10**9])
def test_an_index_that_points_outside_is_refused(tmp_path, label):
    made.record_set_of(tmp_path / "set", [made.Row(b"a"), made.Row(b"b")], labels=[0, label])
    (fault,) = verify.verify(str(tmp_path / "set"))
    assert fault.file == "train.index.npz"
    assert fault.what == f"label of row 1 must be in 0..1, got {label}"
    with pytest.raises(
        manifest.ManifestError, match=f"label of row 1 must be in 0..1, got {label}"
    ):
        record_set.open_set(str(tmp_path / "set")).index("train")


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_an_encoded_image_that_cannot_be_decoded_is_named(tmp_path, encoding):
    for number, image in enumerate((b"", b"no image", fakes.encoded(fakes.pixels(1, 9)))):
        payload = payload_of(image=image)
        folder = tmp_path / str(number)
        made.record_set_of(folder, [made.Row(b"a.png", payload=payload)], encoding=encoding)
        (fault,) = verify.verify(str(folder))
        assert "cannot be read: damaged" in fault.what


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_what_is_no_regular_file_is_named_and_not_opened(records, kind):
    path = first_shard(records)
    data = path.read_bytes()
    path.unlink()
    if kind == "link":
        (records.parent / "elsewhere").write_bytes(data)
        path.symlink_to(records.parent / "elsewhere")
    elif kind == "dangling":
        path.symlink_to("/nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert faults(records) == [f"{path.name}: is not a regular file"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", ""])
def test_a_manifest_cannot_point_out_of_its_folder(tmp_path, name):
    opened = made.record_set_of(tmp_path / "set", [made.Row(b"a.png")])
    rejects = dataclasses.replace(opened.manifest.rejects, file=name)
    wrong = dataclasses.replace(opened.manifest, rejects=rejects)
    (tmp_path / "set" / "manifest.json").write_bytes(manifest.to_json(wrong))
    with pytest.raises(manifest.ManifestError, match="is not a file name of a record set"):
        verify.verify(str(tmp_path / "set"))


def test_a_huge_shard_is_read_in_little_memory(tmp_path):
    folder = tmp_path / "set"
    made.record_set_of(folder, [made.Row(b"a.png")])
    with open(folder / SHARD, "r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(claim(3 << 30))
        file.truncate(4 << 30)  # 4 GiB, sparse
    code = (
        "import sys\nfrom records.inspect import verify\n"
        "print([str(fault) for fault in verify.verify(sys.argv[1])])\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=fakes.ROOT, capture_output=True, text=True, check=True)
    said, kilobytes = done.stdout.splitlines()
    assert "has 4294967296 bytes" in said and "claims 3221225472 bytes, at most" in said
    assert int(kilobytes) < 300_000


def test_a_shard_full_of_foreign_records_is_cut_short(tmp_path):
    nonsense = tfrecord.frame(b"") * 100_000
    made.record_set_of(tmp_path / "set", [made.Row(b"a.png")], shards={"train": nonsense})
    found = verify.verify(str(tmp_path / "set"))
    assert len(found) == 1001
    assert found[-1].what == "has more faults; the rest was not checked"


# --- sources ---


def test_changed_and_missing_sources_are_named(pristine, tmp_path):
    source = shutil.copytree(pristine.parent / "source", tmp_path / "source")
    assert verify.verify_sources(str(pristine), str(source)) == []
    (source / "a" / "003.png").write_bytes(b"other")
    (source / "b" / "007.png").unlink()
    said = sorted(str(fault) for fault in verify.verify_sources(str(pristine), str(source)))
    assert len(said) == 2
    assert "(key 'a/003.png')" in said[0] and said[0].endswith("SHA-256 differs from the index's")
    assert "(key 'b/007.png')" in said[1] and "unreadable" in said[1]


def test_sources_may_lie_in_an_archive(pristine, tmp_path):
    source = pristine.parent / "source"
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        for path in source.rglob("*.png"):
            archive.write(path, path.relative_to(source))
    assert verify.verify_sources(str(pristine), str(tmp_path / "source.zip")) == []
