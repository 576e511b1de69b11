"""What was written once stays readable: by this version, and by parsers that are not ours."""

import hashlib
import shutil
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from records.export import png_folders, tar
from records.format import record_set
from records.inspect import verify
from tests.records import made

VERSION_1 = Path(__file__).parent / "formats" / "version_1"
# Of the pixels of all rows in order. Another value means that sets made so far are read wrongly.
VERSION_1_PIXELS = "097e440cd1a5ca03c037060cc278c9b3e871f0e64ea1120b32e7766aa064d73e"


def test_version_1_opens_verifies_and_gives_its_rows():
    opened = record_set.open_set(str(VERSION_1))
    assert opened.manifest.format_version == 1
    assert opened.manifest.class_names == ("unworn", "worn 쓴")
    assert not opened.manifest.attributes and not opened.manifest.notes
    assert verify.verify(str(VERSION_1)) == []
    digest, count = hashlib.sha256(), 0
    for split in opened.manifest.splits:
        for batch in opened.pixel_batches(split):
            digest.update(batch.tobytes())
            count += len(batch)
    assert count == 13 and digest.hexdigest() == VERSION_1_PIXELS


def test_version_1_stays_version_1_when_it_is_exported_and_comes_back(tmp_path):
    opened = record_set.open_set(str(VERSION_1))
    tar.write(opened, str(tmp_path / "set.tar"))
    tar.read(str(tmp_path / "set.tar"), str(tmp_path / "back"))
    assert verify.verify(str(tmp_path / "back")) == []
    for path in VERSION_1.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
    png_folders.write(opened, str(tmp_path / "images"))
    assert len(list((tmp_path / "images").rglob("*.png"))) == 13


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_a_parser_of_others_finds_the_same_rows(tmp_path, encoding):
    opened = made.record_set_of(tmp_path / "set", made.rows(made.ODD_KEYS), encoding=encoding)
    example_class = tensorflow_example()
    for name, split in opened.manifest.splits.items():
        index, row = opened.index(name), 0
        for shard in split.shards:
            for payload in frames(Path(opened.path(shard)).read_bytes()):
                features = example_class.FromString(payload).features.feature
                assert features["key"].bytes_list.value[0] == index.keys[row]
                assert list(features["label"].int64_list.value) == [index.label[row]]
                domain = features["domain"].bytes_list.value[0].decode()
                assert domain == opened.manifest.domains[index.domain[row]]
                if encoding == "raw":
                    pixels = np.frombuffer(features["image"].bytes_list.value[0], np.uint8)
                    np.testing.assert_array_equal(pixels, opened.pixels(name, row).ravel())
                row += 1
        assert row == len(index)


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_pixels_come_back_whatever_the_encoding(tmp_path, encoding):
    rows = made.rows([b"a", b"b", b"c"])
    opened = made.record_set_of(tmp_path / "set", rows, encoding=encoding)
    (batch,) = opened.pixel_batches("train")
    for row, source in enumerate(source for source in rows if source.split == "train"):
        np.testing.assert_array_equal(opened.pixels("train", row), made.image_of(source))
        np.testing.assert_array_equal(batch[row], made.image_of(source))


def test_a_copy_elsewhere_is_the_same_set(tmp_path):
    shutil.copytree(VERSION_1, tmp_path / "moved")
    moved = record_set.open_set(str(tmp_path / "moved")).manifest
    assert moved.digest == record_set.open_set(str(VERSION_1)).manifest.digest


def frames(data):
    """Yields the payloads of a TFRecord file, by the description of the format alone."""
    at = 0
    while at < len(data):
        length, length_crc = struct.unpack_from("<QI", data, at)
        assert masked(data[at : at + 8]) == length_crc
        payload = data[at + 12 : at + 12 + length]
        assert (masked(payload),) == struct.unpack_from("<I", data, at + 12 + length)
        yield payload
        at += 16 + length


def masked(data):
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def tensorflow_example():
    """Returns the message class tf.train.Example, made from its published description."""
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="described", syntax="proto3"
    )
    field = descriptor_pb2.FieldDescriptorProto
    for name, kind in (("Bytes", field.TYPE_BYTES), ("Float", field.TYPE_FLOAT),
                       ("Int64", field.TYPE_INT64)):  # fmt: skip
        message = file.message_type.add(name=f"{name}List")
        message.field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes", "float", "int64"), 1):
        feature.field.add(
            name=f"{name}_list", number=number, type=field.TYPE_MESSAGE, oneof_index=0,
            label=field.LABEL_OPTIONAL, type_name=f".described.{name.title()}List",
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL,
                    type_name=".described.Feature")  # fmt: skip
    features.field.add(name="feature", number=1, type=field.TYPE_MESSAGE,
                       label=field.LABEL_REPEATED,
                       type_name=".described.Features.FeatureEntry")  # fmt: skip
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, type=field.TYPE_MESSAGE,
                      label=field.LABEL_OPTIONAL, type_name=".described.Features")  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("described.Example"))
