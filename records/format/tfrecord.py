"""The TFRecord framing: length, its checksum, payload, its checksum.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details". The
checksums come from the C extension of `google_crc32c` (21 GB/s), so that build workers need no
TensorFlow; in plain Python they would be the slowest step of a build.
"""

import dataclasses
import functools
import mmap
import struct
from collections.abc import Iterator

import google_crc32c

from records.common import errors

_HEADER = struct.Struct("<QI")  # payload length, masked CRC-32C of those 8 bytes
_FOOTER = struct.Struct("<I")  # masked CRC-32C of the payload
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _HEADER.size + _FOOTER.size


Buffer = bytes | memoryview | mmap.mmap


@dataclasses.dataclass(frozen=True)
class Damage:
    """A damaged record at `offset`; `length` is 0 if the header cannot be trusted."""

    offset: int
    length: int
    reason: str


def checksum(data: bytes | memoryview) -> int:
    """Returns the masked CRC-32C of the format."""
    crc = google_crc32c.value(data if isinstance(data, bytes) else bytes(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.lru_cache(1 << 12)  # lengths repeat
def _header(length: int) -> bytes:
    return _HEADER.pack(length, checksum(struct.pack("<Q", length)))


def frame(payload: bytes) -> bytes:
    """Returns `payload` as one record, ready to be appended to a shard."""
    return _header(len(payload)) + payload + _FOOTER.pack(checksum(payload))


def framed_checksum(record: bytes) -> int:
    """Returns the checksum of the payload from the end of a framed record."""
    return _FOOTER.unpack_from(record, len(record) - _FOOTER.size)[0]


def payload_at(data: bytes, offset: int, length: int, expected: int) -> bytes:
    """Returns the payload of the record at `offset`, of this length and `expected` checksum.

    A truncated, damaged or different record raises a DamagedRecordError.
    """
    start = offset + HEADER_BYTES
    end = start + length
    payload = data[start:end]
    if (
        checksum(payload) == expected
        and data[offset:start] == _header(length)
        and data[end : end + _FOOTER.size] == _FOOTER.pack(expected)
    ):
        return payload
    result = _read(memoryview(data), offset)
    if isinstance(result, Damage):
        raise errors.DamagedRecordError(result.reason)
    raise errors.DamagedRecordError("another record is there instead of the one written")


def scan(shard: Buffer, start: int = 0) -> Iterator[tuple[int, bytes | Damage]]:
    """Yields `(offset, payload)` for each record from `start` on, `(offset, Damage)` for bad ones.

    The scan resumes after a damaged payload, whose header states where the next record begins, and
    ends at a damaged header or a truncation.
    """
    view, offset = memoryview(shard), start
    while offset < len(view):
        result = _read(view, offset)
        yield offset, result
        if isinstance(result, Damage):
            if result.length == 0:
                return
            offset += result.length + FRAME_BYTES
        else:
            offset += len(result) + FRAME_BYTES


def _read(view: memoryview, offset: int) -> bytes | Damage:
    if offset + HEADER_BYTES > len(view):
        return Damage(offset, 0, f"truncated inside the header, {len(view) - offset} bytes left")
    length, _ = _HEADER.unpack_from(view, offset)
    if view[offset : offset + HEADER_BYTES] != _header(length):
        return Damage(offset, 0, "the checksum of the length differs")
    start = offset + HEADER_BYTES
    if start + length + _FOOTER.size > len(view):
        return Damage(offset, 0, f"claims {length} bytes but {len(view) - start} are there")
    payload = bytes(view[start : start + length])
    if checksum(payload) != _FOOTER.unpack_from(view, start + length)[0]:
        return Damage(offset, length, "the checksum of the payload differs")
    return payload
