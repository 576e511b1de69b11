"""A record set in the formats of other tools."""

import os
from collections.abc import Callable

from records.common import atomic
from records.export import dali, png_folders, tar, tfds
from records.format import manifest, record_set

# Each takes the set and a new path: `tar` creates a file there, the others a folder.
FORMATS: dict[str, Callable[[record_set.RecordSet, str], None]] = {
    "tar": tar.write,
    "folders": png_folders.write,
    "tfds": tfds.write,
    "dali": dali.write,
}


def export(opened: record_set.RecordSet, output: str, file_format: str) -> None:
    """Writes a record set in one of `FORMATS` to a new file, or a new or empty folder.

    The output is complete or does not exist.

    Raises:
        ManifestError, DamagedRecordError: if the set is damaged.
        OutputError: if `output` is in use or inside the set.
        UnfitNamesError: if TensorFlow Datasets cannot hold the class names.
    """
    folder = os.path.realpath(opened.folder)
    if os.path.commonpath([folder, os.path.realpath(output)]) == folder:
        raise atomic.OutputError(f"the output must not be inside the record set, got {output}")
    _check_files(opened)
    with atomic.output(output) as temporary:
        FORMATS[file_format](opened, temporary)


def _check_files(opened: record_set.RecordSet) -> None:
    """Raises a ManifestError that names the first damaged file."""
    for split in opened.manifest.splits.values():
        for shard in (*split.shards, split.index):
            if atomic.sha256_of(opened.path(shard)) != shard.sha256:
                raise manifest.ManifestError(
                    f"{opened.path(shard)} is damaged; python -m records.inspect_main verify"
                    f" --records={opened.folder} lists all faults"
                )
