"""A record set as a tree of PNG files, `split/class/key.png`, and a CSV that lists them.

Names are escaped so that every key is one plain file name and no two keys share one: `/`, `%`, a
leading dot, unprintable characters and bytes that are not UTF-8 become `%` and two hexadecimal
digits for each byte. A name longer than 255 bytes is cut and ends in `~` and a digest.
"""

import csv
import hashlib
import os
from typing import Any

from records.format import record_set
from records.image import decode

INDEX_NAME = "index.csv"
COLUMNS = ("path", "key", "split", "class", "domain", "group", "sha256")
_SUFFIX = ".png"
_MAX_BYTES = 255  # of a file name, on every file system in use
_DIGEST_DIGITS = 32


def write(opened: record_set.RecordSet, folder: str) -> None:
    """Writes every image as a PNG of the same pixels, and `index.csv`, into a new folder.

    The CSV is UTF-8 with the header `COLUMNS`; a byte of a key that is not UTF-8 is written as in
    JSON, `\\udc80`. Rows of equal `group` belong together; the numbers have no other meaning.
    """
    os.mkdir(folder)
    path = os.path.join(folder, INDEX_NAME)
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(COLUMNS)
        for split in opened.manifest.splits:
            _write_split(opened, split, folder, table)


def _write_split(opened: record_set.RecordSet, split: str, folder: str, table: Any) -> None:
    info, index = opened.manifest, opened.index(split)
    places = [f"{split}/{escaped(os.fsencode(name))}" for name in info.class_names]
    for place in places:
        os.makedirs(os.path.join(folder, place))
    row = 0
    for batch in opened.pixel_batches(split):
        for pixels in batch:
            label = index.label[row]
            path = f"{places[label]}/{escaped(index.keys[row], _SUFFIX)}"
            with open(os.path.join(folder, path), "xb") as file:
                file.write(decode.encode(pixels, "png"))
            names = (info.class_names[label], info.domains[index.domain[row]])
            digest = index.source_sha256[row].tobytes().hex()
            table.writerow((path, index.key(row), split, *names, index.group[row], digest))
            row += 1


def escaped(name: bytes, suffix: str = "") -> str:
    """Returns a valid file name, different for different names."""
    text = "".join(map(_escaped_character, name.decode("utf-8", "surrogateescape")))
    if text.startswith("."):
        text = "%2E" + text[1:]
    text = text or "%"
    if len((text + suffix).encode()) <= _MAX_BYTES:
        return text + suffix
    tail = "~" + hashlib.sha256(name).hexdigest()[:_DIGEST_DIGITS] + suffix
    start = text.encode()[: _MAX_BYTES - len(tail)].decode("utf-8", "ignore")
    return start + tail


def _escaped_character(character: str) -> str:
    if character.isprintable() and character not in "/%~\\":
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
