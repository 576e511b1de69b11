"""Some images of every class on one picture, a line to a class."""

import math

import numpy as np
from PIL import Image

from records import record_set

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
        for column, row in enumerate(_even(np.flatnonzero(labels == label), columns)):
            image = Image.fromarray(opened.pixels(split, row))
            if image.width != edge:
                image = image.resize((edge, edge), Image.Resampling.BOX)
            sheet.paste(image, (_GAP + column * pitch, _GAP + label * pitch))
    return sheet


def _even(rows: np.ndarray, count: int) -> list[int]:
    if len(rows) > count:
        rows = rows[np.arange(count) * len(rows) // count]
    return rows.tolist()
