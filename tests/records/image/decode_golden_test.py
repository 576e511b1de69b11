"""What becomes of 926 odd and broken files: the reason, or the mean of each colour, pinned.

The table beside this file was written by

    python -m tests.records.image.decode_golden_test

and then checked by eye, against Pillow's own verdicts and on a contact sheet of every picture that
decodes. Write it again after a deliberate change of the policy, and look at what has changed.
"""

import csv
from pathlib import Path

import numpy as np
import PIL
import pytest

from records.image import decode
from tests import fakes

FOLDER = fakes.SHARED_DATA / "badinput"
TABLE = Path(__file__).with_name("decode_golden.csv")
COLUMNS = ("path", "outcome", "red", "green", "blue", "notes")
TOLERANCE = 2  # of 255; decoders of other versions and processors round differently

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs the files of {FOLDER}")


def outcome(path: Path) -> dict[str, str]:
    """Returns the row of a file, without its path."""
    try:
        decoded = decode.read(path.read_bytes(), decode.ImagePolicy())
    except decode.ImageError as error:
        return {"outcome": error.reason, "red": "", "green": "", "blue": "", "notes": ""}
    means = decoded.pixels.reshape(-1, 3).mean(axis=0)
    colours = dict(zip(("red", "green", "blue"), (f"{mean:.1f}" for mean in means), strict=True))
    return {"outcome": "ok", **colours, "notes": " ".join(decoded.notes)}


def golden() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="the table is that of Pillow 13 and later"
)
def test_every_file_has_the_outcome_of_the_table():
    differing = []
    for expected in golden():
        found = outcome(FOLDER / expected["path"])
        same = all(found[name] == expected[name] for name in ("outcome", "notes"))
        if same and found["outcome"] == "ok":
            colours = [[float(row[name]) for name in COLUMNS[2:5]] for row in (found, expected)]
            same = bool(np.abs(np.subtract(*colours)).max() <= TOLERANCE)
        if not same:
            differing.append((expected, found))
    assert not differing


def test_the_table_names_every_file():
    with (FOLDER / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {row["path"] for row in golden()}


def write_table() -> None:
    with (FOLDER / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        paths = sorted(row["path"] for row in csv.DictReader(file))
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows({"path": path, **outcome(FOLDER / path)} for path in paths)


if __name__ == "__main__":
    write_table()
