"""Tests for records.common.byte_strings."""

import numpy as np
import pytest

from records.common import byte_strings


@pytest.mark.parametrize("value", [b"", b"a/b.png", "손.jpg".encode(), b"\xff\xfe/\x80"])
def test_text_and_back(value):
    assert byte_strings.raw(byte_strings.text(value)) == value


@pytest.mark.parametrize(
    ("values", "block", "ends"),
    [([], b"", []), ([b""], b"", [0]), ([b"ab", b"", b"c"], b"abc", [2, 2, 3])],
)
def test_many_as_one_block_and_back(values, block, ends):
    packed, found = byte_strings.pack(iter(values))
    assert (packed, found.tolist(), found.dtype) == (block, ends, np.int64)
    assert byte_strings.unpack(packed, found) == values


@pytest.mark.parametrize("ends", [[], [1], [3], [2, 1, 2], [-1, 2]])
def test_ends_that_do_not_fit_the_block_are_refused(ends):
    with pytest.raises(ValueError, match="ends must ascend to 2 bytes, got"):
        byte_strings.unpack(b"ab", np.array(ends, np.int64))
