"""Numbers as descriptions have them."""

import pytest

from datapipe.augment import augmentation


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(4.4, 0, "+4"), (-0.4, 0, "0"), (-0.6, 0, "-1"), (4.52, 1, "+4.5"), (0.0, 1, "0")],
)
def test_signed(value, digits, said):
    assert augmentation.signed(value, digits) == said


def test_the_share_of_a_box():
    assert augmentation.box_share((1, 2, 5, 4), 8) == 8 / 64
