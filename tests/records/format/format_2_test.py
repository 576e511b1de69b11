"""A record set as version 0.5 wrote it gives the same rows for ever."""

import hashlib
from pathlib import Path

import pytest

from records.format import record_set
from records.inspect import verify

VERSION_2 = Path(__file__).parent / "formats" / "version_2"
# Of all rows in order. Other values mean that sets made so far are read wrongly.
PIXELS = "046fbcf70c0987eab1e4874ed415660dfa27db36f5c54a0f65b2b57cdf2d755e"
ROWS = "577469d7b6c8323d480db8f503c3b1229dd28215fefcfcae95069014f20d9238"


@pytest.fixture(scope="module")
def opened():
    return record_set.open_set(str(VERSION_2))


def test_it_opens_and_verifies(opened):
    said = opened.manifest
    assert verify.verify(str(VERSION_2)) == []
    assert (said.format_version, said.encoding, said.image_size) == (2, "png", 22)
    assert said.class_names == ("O 동그라미", "X") and said.domains == ("font", "hand")
    assert {name: split.count for name, split in said.splits.items()} == {
        "train": 58,
        "validation": 20,
        "test": 20,
    }
    assert said.notes == {"first_frame_of_animation": 1}
    assert said.reasons == {"excluded_by_pattern": 1, "not_an_image": 1, "not_in_csv": 1}
    assert said.digest == "b10cecfef69c11560a10a7ed38468affcff16306d489823ad1f10b81377a5de8"


def test_its_pixels(opened):
    digest = hashlib.sha256()
    for split in opened.manifest.splits:
        for batch in opened.pixel_batches(split):
            digest.update(batch.tobytes())
    assert digest.hexdigest() == PIXELS


def test_what_it_says_of_each_row(opened):
    lines = []
    for split in opened.manifest.splits:
        index = opened.index(split)
        for row in range(len(index)):
            numbers = [int(column[row]) for column in (index.label, index.domain, index.group)]
            lines.append(f"{index.key(row)} {numbers} {bytes(index.source_sha256[row]).hex()}")
    assert lines[0].startswith("X/fonts-humor-sans-Humor-Sans-Regular-low_963d94.png [1, 0, 8]")
    assert len(lines) == 98
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == ROWS
