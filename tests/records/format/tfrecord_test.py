"""Our framing against TensorFlow's, and against every kind of damage."""

import pytest

from records.common import errors
from records.common.backend import tf
from records.format import tfrecord

PAYLOADS = [b"", b"a", b"x" * 300, bytes(range(256)) * 5]
SHARD = b"".join(tfrecord.frame(payload) for payload in PAYLOADS)


def readable(data: bytes) -> list[bytes]:
    return [item for _, item in tfrecord.scan(data) if isinstance(item, bytes)]


def test_equals_what_tensorflow_writes(tmp_path):
    path = str(tmp_path / "shard")
    with tf.io.TFRecordWriter(path) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    assert (tmp_path / "shard").read_bytes() == SHARD


def test_tensorflow_reads_it(tmp_path):
    (tmp_path / "shard").write_bytes(SHARD)
    dataset = tf.data.TFRecordDataset(str(tmp_path / "shard"))
    assert list(dataset.as_numpy_iterator()) == PAYLOADS


def test_payload_at_an_offset():
    found = []
    for (offset, _), payload in zip(tfrecord.scan(SHARD), PAYLOADS, strict=True):
        found.append(tfrecord.payload_at(SHARD, offset, len(payload), tfrecord.checksum(payload)))
    assert found == PAYLOADS


def test_another_record_does_not_pass_for_the_one_wanted():
    with pytest.raises(errors.DamagedRecordError, match="another record is there"):
        tfrecord.payload_at(SHARD, 0, len(PAYLOADS[1]), tfrecord.checksum(PAYLOADS[1]))


def test_every_flipped_bit_is_seen():
    for position in range(len(SHARD) * 8):
        damaged = bytearray(SHARD)
        damaged[position // 8] ^= 1 << position % 8
        found = list(tfrecord.scan(bytes(damaged)))
        assert any(isinstance(item, tfrecord.Damage) for _, item in found), position


def test_every_cut_inside_a_record_is_seen():
    ends = {0, *(offset for offset, _ in tfrecord.scan(SHARD)), len(SHARD)}
    for length in range(len(SHARD)):
        found = [item for _, item in tfrecord.scan(SHARD[:length])]
        damaged = any(isinstance(item, tfrecord.Damage) for item in found)
        assert damaged == (length not in ends), length


def test_a_damaged_payload_costs_only_its_own_record():
    damaged = bytearray(SHARD)
    damaged[tfrecord.FRAME_BYTES + tfrecord.HEADER_BYTES] ^= 1  # the payload of record 1
    assert readable(bytes(damaged)) == [PAYLOADS[0], *PAYLOADS[2:]]


def test_a_hostile_length_is_refused():
    hostile = bytearray(tfrecord.frame(b"x" * 100))
    for length in (2**40, 2**63 - 1):
        header = length.to_bytes(8, "little")
        hostile[:12] = header + tfrecord.checksum(header).to_bytes(4, "little")
        with pytest.raises(errors.DamagedRecordError, match=f"claims {length} bytes"):
            tfrecord.payload_at(bytes(hostile), 0, 100, 0)
