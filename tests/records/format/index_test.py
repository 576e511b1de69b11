"""Tests for records.format.index."""

import dataclasses
import hashlib
import io
import zipfile

import numpy as np
import pytest

from records.format import index, manifest

KEYS = (b"a/1.png", b"\xff", b"", "손".encode())


def made(keys=KEYS):
    count = len(keys)
    return index.Index(
        shard=np.zeros(count, np.int32),
        offset=np.arange(count, dtype=np.int64) * 99,
        length=np.full(count, 83, np.int64),
        checksum=np.arange(count, dtype=np.uint32) + (1 << 31),
        label=np.arange(count, dtype=np.int32) % 2,
        domain=np.zeros(count, np.int32),
        group=np.arange(count, dtype=np.int64),
        source_sha256=np.arange(count * 32, dtype=np.uint8).reshape(count, 32),
        keys=list(keys),
    )


def assert_equal(left, right):
    for field in dataclasses.fields(index.Index):
        one, other = getattr(left, field.name), getattr(right, field.name)
        np.testing.assert_array_equal(one, other, field.name)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


@pytest.mark.parametrize("keys", [(), (b"x",), (b"a/1.png", b"\xff", b"", b"b" * 999)])
def test_it_comes_back_from_bytes(keys):
    assert_equal(index.from_bytes(index.to_bytes(made(keys))), made(keys))


def test_its_content_is_pinned():
    # Sets are equal to the byte, whichever version built them: a change here is one of the format.
    digest = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(index.to_bytes(made()))) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for name in archive.namelist():
            digest.update(name.encode() + archive.read(name))
    assert digest.hexdigest() == "8053549017b7c792ddf4123abeb473f517946c6b04e96f81b463e2c139d66f80"


def test_it_is_a_plain_numpy_archive():
    with np.load(io.BytesIO(index.to_bytes(made())), allow_pickle=False) as archive:
        assert archive["key_bytes"].tobytes() == b"a/1.png\xff\xec\x86\x90"
        assert archive["key_ends"].tolist() == [7, 8, 8, 11]
        assert archive["offset"].tolist() == [0, 99, 198, 297]


def test_keys_as_text():
    assert [made().key(row) for row in range(4)] == ["a/1.png", "\udcff", "", "손"]


def written(tmp_path):
    shard = manifest.Shard("train-00000-of-00001.tfrecord", 4, 396, "")
    return index.write(str(tmp_path), "train", made(), [shard], 3)


def test_it_comes_back_from_its_file(tmp_path):
    entry = written(tmp_path)
    assert entry.class_counts == (2, 2, 0) and entry.index.file == "train.index.npz"
    assert_equal(index.load(str(tmp_path), entry), made())


def zipped(name, size):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(size))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the index is damaged: File is not a zip file"),
        (index.to_bytes(made())[:-30], "the index is damaged"),
        (zipped("offset.npy", 1 << 20), "unpack to more than its own size"),
        (zipped("offset.npy", 0), "the index is damaged"),
    ],
)
def test_damaged_bytes_are_refused(data, message):
    with pytest.raises(manifest.ManifestError, match=message):
        index.from_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "SHA-256 differs"),
    ],
)
def test_a_file_that_is_not_the_one_written_is_named(tmp_path, change, message):
    entry = written(tmp_path)
    change(tmp_path / "train.index.npz")
    with pytest.raises(manifest.ManifestError, match=f"train.index.npz: .*{message}"):
        index.load(str(tmp_path), entry)


def test_another_number_of_rows_than_the_manifest_is_refused(tmp_path):
    entry = dataclasses.replace(written(tmp_path), class_counts=(2, 3, 0))
    with pytest.raises(manifest.ManifestError, match="4 rows, the manifest says 5"):
        index.load(str(tmp_path), entry)
