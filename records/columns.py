"""Many byte strings in one block of memory, as they stand in a file and as the build holds them.

A list of 145,800 paths is 15 MB of Python objects; here it is the bytes and one number each, so
what the build needs hardly grows with the tree.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np


class Strings(Sequence[bytes]):
    """A sequence of byte strings.

    Attributes:
        blob: all of them, one after the other.
        ends: int64 [n], where each ends in `blob`.
    """

    def __init__(self, blob: bytes, ends: np.ndarray):
        if len(ends) and (ends[-1] != len(blob) or (np.diff(ends, prepend=0) < 0).any()):
            raise ValueError(f"ends must rise to {len(blob)} bytes, got {ends[-1]} at the end")
        self.blob = blob
        self.ends = ends

    @classmethod
    def of(cls, values: Iterable[bytes]) -> "Strings":
        """Returns the strings of any iterable, which is read once."""
        blob = bytearray()

        def append(value: bytes) -> int:
            blob.extend(value)
            return len(blob)

        ends = np.fromiter((append(value) for value in values), np.int64)
        return cls(bytes(blob), ends)

    def take(self, rows: np.ndarray) -> "Strings":
        """Returns the strings of these rows, in that order."""
        return Strings.of(self[row] for row in rows.tolist())

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> "Strings": ...
    def __getitem__(self, row: int | slice) -> "bytes | Strings":
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        return self.blob[self.ends[row - 1] if row else 0 : self.ends[row]]

    def __iter__(self) -> Iterator[bytes]:
        ends = self.ends.tolist()
        for start, end in itertools.pairwise([0, *ends]):
            yield self.blob[start:end]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
