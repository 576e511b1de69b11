"""Damage of every kind, done to real shards, and what verify says of it."""

import random
import re
import shutil

import numpy as np
import pytest

from records import audit, manifest, record_set, tfrecord
from tests import fakes


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    fakes.built(root, {"a": 200, "b": 200}, size=8)
    return root / "records"


@pytest.fixture
def records(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "records")


def first_shard(records):
    return sorted(records.glob("train-*.tfrecord"))[0]


def key_of(records, row):
    return record_set.open_set(str(records)).index("train").key(row)


def faults(records):
    return [str(fault) for fault in audit.verify(str(records))]


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
    assert faults(records) == ["train-00007-of-00008.tfrecord: is no part of this record set"]


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
        named = [fault for fault in audit.verify(str(records)) if fault.key is not None]
        assert [(fault.file, fault.row) for fault in named] == [(path.name, row)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "manifest.json is missing"),
        ("{", "is damaged"),
        ('{"format_version": 99}', "format_version must be 1, got 99"),
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
        audit.verify(str(records))


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
        tfrecord.DamagedRecordError, match=f"row 0, key {opened.index('train').key(0)!r}"
    ):
        opened.example("train", 0)


def test_the_command_says_it_and_exits_with_1(records):
    good = fakes.run_module("records.inspect_main", "verify", f"--records={records}")
    assert good.returncode == 0 and "every byte is as written" in good.stdout
    data = bytearray(first_shard(records).read_bytes())
    data[60] ^= 1
    first_shard(records).write_bytes(data)
    bad = fakes.run_module("records.inspect_main", "verify", f"--records={records}")
    assert bad.returncode == 1 and bad.stderr == ""
    assert f"FAULT {first_shard(records).name}, record 0 (key" in bad.stdout


def test_show_lists_counts_and_rows(records):
    shown = fakes.run_module("records.inspect_main", "show", f"--records={records}", "--rows=1")
    assert shown.returncode == 0
    assert re.search(r"^total +240 +80 +80$", shown.stdout, re.MULTILINE)
    assert "train 0: " in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("verify",), 2, "--records must be given"),
        (("polish", "--records=x"), 2, "name one of show, verify, got 'polish'"),
        (("show", "--records=nowhere"), 2, "an existing folder, got 'nowhere'"),
        (("show", "--records=."), 1, "no record set in '.'"),
        (("show", "--records=.", "--rows=-1"), 2, "--rows must be at least 0, got -1"),
        (("verify", "--records=.", "--rows=1"), 2, "belong to show"),
        (("show", "--records=x", "--bogus"), 2, "Unknown command line flag 'bogus'"),
    ],
)
def test_wrong_use_is_one_line(arguments, code, message):
    done = fakes.run_module("records.inspect_main", *arguments)
    assert done.returncode == code and message in done.stderr
    assert "Traceback" not in done.stderr


def test_many_faults_of_a_file_are_cut_short(records):
    first_shard(records).write_bytes(b"")
    done = fakes.run_module("records.inspect_main", "verify", f"--records={records}")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 22
    assert ": and " in done.stdout.splitlines()[-2]


def test_output_cut_off_by_its_reader_is_no_error(records):
    command = f"{fakes.sys.executable} -m records.inspect_main show --records={records} --rows=200"
    done = fakes.subprocess.run(
        f"{command} | head -1", shell=True, cwd=fakes.ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
