"""The lines that a training leaves, one an epoch, as a table and for TensorBoard."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from records.common import atomic
from records.common.backend import tf

# What TensorBoard knows a scalar and a picture by; `tf.summary.scalar` and `image` themselves want
# all of TensorBoard installed.
_SCALAR, _PICTURE = (
    tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=name), data_class=kind
    )
    for name, kind in (("scalars", 1), ("images", 3))
)


def write(lines: Sequence[Mapping[str, float]], path: str) -> None:
    """Writes lines of equal names as a CSV file, whole or not at all."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    atomic.write_whole(path, out.getvalue().encode())


def to_tensorboard(
    line: Mapping[str, float],
    timing: Mapping[str, float],
    folder: str,
    pictures: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Adds the scalars of an epoch to a folder of events, and pictures, uint8 [h, w, 3]."""
    writer = tf.summary.create_file_writer(folder, filename_suffix=f".{line['epoch']:04.0f}")
    with writer.as_default(step=int(line["epoch"])):
        for name, value in {**line, **timing}.items():
            if name not in ("epoch", "steps"):
                group = "validation" if name.startswith("val_") else "training"
                tag = f"{group}/{name.removeprefix('val_')}"
                tf.summary.write(tag, tf.constant(value, tf.float32), metadata=_SCALAR)
        for name, pixels in (pictures or {}).items():
            height, width = map(str, pixels.shape[:2])
            data = tf.stack([width, height, tf.io.encode_png(pixels)])
            tf.summary.write(f"validation/{name}", data, metadata=_PICTURE)
    writer.close()
