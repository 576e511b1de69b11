"""The TFRecord framing: length, its checksum, payload, its checksum. Nothing about the payload.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details".
"""

import dataclasses
import mmap
import struct
from collections.abc import Iterator

import google_crc32c

_HEADER = struct.Struct("<QI")  # payload length, masked CRC-32C of those 8 bytes
_FOOTER = struct.Struct("<I")  # masked CRC-32C of the payload
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _HEADER.size + _FOOTER.size


Buffer = bytes | memoryview | mmap.mmap


class DamagedRecordError(ValueError):
    """A record whose bytes do not agree with its own checksums or with the file's length."""


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is wrong with the record at `offset`; `length` is 0 if the header cannot be trusted."""

    offset: int
    length: int
    reason: str


def _masked_crc(data: bytes | memoryview) -> int:
    crc = google_crc32c.value(bytes(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """Returns `payload` as one record, ready to be appended to a shard."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (length, _FOOTER.pack(_masked_crc(length)), payload, _FOOTER.pack(_masked_crc(payload)))
    )


def payload_at(shard: Buffer, offset: int) -> bytes:
    """Returns the payload of the record that begins at `offset`, its checksums verified.

    Raises:
        DamagedRecordError: if the record is cut short or a checksum differs.
    """
    result = _read(memoryview(shard), offset)
    if isinstance(result, Damage):
        raise DamagedRecordError(result.reason)
    return result


def scan(shard: Buffer) -> Iterator[tuple[int, bytes | Damage]]:
    """Yields `(offset, payload)` for each record from the start, `(offset, Damage)` for bad ones.

    A damaged payload is stepped over, because its header still says where the next record begins.
    After a damaged header or a cut nothing can be found, so the scan ends there.
    """
    view, offset = memoryview(shard), 0
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
        return Damage(offset, 0, f"cut inside the header at byte {len(view)}")
    length, header_crc = _HEADER.unpack_from(view, offset)
    if _masked_crc(view[offset : offset + 8]) != header_crc:
        return Damage(offset, 0, "the checksum of the length differs")
    start = offset + HEADER_BYTES
    if start + length + _FOOTER.size > len(view):
        return Damage(
            offset, 0, f"claims {length} bytes but the file ends after {len(view) - start}"
        )
    payload = bytes(view[start : start + length])
    if _masked_crc(payload) != _FOOTER.unpack_from(view, start + length)[0]:
        return Damage(offset, length, "the checksum of the payload differs")
    return payload
