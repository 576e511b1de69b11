"""A record set in the forms that other tools read."""

import os
from collections.abc import Callable

from records.common import atomic, outputs
from records.export import dali, png_folders, tar, tfds
from records.format import manifest, record_set

# Each takes the set and a path that does not exist yet; `tar` makes a file of it.
FORMATS: dict[str, Callable[[record_set.RecordSet, str], None]] = {
    "tar": tar.write,
    "folders": png_folders.write,
    "tfds": tfds.write,
    "dali": dali.write,
}


def export(opened: record_set.RecordSet, output: str, file_format: str) -> None:
    """Writes a record set in one of `FORMATS`, whole or not at all.

    Args:
        opened: the set.
        output: a new file, or a new or empty folder.
        file_format: a name of `FORMATS`.

    Raises:
        ManifestError: if a file of the set is damaged.
        OutputError: if there is something at `output`, or it lies inside the set.
        DamagedRecordError: if a record that must be read is damaged.
        ArchiveError: if a file of the set is not as its manifest says.
    """
    folder = os.path.realpath(opened.folder)
    if os.path.commonpath([folder, os.path.realpath(output)]) == folder:
        raise outputs.OutputError(f"{output} lies inside the record set")
    _check_files(opened)
    with outputs.whole(output) as temporary:
        FORMATS[file_format](opened, temporary)


def _check_files(opened: record_set.RecordSet) -> None:
    """Refuses to carry on what is damaged.

    Raises:
        ManifestError: naming the file.
    """
    for split in opened.manifest.splits.values():
        for shard in (*split.shards, split.index):
            if atomic.sha256_of(opened.path(shard)) != shard.sha256:
                raise manifest.ManifestError(
                    f"{opened.path(shard)} is damaged; python -m records.inspect_main verify"
                    f" --records={opened.folder} tells more"
                )
