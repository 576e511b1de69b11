"""An opened record set: the manifest, the index of each split, and single records by row."""

import dataclasses
import functools
import os

import numpy as np

from records import index as index_lib
from records import manifest as manifest_lib
from records import schema, tfrecord


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """A folder whose manifest was read and whose files have the sizes that it says."""

    folder: str
    manifest: manifest_lib.Manifest

    @functools.cached_property
    def _indexes(self) -> dict[str, index_lib.Index]:
        return {}

    def index(self, split: str) -> index_lib.Index:
        """Returns the index of a split, read once."""
        if split not in self._indexes:
            self._indexes[split] = index_lib.load(self.folder, self.manifest.split(split))
        return self._indexes[split]

    def path(self, shard: manifest_lib.Shard) -> str:
        """Returns where a shard lies."""
        return os.path.join(self.folder, shard.file)

    def example(self, split: str, row: int) -> schema.Example:
        """Returns one record, read by its offset.

        Raises:
            DamagedRecordError: if its bytes do not agree with their checksums; names the record.
        """
        index = self.index(split)
        shard = self.manifest.split(split).shards[index.shard[row]]
        with open(self.path(shard), "rb") as file:
            file.seek(int(index.offset[row]))
            data = file.read(int(index.length[row]) + tfrecord.FRAME_BYTES)
        try:
            return schema.decode(tfrecord.payload_at(data, 0, int(index.checksum[row])))
        except ValueError as error:
            raise tfrecord.DamagedRecordError(
                f"{shard.file}, row {row}, key {index.key(row)!r}: {error}"
            ) from None

    def pixels(self, split: str, row: int) -> np.ndarray:
        """Returns the pixels of one record, uint8 [size, size, 3]."""
        size = self.manifest.image_size
        image = self.example(split, row).image
        return np.frombuffer(image, np.uint8).reshape(size, size, schema.CHANNELS)


def open_set(folder: str) -> RecordSet:
    """Returns the record set in `folder` after a check of names and sizes, which costs no reading.

    Raises:
        ManifestError: if there is none, or a file of it is missing or has another size.
    """
    record_set = RecordSet(folder, manifest_lib.load(folder))
    for split in record_set.manifest.splits.values():
        for shard in (*split.shards, split.index):
            path = record_set.path(shard)
            size = os.path.getsize(path) if os.path.isfile(path) else None
            if size != shard.bytes:
                found = "it is missing" if size is None else f"it has {size} bytes"
                raise manifest_lib.ManifestError(
                    f"{path}: {found}, the manifest says {shard.bytes} bytes;"
                    f" python -m records.inspect_main verify --records={folder} tells more"
                )
    return record_set
