"""A contact sheet: a row of images for every class."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from records.format import record_set

_GAP = 2  # pixels between images
_BACKGROUND = (128, 128, 128)
_MAX_EDGE = 128  # pixels of an image on the sheet
_MAX_PIXELS = 50_000_000  # of the sheet


def contact_sheet(opened: record_set.RecordSet, split: str, columns: int = 12) -> Image.Image:
    """Returns `columns` images of each class of a split, evenly spaced among the rows of the class.

    Images are shrunk to at most 128 pixels, or less where there are very many classes.
    """
    labels = opened.index(split).label
    num_classes = len(opened.manifest.class_names)
    available = math.isqrt(_MAX_PIXELS // (num_classes * columns)) - _GAP
    edge = max(1, min(opened.manifest.image_size, _MAX_EDGE, available))
    pitch = edge + _GAP
    sheet = Image.new("RGB", (columns * pitch + _GAP, num_classes * pitch + _GAP), _BACKGROUND)
    for label in range(num_classes):
        rows = even(np.flatnonzero(labels == label), columns)
        _paste(sheet, [opened.pixels(split, row) for row in rows], label * pitch, edge)
    return sheet


def strip(images: Sequence[np.ndarray], edge: int) -> Image.Image:
    """Returns one row of images, each uint8 [size, size, 3], resized to `edge` pixels."""
    pitch = edge + _GAP
    sheet = Image.new("RGB", (len(images) * pitch + _GAP, pitch + _GAP), _BACKGROUND)
    _paste(sheet, images, 0, edge)
    return sheet


def _paste(sheet: Image.Image, images: Sequence[np.ndarray], top: int, edge: int) -> None:
    for column, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        if image.width != edge:
            image = image.resize((edge, edge), Image.Resampling.BOX)
        sheet.paste(image, (_GAP + column * (edge + _GAP), _GAP + top))


def even(rows: np.ndarray, count: int) -> list[int]:
    """Returns at most `count` of the rows, evenly spaced."""
    if len(rows) > count:
        rows = rows[np.arange(count) * len(rows) // count]
    return rows.tolist()
