"""TensorBoard events: scalars of each epoch, its confusion matrix, its most confident mistakes."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw

from models.metrics import confusion as metrics
from models.training.logs import Epoch
from records.common.backend import tf
from records.format.record_set import RecordSet

Pictures = Callable[[], Mapping[str, np.ndarray]]

_CELL = 40  # pixels of a cell of the confusion matrix
_MAX_WITH_NUMBERS = 32  # classes
_MAX_PIXELS = 800  # side of the image if there are more classes
_MIN_WITH_LINES = 4  # pixels of a cell
_MISTAKES, _COLUMNS, _EDGE, _GAP = 24, 6, 96, 4
_GROUND, _LINE = (255, 255, 255), (217, 222, 229)
_HIT, _MISS = (37, 99, 235), (217, 72, 15)

# TensorBoard distinguishes scalars and images by these. `tf.summary.scalar` and `tf.summary.image`
# would set them too, but need TensorBoard to be installed (TensorFlow 2.21).
_SCALAR, _PICTURE = (
    tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=name), data_class=kind
    )
    for name, kind in (("scalars", 1), ("images", 3))
)


def write(epoch: Epoch, folder: str, pictures: Pictures | None = None) -> None:
    """Adds the scalars of an epoch to a folder of events, and images if it is the best so far.

    `pictures` returns the images, uint8 [height, width, 3], by name.
    """
    number = int(epoch.metrics["epoch"])
    writer = tf.summary.create_file_writer(folder, filename_suffix=f".{number:04d}")
    with writer.as_default(step=number):
        for name, value in {**epoch.metrics, **epoch.timing}.items():
            if name not in ("epoch", "steps"):
                group = "validation" if name.startswith("val_") else "training"
                tag = f"{group}/{name.removeprefix('val_')}"
                tf.summary.write(tag, tf.constant(value, tf.float32), metadata=_SCALAR)
        for name, pixels in (pictures() if pictures and epoch.best else {}).items():
            height, width = map(str, pixels.shape[:2])
            data = tf.stack([width, height, tf.io.encode_png(pixels)])
            tf.summary.write(f"validation/{name}", data, metadata=_PICTURE)
    writer.close()


def pictures(
    opened: RecordSet, split: str, labels: np.ndarray, probabilities: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Returns images of the `confusion` matrix and the `mistakes`, if any: uint8 [h, w, 3] each.

    `labels`, int [n], and `probabilities`, float [n, classes], are those of all rows of the split.
    """
    predicted = probabilities.argmax(1)
    found = {"confusion": confusion(metrics.confusion(labels, predicted, probabilities.shape[1]))}
    wrong = np.flatnonzero(predicted != labels)
    rows = wrong[np.argsort(-probabilities.max(1)[wrong], kind="stable")][:_MISTAKES].tolist()
    if rows:
        found["mistakes"] = _sheet([Image.fromarray(opened.pixels(split, row)) for row in rows])
    return found


def confusion(matrix: np.ndarray) -> np.ndarray:
    """Returns an image of counts [classes, classes], one row for each true class in label order.

    Correct predictions are blue, mistakes orange; the larger their share of the row, the darker.
    """
    count = len(matrix)
    cell = _CELL if count <= _MAX_WITH_NUMBERS else max(1, _MAX_PIXELS // count)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    colour = np.where(np.eye(count, dtype=bool)[..., None], _HIT, _MISS)
    shaded = 255 + (colour - 255) * 0.7 * share[..., None]
    cells = np.rint(shaded).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    if cell > _MIN_WITH_LINES:
        cells[::cell] = cells[:, ::cell] = _LINE
    if cell < _CELL:
        return cells
    image = Image.fromarray(cells)
    draw = ImageDraw.Draw(image)
    for row, column in np.argwhere(matrix).tolist():
        middle = (column * cell + cell // 2, row * cell + cell // 2)
        draw.text(middle, str(matrix[row, column]), fill=(28, 36, 48), anchor="mm")
    return np.asarray(image)


def _sheet(images: list[Image.Image]) -> np.ndarray:
    """Returns images in rows of six, the first at the top left."""
    edge = min(_EDGE, max(images[0].size))
    pitch, lines = edge + _GAP, -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * pitch + _GAP, lines * pitch + _GAP), _GROUND)
    for number, image in enumerate(images):
        at = (_GAP + number % _COLUMNS * pitch, _GAP + number // _COLUMNS * pitch)
        sheet.paste(image.resize((edge, edge), Image.Resampling.BOX), at)
    return np.asarray(sheet)
