"""Some images of every class on one picture, a line to a class."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from records.format import record_set

_GAP = 2  # pixels between images
_GROUND = (128, 128, 128)
_MOST_EDGE = 128  # pixels of an image on the sheet
_MOST_PIXELS = 50_000_000  # of the sheet


def contact_sheet(opened: record_set.RecordSet, split: str, columns: int = 12) -> Image.Image:
    """Returns the sheet: class by class from the top, images evenly taken from the class's rows.

    A class without images has an empty line. Images larger than 128 pixels are made smaller, and
    smaller still where there are very many classes.

    Args:
        opened: the set.
        split: whose images.
        columns: images of a class, at least 1.

    Raises:
        ManifestError: if there is no such split.
        DamagedRecordError: if an image cannot be read.
    """
    labels = opened.index(split).label
    num_classes = len(opened.manifest.class_names)
    room = math.isqrt(_MOST_PIXELS // (num_classes * columns)) - _GAP
    edge = max(1, min(opened.manifest.image_size, _MOST_EDGE, room))
    pitch = edge + _GAP
    sheet = Image.new("RGB", (columns * pitch + _GAP, num_classes * pitch + _GAP), _GROUND)
    for label in range(num_classes):
        rows = even(np.flatnonzero(labels == label), columns)
        _paste(sheet, [opened.pixels(split, row) for row in rows], label * pitch, edge)
    return sheet


def strip(images: Sequence[np.ndarray], edge: int) -> Image.Image:
    """Returns one line of images, each uint8 [size, size, 3], made `edge` pixels wide and high."""
    pitch = edge + _GAP
    sheet = Image.new("RGB", (len(images) * pitch + _GAP, pitch + _GAP), _GROUND)
    _paste(sheet, images, 0, edge)
    return sheet


def _paste(sheet: Image.Image, images: Sequence[np.ndarray], top: int, edge: int) -> None:
    for column, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        if image.width != edge:
            image = image.resize((edge, edge), Image.Resampling.BOX)
        sheet.paste(image, (_GAP + column * (edge + _GAP), _GAP + top))


def even(rows: np.ndarray, count: int) -> list[int]:
    """Returns at most `count` of some rows, evenly taken."""
    if len(rows) > count:
        rows = rows[np.arange(count) * len(rows) // count]
    return rows.tolist()
