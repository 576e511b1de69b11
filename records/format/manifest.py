"""The manifest of a record set, a frozen value in `manifest.json`.

It is written last, and a folder without one is not a record set: no reader sees an unfinished set.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from records.common import atomic, errors
from records.format import sharding

FILE_NAME = "manifest.json"
REJECTS_NAME = "rejects.jsonl"
FORMAT_VERSION = 2
_SINCE = {"attributes": 2, "notes": 2}  # the format version that added a field


class ManifestError(errors.DatapipeError, ValueError):
    """A record set that is missing, damaged or of a newer format."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of the set: its name, entries, bytes and SHA-256 in hexadecimal."""

    file: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: images per class (in the order of the class names), its shards and its index."""

    class_counts: tuple[int, ...]
    shards: tuple[Shard, ...]
    index: Shard

    @property
    def count(self) -> int:
        """Images in the split."""
        return sum(self.class_counts)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything later stages must know about a record set.

    Attributes:
        class_names: in label order.
        domains: in the order of the index's domain numbers.
        image_size: height and width of every image, in pixels.
        encoding: of the images in records; `raw` is uint8 [size, size, 3].
        splits: by name, in build order.
        accounting: for each class (and "" where the class is unknown) the number of files found,
            written, skipped (stored as `quarantined`) and excluded; found is the sum of the others.
        rejects: the file that lists the skipped and excluded files.
        reasons: number of skipped and excluded files by reason.
        settings: the options of the build and the versions of the image decoders; equal settings
            and sources give equal bytes.
        sources_sha256: digest of the sorted keys, labels, groups, domains, given splits, contents
            and exclusions.
        attributes: where a class is a combination (mask, gender, age), the values of each
            attribute; classes are all combinations, the last attribute changing fastest
            (`rules.class_names`). Empty where classes are plain.
        notes: number of images by what was done to them, such as `first_frame_of_animation`.
        format_version: of this file and of the records.
    """

    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    image_size: int
    encoding: str
    splits: Mapping[str, Split]
    accounting: Mapping[str, Mapping[str, int]]
    rejects: Shard
    reasons: Mapping[str, int]
    settings: Mapping[str, Any]
    sources_sha256: str
    attributes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def image_bytes(self) -> int:
        """Bytes of one decoded image."""
        return self.image_size * self.image_size * 3

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest: sets with equal digests are byte-identical."""
        return hashlib.sha256(atomic.json_bytes(_fields(self))).hexdigest()

    def split(self, name: str) -> Split:
        """Returns a split by name, or raises a ManifestError that lists the names."""
        if name not in self.splits:
            raise ManifestError(f"no split {name!r}; the record set has {', '.join(self.splits)}")
        return self.splits[name]


def to_json(manifest: Manifest) -> bytes:
    """Returns the manifest as JSON with its own digest, the same bytes for equal manifests."""
    return atomic.json_bytes({**_fields(manifest), "digest": manifest.digest}, indent=1)


def _fields(manifest: Manifest) -> dict[str, Any]:
    """Returns the fields that the manifest's format version has."""
    return {
        name: value
        for name, value in dataclasses.asdict(manifest).items()
        if _SINCE.get(name, 1) <= manifest.format_version
    }


def from_json(text: str) -> Manifest:
    """Returns the manifest that `to_json` wrote, or raises a ManifestError."""
    try:
        fields = json.loads(text)
        version = fields["format_version"]
        if version not in range(1, FORMAT_VERSION + 1):
            raise ManifestError(f"format_version must lie in 1..{FORMAT_VERSION}, got {version!r}")
        digest = fields.pop("digest")
        for name, split in fields["splits"].items():
            fields["splits"][name] = Split(
                class_counts=tuple(split["class_counts"]),
                shards=tuple(Shard(**shard) for shard in split["shards"]),
                index=Shard(**split["index"]),
            )
        for name in ("class_names", "domains"):
            fields[name] = tuple(fields[name])
        fields["rejects"] = Shard(**fields["rejects"])
        attributes = fields.get("attributes", {}).items()
        fields["attributes"] = {name: tuple(values) for name, values in attributes}
        manifest = Manifest(**fields)
        _check_names(manifest)
        if manifest.digest != digest:
            raise ManifestError("it was changed after it was written: its digest differs")
        return manifest
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ManifestError(f"the manifest is damaged: {type(error).__name__}: {error}") from None


def is_file_name(name: str) -> bool:
    """Whether a record set may hold a file of this name."""
    return name in (FILE_NAME, REJECTS_NAME) or sharding.is_file_name(name)


def _check_names(manifest: Manifest) -> None:
    """Refuses file names that lead outside the folder or occur twice."""
    files = [file for split in manifest.splits.values() for file in (*split.shards, split.index)]
    names = [file.file for file in (*files, manifest.rejects)]
    for name in names:
        if not is_file_name(name) or names.count(name) > 1:
            raise ManifestError(f"{name!r} is not a file name of a record set, or occurs twice")


def load(folder: str) -> Manifest:
    """Returns the manifest of a record set, or raises a ManifestError."""
    path = os.path.join(folder, FILE_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            return from_json(file.read())
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"no record set in {folder!r}: {FILE_NAME} is missing"
            " (make one with python -m records.build_main)"
        ) from None
    except (OSError, UnicodeDecodeError, ManifestError) as error:
        raise ManifestError(f"{path}: {error}") from None
