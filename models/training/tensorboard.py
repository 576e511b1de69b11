"""Pictures for TensorBoard: the confusion of an epoch, and its most confident mistakes."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from models.metrics import confusion as metrics
from records.format.record_set import RecordSet

_CELL = 40  # pixels of a cell of the confusion
_MOST_WITH_NUMBERS, _MOST_PIXELS = 32, 800  # classes; of a side where there are more
_LEAST_WITH_LINES = 4  # pixels
_MISTAKES, _COLUMNS, _EDGE, _GAP = 24, 6, 96, 4
_GROUND, _LINE = (255, 255, 255), (217, 222, 229)
_HIT, _MISS = (37, 99, 235), (217, 72, 15)


def pictures(
    opened: RecordSet, split: str, labels: np.ndarray, probabilities: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Returns `confusion` and, if there are any, `mistakes`: uint8 [height, width, 3] each.

    Args:
        opened: the records.
        split: that was predicted.
        labels: int [n] of its rows.
        probabilities: float [n, classes].
    """
    predicted = probabilities.argmax(1)
    found = {"confusion": confusion(metrics.confusion(labels, predicted, probabilities.shape[1]))}
    wrong = np.flatnonzero(predicted != labels)
    rows = wrong[np.argsort(-probabilities.max(1)[wrong], kind="stable")][:_MISTAKES].tolist()
    if rows:
        found["mistakes"] = _sheet([Image.fromarray(opened.pixels(split, row)) for row in rows])
    return found


def confusion(matrix: np.ndarray) -> np.ndarray:
    """Returns counts [classes, classes] as a picture, true classes down in label order.

    Hits are blue, mistakes orange, the darker the larger their share of the row.
    """
    count = len(matrix)
    cell = _CELL if count <= _MOST_WITH_NUMBERS else max(1, _MOST_PIXELS // count)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    colour = np.where(np.eye(count, dtype=bool)[..., None], _HIT, _MISS)
    shaded = 255 + (colour - 255) * 0.7 * share[..., None]
    cells = np.rint(shaded).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    if cell > _LEAST_WITH_LINES:
        cells[::cell] = cells[:, ::cell] = _LINE
    if cell < _CELL:
        return cells
    picture = Image.fromarray(cells)
    draw = ImageDraw.Draw(picture)
    for row, column in np.argwhere(matrix).tolist():
        middle = (column * cell + cell // 2, row * cell + cell // 2)
        draw.text(middle, str(matrix[row, column]), fill=(28, 36, 48), anchor="mm")
    return np.asarray(picture)


def _sheet(images: list[Image.Image]) -> np.ndarray:
    """Returns images in lines of six, the first at the top left."""
    edge = min(_EDGE, max(images[0].size))
    pitch, lines = edge + _GAP, -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * pitch + _GAP, lines * pitch + _GAP), _GROUND)
    for number, image in enumerate(images):
        at = (_GAP + number % _COLUMNS * pitch, _GAP + number // _COLUMNS * pitch)
        sheet.paste(image.resize((edge, edge), Image.Resampling.BOX), at)
    return np.asarray(sheet)
