"""The measured images of a source or record set, the input of a survey.

Measurements are kept, never pixels; the few images that are shown are read again.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from records.builder import accounting
from records.common.byte_strings import text
from records.inspect import leaks


@dataclasses.dataclass(frozen=True)
class Headers:
    """What the headers of image files state.

    Attributes:
        size: int64 [n, 2], width and height of the upright image or of its box, in pixels.
        kind: int64 [n], index into `kinds`.
        kinds: format and mode of the stored pixels, such as `("PNG", "RGBA")`.
    """

    size: np.ndarray
    kind: np.ndarray
    kinds: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """Images in columns of equal length, in ascending order of their keys, and the omitted files.

    Attributes:
        origin: `records` or `source`.
        path: of the record set or source.
        domain: int [n], index into `domains`.
        statistics: float64 [n, 3], see `image.statistics`.
        fingerprints: uint8 [n, F], see `near_duplicates.fingerprints`.
        headers: None for a record set, which does not know its source files.
        class_names: in label order.
        split_names: empty where nothing is split.
        given_splits: whether the source gives the split of each image, or gave it to the build.
        only_split: the measured splits if others were not measured, else empty.
        image_size: height and width of the measured pixels.
        omitted: the files skipped or excluded; empty if `only_split`, as their splits are unknown.
        notes: number of images by what was done to them; empty if `only_split`.
        warnings: what looks unintended, a sentence each.
        pixels: returns the pixels of a row, uint8 [size, size, 3].
    """

    origin: str
    path: str
    keys: Sequence[bytes]
    columns: leaks.Columns
    domain: np.ndarray
    statistics: np.ndarray
    fingerprints: np.ndarray
    headers: Headers | None
    class_names: tuple[str, ...]
    split_names: tuple[str, ...]
    given_splits: bool
    only_split: str
    domains: tuple[str, ...]
    image_size: int
    omitted: tuple[accounting.OmittedFile, ...]
    notes: Mapping[str, int]
    warnings: tuple[str, ...]
    pixels: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, row: int) -> str:
        """Returns the key of a row as text."""
        return text(self.keys[row])

    def class_of(self, row: int) -> str:
        """Returns the class name of a row."""
        return self.class_names[self.columns.label[row]]

    def split_of(self, row: int) -> str:
        """Returns the split name of a row, empty where nothing is split."""
        return self.split_names[self.columns.split[row]] if self.split_names else ""

    def counts(self) -> dict[str, np.ndarray]:
        """Returns the images of each class, int64 [classes], by split; `all` where none is."""
        num_classes = len(self.class_names)
        if not self.split_names:
            return {"all": np.bincount(self.columns.label, minlength=num_classes)}
        return {
            name: np.bincount(self.columns.label[self.columns.split == i], minlength=num_classes)
            for i, name in enumerate(self.split_names)
        }

    def total(self) -> np.ndarray:
        """Returns the images of each class, int64 [classes]."""
        return np.bincount(self.columns.label, minlength=len(self.class_names))
