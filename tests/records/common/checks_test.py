"""Tests for records.common.checks."""

import math

import pytest

from records.common import checks


@pytest.mark.parametrize(
    ("value", "least", "unit", "message"),
    [
        (1, 1, "", None),
        (math.inf, 0, "", None),
        (0, 1, "", "epochs must be at least 1, got 0"),
        (math.nan, 0, "", "epochs must be at least 0, got nan"),
        (0, 1, "MiB", "epochs must be at least 1 MiB, got 0"),
    ],
)
def test_at_least(value, least, unit, message):
    assert _said(checks.at_least, "epochs", value, least, unit) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [("crop", None), ("zoom", "resize must be one of stretch, crop, got 'zoom'")],
)
def test_one_of(value, message):
    assert _said(checks.one_of, "resize", value, ("stretch", "crop")) == message


@pytest.mark.parametrize(
    ("value", "low", "high", "ends", "message"),
    [
        (0, 0, 10, "[]", None),
        (10, 0, 10, "[]", None),
        (10.5, 0, 10, "[]", "x must lie in 0..10, got 10.5"),
        (math.nan, 0, 10, "[]", "x must lie in 0..10, got nan"),
        (0, 0, 1, "[)", None),
        (1, 0, 1, "[)", "x must lie in [0, 1), got 1"),
        (0, 0, 1, "(]", "x must lie in (0, 1], got 0"),
        (1e9, 0, math.inf, "[)", None),
        (math.inf, 0, math.inf, "[)", "x must be at least 0 and finite, got inf"),
        (0, 0, math.inf, "()", "x must be above 0 and finite, got 0"),
    ],
)
def test_between(value, low, high, ends, message):
    assert _said(checks.between, "x", value, low, high, ends) == message


def _said(check, *arguments):
    try:
        check(*arguments)
    except ValueError as error:
        return str(error)
    return None
