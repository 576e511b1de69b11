import numpy as np
import pytest

from records.common.byte_strings import Strings


def test_strings_are_a_sequence():
    values = [b"a", b"", "한".encode(), b"\xff\n"]
    strings = Strings.of(iter(values))
    assert list(strings) == values and len(strings) == 4
    assert [strings[i] for i in (0, 1, 2, 3, -1)] == [*values, values[-1]]
    assert list(strings[1:3]) == values[1:3]
    assert list(strings.take(np.array([3, 0, 0]))) == [values[3], values[0], values[0]]
    assert strings == values and strings != values[:2]
    assert len(Strings.of([])) == 0


def test_rows_that_are_not_there_are_refused():
    with pytest.raises(IndexError, match="row 1 of 1"):
        Strings.of([b"a"])[1]


def test_ends_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must rise to 3 bytes"):
        Strings(b"abc", np.array([2, 1, 3]))
