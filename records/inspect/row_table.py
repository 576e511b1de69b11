"""Rows of several splits of a record set as one table."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from records.common import byte_strings
from records.format.record_set import RecordSet


@dataclasses.dataclass(frozen=True)
class RowTable:
    """Rows: `split` is int64 [n], an index into `splits`, and `row` int64 [n], the row in it."""

    opened: RecordSet
    splits: tuple[str, ...]
    split: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def column(self, name: str) -> np.ndarray:
        """Returns a column of the index of each split, such as `label`, for these rows."""
        columns = [getattr(self.opened.index(split), name) for split in self.splits]
        starts = np.cumsum([0, *map(len, columns)])
        return np.concatenate(columns)[starts[self.split] + self.row]

    @functools.cached_property
    def label(self) -> np.ndarray:
        """The label of each row, int64 [n]."""
        return self.column("label").astype(np.int64)

    @functools.cached_property
    def raw_keys(self) -> list[bytes]:
        """The key of each row, as its bytes."""
        keys = [self.opened.index(split).keys for split in self.splits]
        places = zip(self.split.tolist(), self.row.tolist(), strict=True)
        return [keys[split][row] for split, row in places]

    @functools.cached_property
    def keys(self) -> list[str]:
        """The key of each row as text; bytes that are not UTF-8 are surrogate escapes."""
        return [byte_strings.text(key) for key in self.raw_keys]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the set, by label."""
        return self.opened.manifest.class_names

    @property
    def has_boxes(self) -> bool:
        """Whether several images may be cropped from one file."""
        return bool(self.opened.manifest.settings.get("boxes"))

    def pixels(self, i: int) -> np.ndarray:
        """Returns one image, uint8 [size, size, 3]."""
        return self.opened.pixels(self.splits[self.split[i]], int(self.row[i]))

    def take(self, rows: np.ndarray) -> "RowTable":
        """Returns some of the rows, by number or by mask, in that order."""
        return dataclasses.replace(self, split=self.split[rows], row=self.row[rows])


def rows_of(opened: RecordSet, splits: Sequence[str]) -> RowTable:
    """Returns the rows of the splits, one split after the other."""
    lengths = [len(opened.index(name)) for name in splits]
    row = np.concatenate([np.arange(length) for length in lengths])
    return RowTable(opened, tuple(splits), np.repeat(np.arange(len(splits)), lengths), row)
