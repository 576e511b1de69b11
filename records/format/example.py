"""One record: encodes and decodes a `tf.train.Example` with a fixed set of features.

The features are `domain` (bytes), `group` (bytes), `key` (bytes), `label` (int64) and `image`
(bytes, uint8 pixels [height, width, 3] in row order). They are written in that order, so the pixels
are the last bytes of a record: a reader that knows the size takes them without parsing, and any
protobuf parser reads the record. Encoding by hand keeps TensorFlow out of the build workers; wire
format: https://protobuf.dev/programming-guides/encoding/.
"""

import dataclasses
import functools
from collections.abc import Iterator

CHANNELS = 3
_IMAGE_NAME = b"\n\x05image"  # the name as the key of a map entry: field 1, five bytes
_TAGS_OF_VALUE = b"\x12", b"\x0a", b"\x0a"  # map value, field 2; its bytes_list, 1; the value, 1
_MAX_HEAD = 20  # bytes, for an image of less than 2^35


@dataclasses.dataclass(frozen=True)
class Example:
    """One labelled image.

    Attributes:
        key: stable name, the source path as raw bytes.
        label: index into the class names of the manifest.
        image: uint8 pixels, height * width * 3 bytes.
        group: equal for images that belong together, such as those of one person or series.
        domain: where the image comes from, empty if there is only one.
    """

    key: bytes
    label: int
    image: bytes
    group: bytes = b""
    domain: bytes = b""


def encode(example: Example) -> bytes:
    """Returns the serialized `tf.train.Example`."""
    return _field(1, b"".join(_entries(example)))


def decode(payload: bytes) -> Example:
    """Returns the example of a serialized `tf.train.Example`, whatever the order of its features.

    Other bytes raise a ValueError, LookupError or StopIteration.
    """
    features: dict[str, bytes | int] = {}
    for entry in _fields(_only(payload, 1)):
        parts = dict(_fields(entry[1]))
        kind, values = next(_fields(parts[2]))
        name = parts[1].decode("ascii")
        value = _only(values, 1)
        features[name] = value if kind == 1 else _read_varint(value, 0)[0]
    names = [field.name for field in dataclasses.fields(Example)]
    if sorted(features) != sorted(names):
        raise ValueError(f"features must be {sorted(names)}, got {sorted(features)}")
    try:
        return Example(**features)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"not a record of this schema: {error}") from error


def image_of(payload: bytes) -> bytes:
    """Returns only the image, at a tenth of the cost of `decode`; raises as `decode`."""
    offset = payload.find(_IMAGE_NAME) + len(_IMAGE_NAME)
    head = _head(len(payload) - offset)
    if head and payload.startswith(head, offset):
        return payload[offset + len(head) :]
    return decode(payload).image  # written by another program, or not such a message


@functools.lru_cache(1 << 12)
def _head(size: int) -> bytes:
    """Returns the bytes between name and image if both together have `size` bytes, else b""."""
    for length in range(size, max(0, size - _MAX_HEAD) - 1, -1):
        head = b""
        for tag in reversed(_TAGS_OF_VALUE):
            head = tag + _varint(len(head) + length) + head
        if len(head) + length == size:
            return head
    return b""


def _entries(example: Example) -> Iterator[bytes]:
    yield _repeated("domain", example.domain)
    yield _repeated("group", example.group)
    yield _bytes_feature("key", example.key)
    yield _label_feature(example.label)
    yield _bytes_feature("image", example.image)


@functools.lru_cache(1 << 12)
def _repeated(name: str, value: bytes) -> bytes:
    return _bytes_feature(name, value)


@functools.lru_cache(1 << 12)
def _label_feature(label: int) -> bytes:
    # Feature.int64_list is field 3; its values are packed.
    return _feature("label", _field(3, _field(1, _varint(label))))


def _bytes_feature(name: str, value: bytes) -> bytes:
    return _feature(name, _field(1, _field(1, value)))  # Feature.bytes_list is field 1


def _feature(name: str, feature: bytes) -> bytes:
    return _field(1, _field(1, name.encode("ascii")) + _field(2, feature))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


@functools.lru_cache(1 << 12)  # the same few lengths and tags occur in every record
def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if offset >= len(data) or shift > 63:
            raise ValueError("a varint is truncated or too long")
        byte = data[offset]
        value |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return value, offset


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (field number, value) of a message; unpacked varints come as their bytes."""
    offset = 0
    while offset < len(data):
        tag, offset = _read_varint(data, offset)
        if tag & 7 == 0:
            end = _read_varint(data, offset)[1]
        elif tag & 7 == 2:
            length, offset = _read_varint(data, offset)
            end = offset + length
        else:
            raise ValueError(f"unexpected wire type {tag & 7}")
        if end > len(data):
            raise ValueError(f"a field claims {end - offset} bytes, {len(data) - offset} are left")
        yield tag >> 3, data[offset:end]
        offset = end


def _only(data: bytes, number: int) -> bytes:
    values = [value for found, value in _fields(data) if found == number]
    if len(values) != 1:
        raise ValueError(f"field {number} must occur once, found {len(values)} times")
    return values[0]
