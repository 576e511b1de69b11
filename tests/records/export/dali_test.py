"""The index files for NVIDIA DALI are those of its own tool."""

from pathlib import Path

from records.export import export


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
