"""The ranges of pixel values by name."""

import pytest

from datapipe.augment import value_range


@pytest.mark.parametrize(
    ("name", "black", "white"), [("0..1", 0, 1), ("-1..1", -1, 1), ("0..255", 0, 255)]
)
def test_a_range_goes_from_black_to_white(name, black, white):
    scale, offset = value_range.scale_of(name)
    assert offset == black
    assert 255 * scale + offset == pytest.approx(white)


def test_an_unknown_range_is_refused():
    with pytest.raises(ValueError, match=r"one of 0..1, -1..1, 0..255, got '0..2'"):
        value_range.scale_of("0..2")


def test_the_table_is_what_the_tests_walk():
    assert list(value_range.RANGES) == ["0..1", "-1..1", "0..255"]
