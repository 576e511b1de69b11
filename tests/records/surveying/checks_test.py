"""A finding says its items in one printable sentence and keeps all of them."""

import numpy as np
import pytest

from records.inspect import leaks
from records.surveying import checks, findings
from tests import fakes
from tests.records.surveying import made


@pytest.mark.parametrize(
    ("names", "details", "expected"),
    [
        ("a", True, "1 image is red in test: a (no a)"),
        ("ab", True, "2 images are red in test: a (no a), b (no b)"),
        ("abcdefg", False, "7 images are red in test: a, b, c, d, e and 2 more"),
        ("", True, None),
    ],
)
def test_a_check_fills_in_its_sentence(names, details, expected):
    items = [checks.Item(name, detail=f"no {name}") for name in names]
    check = checks.Check(
        kind="red",
        find=lambda evidence: checks.some(items, split="test"),
        one="{count} image is red in {split}",
        many="{count} images are red in {split}",
        advice="paint {split}",
        details=details,
    )
    found = list(check.findings(checks.Evidence(None, {}, 0.15)))
    assert [finding.what for finding in found] == ([expected] if expected else [])
    assert all(finding.advice == "paint test" for finding in found)


def test_every_kind_has_one_check():
    kinds = [check.kind for check in findings.CHECKS]
    assert len(set(kinds)) == len(kinds) and set(leaks.ALL_KINDS) < set(kinds)


def test_names_that_are_hard_to_print_stand_whole_among_the_items(tmp_path):
    name = "soft/a\nb\udcff.png"
    found = made.surveyed(
        tmp_path, {**made.clean(), name: fakes.encoded(np.zeros((24, 24, 3), np.uint8))}
    )
    assert made.names(found["uniform"]) == [name]
    assert r"soft/a\nb\udcff.png (contrast 0.0)" in found["uniform"].what


def test_a_long_list_is_cut_in_the_sentence_alone(tmp_path):
    files = made.clean()
    files |= {f"soft/x{n}.png": files["edgy/004.png"] for n in range(8)}
    found = made.surveyed(tmp_path, files)["equal"]
    assert found.what.endswith("soft/x0.png, soft/x1.png, soft/x2.png, soft/x3.png, soft/x4.png"
                               " and 3 more")  # fmt: skip
    assert len(found.items) == 8
