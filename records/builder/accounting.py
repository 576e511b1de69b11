"""Accounts for every file of a source: written to the set, skipped or excluded.

A file is *skipped* if it cannot be used, such as a damaged image, and *excluded* by choice: by a
pattern, by a list, or by a label rule that does not name it.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from records.builder.shard_writer import BuildError
from records.common import atomic
from records.common.byte_strings import pack, raw, text
from records.format import manifest
from records.source.listing import Listing, OmittedFile

# The columns of the table: the stored name, in manifests of every version, and the shown name.
COLUMNS = {"found": "found", "written": "written", "quarantined": "skipped", "excluded": "excluded"}


def omitted_files(
    listing: Listing, images: Iterable[tuple[int, str, str]]
) -> tuple[OmittedFile, ...]:
    """Returns every file that is not in the set, in the order of keys.

    Args:
        images: (position, reason, detail) of the images that are not in the set.
    """
    skipped = [
        OmittedFile(text(listing.keys[at]), listing.class_names[listing.label[at]], reason, detail)
        for at, reason, detail in images
    ]
    omitted = (*skipped, *listing.excluded)
    return tuple(sorted(omitted, key=lambda file: (raw(file.key), file.reason)))


def write_omitted(folder: str, omitted: Sequence[OmittedFile]) -> manifest.Shard:
    """Writes `rejects.jsonl`, a line for each omitted file; returns its entry for the manifest."""
    lines = (atomic.json_bytes(dataclasses.asdict(file)) for file in omitted)
    path = os.path.join(folder, manifest.REJECTS_NAME)
    sha256 = atomic.write_stream(path, itertools.chain(lines, [b""]))
    return manifest.Shard(manifest.REJECTS_NAME, len(omitted), os.path.getsize(path), sha256)


def read_omitted(folder: str) -> tuple[OmittedFile, ...]:
    """Returns the files that a record set does not hold, with their reasons."""
    with open(os.path.join(folder, manifest.REJECTS_NAME), encoding="utf-8") as file:
        return tuple(OmittedFile(**json.loads(line)) for line in file)


def table(
    listing: Listing, omitted: Sequence[OmittedFile], splits: Iterable[manifest.Split]
) -> dict[str, dict[str, int]]:
    """Returns the files by class and column; raises a BuildError if they do not add up, a bug."""
    names = listing.class_names
    # A CSV row without a file is omitted from the set, but is not a file found.
    excluded = Counter(file.label for file in listing.excluded if file.reason != "missing_file")
    listed = np.bincount(listing.label, minlength=len(names)).tolist()
    total = Counter(dict(zip(names, listed, strict=True))) + excluded
    skipped = Counter(file.label for file in omitted if file.reason != "missing_file") - excluded
    class_counts = np.sum([split.class_counts for split in splits], axis=0).tolist()
    written = dict(zip(names, class_counts, strict=True))
    result = {
        label: {
            "found": total[label],
            "written": written.get(label, 0),
            "quarantined": skipped[label],
            "excluded": excluded[label],
        }
        for label in sorted({*names, *excluded})
    }
    for label, counts in result.items():
        if counts["found"] * 2 != sum(counts.values()):
            raise BuildError(f"files of class {label!r} do not add up: {counts}")
    return result


def reasons(omitted: Iterable[OmittedFile]) -> Mapping[str, int]:
    """Returns how many files were omitted for each reason."""
    return dict(sorted(Counter(file.reason for file in omitted).items()))


def sources_digest(listing: Listing, sha256: np.ndarray) -> str:
    """Returns a digest of the input: the key, label, group, domain, split and bytes of each image.

    Args:
        sha256: uint8 [n, 32], of the bytes of each image's file.
    """
    names = (listing.class_names, listing.domains, listing.split_names)
    excluded = [dataclasses.astuple(exclusion) for exclusion in listing.excluded]
    digest = hashlib.sha256(json.dumps([names, excluded]).encode())
    # Boxes are part of the keys. The integer widths are those of the first version, so that digests
    # of equal sources stay equal.
    for strings, width in ((listing.keys, np.uint32), (listing.group_names, np.int64)):
        block, ends = pack(strings)
        digest.update(block)
        digest.update(ends.astype(width).tobytes())
    for column in (listing.label, listing.domain, listing.group, listing.split, sha256):
        digest.update(column.tobytes())
    return digest.hexdigest()
