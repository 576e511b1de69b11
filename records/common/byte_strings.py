"""Columns that take little memory: byte strings in one block, and what is large in unnamed files.

A list of 145,800 paths is 15 MB of Python objects; here it is the bytes, in a file, and one number
each. The pages of such files that are in memory are let go after each use, so what a build needs
hardly grows with the tree.
"""

import array
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

_BLOCK = 4096  # numbers that are Python objects at a time


def text(value: bytes) -> str:
    """Returns bytes as text; those that are not UTF-8 become surrogate escapes."""
    return value.decode("utf-8", "surrogateescape")


def raw(value: str) -> bytes:
    """Returns the bytes that `text` was given."""
    return value.encode("utf-8", "surrogateescape")


class Strings(Sequence[bytes]):
    """A sequence of byte strings.

    Attributes:
        blob: all of them, one after the other; bytes, or a file in memory.
        ends: integers [n], where each ends in `blob`.
    """

    def __init__(self, blob: bytes | mmap.mmap, ends: np.ndarray):
        if len(ends) and (ends[-1] != len(blob) or (ends[1:] < ends[:-1]).any()):
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
        start = 0
        for block in range(0, len(self), _BLOCK):
            for end in self.ends[block : block + _BLOCK].tolist():
                yield self.blob[start:end]
                start = end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def release(self) -> None:
        """Lets go of the memory that pages of a file take; they come back when they are used."""
        if isinstance(self.blob, mmap.mmap):
            self.blob.madvise(mmap.MADV_DONTNEED)


class StringsWriter:
    """Takes byte strings one by one into an unnamed file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="datapipe-")  # noqa: SIM115 - closed at the end
        self._ends = array.array("I")  # wide enough for 4 GiB
        self._size = 0

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, value: bytes) -> None:
        """Takes one more."""
        self._file.write(value)
        self._size += len(value)
        if self._size >= 1 << 32 and self._ends.typecode == "I":
            self._ends = array.array("Q", self._ends)
        self._ends.append(self._size)

    def strings(self) -> Strings:
        """Returns them; nothing can be appended any more."""
        ends = np.frombuffer(self._ends, self._ends.typecode)
        with self._file as file:
            file.flush()
            if not self._size:  # an empty file cannot be mapped
                return Strings(b"", ends)
            return Strings(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), ends)


def zeros(shape: tuple[int, ...], dtype: type, folder: str) -> np.ndarray:
    """Returns zeros that lie in an unnamed file in `folder`; see `release`.

    Raises:
        OSError: if there is no room.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not size:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error, not a SIGBUS later
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)


def release(column: np.ndarray) -> None:
    """Lets go of the memory that pages of a column of `zeros` take, until they are used again."""
    base = column
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
