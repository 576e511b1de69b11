"""The hand-written encoding against TensorFlow's protobuf."""

import pytest

from records.common.backend import tf
from records.format import example as schema

EXAMPLES = [
    schema.Example(key=b"O/a.png", label=0, image=b"\x00\xff" * 6),
    schema.Example(key="고양이/사진 1.jpg".encode(), label=300, image=b"x" * 12288, group=b"g"),
    schema.Example(key=b"\xff\x00\n", label=2**31, image=b"", domain="손".encode()),
    schema.Example(
        key=b"\n\x05image\x12", label=1, image=b"\n\x05image\x12\x04"
    ),  # named as marked
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_round_trip(example):
    assert schema.decode(schema.encode(example)) == example
    assert schema.image_of(schema.encode(example)) == example.image


@pytest.mark.parametrize("example", EXAMPLES)
def test_tensorflow_parses_it(example):
    parsed = tf.train.Example.FromString(schema.encode(example)).features.feature
    assert parsed["image"].bytes_list.value[:] == [example.image]
    assert parsed["label"].int64_list.value[:] == [example.label]
    assert parsed["key"].bytes_list.value[:] == [example.key]
    assert parsed["group"].bytes_list.value[:] == [example.group]
    assert parsed["domain"].bytes_list.value[:] == [example.domain]


def test_what_tensorflow_writes_is_decoded_whatever_the_order():
    example = EXAMPLES[1]
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[getattr(example, name)]))
        for name in ("image", "key", "group", "domain")
    }
    features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[example.label]))
    message = tf.train.Example(features=tf.train.Features(feature=features))
    assert schema.decode(message.SerializeToString()) == example
    assert schema.image_of(message.SerializeToString()) == example.image


LENGTHS = [*range(300), *range(16_360, 16_400), *range((1 << 21) - 20, (1 << 21) + 4)]


def test_images_of_all_lengths_are_taken_without_decoding(monkeypatch):
    payloads = [schema.encode(schema.Example(b"k", 1, bytes(length))) for length in LENGTHS]
    monkeypatch.setattr(schema, "decode", None)
    assert [len(schema.image_of(payload)) for payload in payloads] == LENGTHS


def test_a_key_that_looks_like_the_image_is_not_taken_for_it():
    inner = schema.encode(schema.Example(b"k", 1, b"other"))
    assert schema.image_of(schema.encode(schema.Example(inner, 1, b"pixels"))) == b"pixels"


def test_bytes_of_the_format_are_pinned():
    # A change of these bytes is a new format version: sets built before could not be resumed.
    example = schema.Example(key=b"k", label=1, image=b"abc")
    assert schema.encode(example).hex() == (
        "0a4f"
        "0a0e0a06646f6d61696e12040a020a00"
        "0a0d0a0567726f757012040a020a00"
        "0a0c0a036b657912050a030a016b"
        "0a0e0a056c6162656c12051a030a0101"
        "0a100a05696d61676512070a050a03616263"
    )


def test_the_image_stands_last():
    # Loading takes the last bytes of a payload as the pixels.
    payload = schema.encode(schema.Example(key=b"k", label=200, image=b"pixels"))
    assert payload.endswith(b"pixels")


@pytest.mark.parametrize(
    "payload", [b"", b"\x0a", b"\x0a\xff\xff", b"\xff" * 20, schema.encode(EXAMPLES[0])[:-1]]
)
def test_damaged_messages_are_refused(payload):
    with pytest.raises(ValueError):
        schema.decode(payload)
