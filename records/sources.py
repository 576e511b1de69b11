"""Where images come from: a tree of class folders, or a tree and a CSV that names its files.

Both give every file of the tree: as an image with its label, or as an exclusion with its reason.
Keys are paths inside the tree with `/` between their parts; bytes that are not UTF-8 survive in
them as Python's surrogate escapes.
"""

import csv
import dataclasses
import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence

_IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".heic"),
)
_HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")


class SourceError(ValueError):
    """The tree or the CSV does not say what the image or its label is."""


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """One image to be packed.

    Attributes:
        key: path inside the tree, the stable name of the image.
        path: where to read it.
        label: name of its class.
        group: name of the set that must stay in one split; None ties it to nothing.
        domain: where it comes from, empty if there is only one.
    """

    key: str
    path: str
    label: str
    group: str | None = None
    domain: str = ""


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """A file of the tree that is left out, and why; `label` is empty where the class is unknown."""

    key: str
    label: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """Every file of a tree, each once, in the order of their keys."""

    images: tuple[SourceImage, ...]
    excluded: tuple[Exclusion, ...]


@dataclasses.dataclass(frozen=True)
class CsvColumns:
    """Names of the columns of a label CSV.

    `group` and `domain` may be absent from the header, unless `required` names them.
    """

    path: str = "path"
    label: str = "label"
    group: str = "group"
    domain: str = "domain"
    required: tuple[str, ...] = ()


def from_folders(root: str, *, exclude: Sequence[str] = ()) -> Listing:
    """Returns the images of a tree whose first folder level names the class.

    Files below nested folders belong to the class of the first level. Hidden files, files that are
    not regular, files beside the class folders that are no images by name, and files that match a
    pattern of `exclude` are exclusions.

    Args:
        root: the folder that holds the class folders.
        exclude: shell patterns, matched against keys.

    Raises:
        SourceError: if `root` is not a folder, an image lies outside every class folder, or no
            image is found.
    """
    images, excluded = [], []
    for key, reason in _walk(root, exclude):
        label = key.split("/", 1)[0] if "/" in key else ""
        if reason == "linked_folder" and not label:
            raise SourceError(
                f"the class folder {key!r} is a link to a folder, and those are not followed; put"
                " the folder itself there or leave it out with --exclude"
            )
        if reason:
            excluded.append(Exclusion(key, label, reason))
        elif label:
            images.append(SourceImage(key, os.path.join(root, key), label))
        elif key.lower().endswith(_IMAGE_SUFFIXES):
            raise SourceError(
                f"{key!r} lies in {root} itself, so no folder names its class; move it into a class"
                " folder or leave it out with --exclude"
            )
        else:
            excluded.append(Exclusion(key, "", "outside_class_folders"))
    return _listing(root, images, excluded)


def from_csv(
    root: str,
    csv_path: str,
    *,
    columns: CsvColumns | None = None,
    encoding: str = "utf-8-sig",
    exclude: Sequence[str] = (),
) -> Listing:
    """Returns the images that a CSV names, one row to one image.

    Files of the tree that no row names are exclusions with the reason `not_in_csv`.

    Args:
        root: the folder that the paths in the CSV start from.
        csv_path: the CSV, with a header line.
        columns: names of its columns.
        encoding: of the CSV; the default is UTF-8, with or without a byte order mark.
        exclude: shell patterns, matched against keys.

    Raises:
        SourceError: with the line number, if the CSV cannot be decoded, a column is missing, a
            value is empty, a path leaves the tree, stands twice or is no file of the tree.
    """
    columns = columns or CsvColumns()
    on_disk = dict(_walk(root, exclude))
    images: dict[str, SourceImage] = {}
    for line, row in _csv_rows(csv_path, encoding, columns):
        key, label = row[columns.path], row[columns.label]
        if key not in on_disk:
            key = key.replace("\\", "/")  # a CSV made on Windows
        where = f"{csv_path}, line {line}"
        if not key or not label:
            empty = columns.path if not key else columns.label
            raise SourceError(f"{where}: the column {empty!r} is empty")
        if key in images:
            raise SourceError(f"{where}: {key!r} stands there a second time")
        if key not in on_disk:
            raise SourceError(f"{where}: {key!r} is no file in {root}")
        if not on_disk[key]:
            images[key] = SourceImage(
                key=key,
                path=os.path.join(root, key),
                label=label,
                group=row.get(columns.group) or None,
                domain=row.get(columns.domain) or "",
            )
    excluded = [
        Exclusion(key, "", reason or "not_in_csv")
        for key, reason in on_disk.items()
        if key not in images
    ]
    return _listing(root, list(images.values()), excluded)


def _listing(root: str, images: list[SourceImage], excluded: list[Exclusion]) -> Listing:
    if not images:
        raise SourceError(f"no image found in {root} ({len(excluded)} files left out)")
    images.sort(key=lambda image: os.fsencode(image.key))
    return Listing(tuple(images), tuple(excluded))


def _walk(root: str, exclude: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (key, reason to leave it out or empty) for every file, in the order of key bytes."""
    if not os.path.isdir(root):
        raise SourceError(f"the source must be a folder, got {root!r}")
    found = []
    for folder, folders, files in os.walk(root, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in files + links:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, root).replace(os.sep, "/")
            found.append((key, _reason(path, key, exclude)))
    yield from sorted(found, key=lambda item: os.fsencode(item[0]))


def _reason(path: str, key: str, exclude: Sequence[str]) -> str:
    parts = key.lower().split("/")
    if any(part.startswith(".") or part in _HIDDEN for part in parts):
        return "hidden"
    if any(fnmatch.fnmatchcase(key, pattern) for pattern in exclude):
        return "excluded_by_pattern"
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "dangling_link"
    if stat.S_ISDIR(mode):  # os.walk lists a link to a folder and does not enter it
        return "linked_folder"
    # Opening a pipe or a device could block or never end.
    return "" if stat.S_ISREG(mode) else "not_a_regular_file"


def _raise(error: OSError) -> None:
    raise SourceError(f"cannot list the folder {error.filename!r}: {error.strerror}")


def _csv_rows(
    csv_path: str, encoding: str, columns: CsvColumns
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, values by column) for the rows below the header."""
    try:
        with open(csv_path, encoding=encoding, newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for name in (columns.path, columns.label, *columns.required):
                if name not in header:
                    raise SourceError(
                        f"{csv_path}: no column {name!r}; its header, parted at commas, has"
                        f" {', '.join(map(repr, header)) or 'nothing'}"
                    )
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise SourceError(
                        f"{csv_path}, line {reader.line_num}: {len(row)} values under"
                        f" {len(header)} columns"
                    )
                yield reader.line_num, dict(zip(header, row, strict=True))
    except (UnicodeDecodeError, LookupError) as error:
        raise SourceError(
            f"{csv_path} is not {encoding} text ({error}); name its encoding"
        ) from None
    except csv.Error as error:
        raise SourceError(f"{csv_path}, line {reader.line_num}: {error}") from None
    except OSError as error:
        raise SourceError(f"cannot read {csv_path}: {error.strerror}") from None
