"""Pictures for TensorBoard, read back from the events that hold them."""

import io

import numpy as np
from PIL import Image

from models.training import logs, tensorboard
from records.common.backend import tf
from tests import fakes


def test_confusion_is_coloured_by_shares_of_the_row():
    picture = tensorboard.confusion(np.array([[8, 0], [30, 90]]))
    assert picture.shape == (80, 80, 3) and picture.dtype == np.uint8
    hit, never, mistake = picture[8, 8], picture[8, 48], picture[48, 8]
    assert hit[2] > hit[0] and never.tolist() == [255] * 3 and mistake[0] > mistake[2]
    for count in (100, 1000):
        assert max(tensorboard.confusion(np.eye(count, dtype=int)).shape) <= max(800, count)


def test_mistakes_are_the_pictures_of_the_records(tmp_path):
    opened = fakes.built(tmp_path, {"a": 10, "b": 10})
    labels = opened.index("train").label
    right = np.eye(2)[labels] * 0.8 + 0.1
    assert set(tensorboard.pictures(opened, "train", labels, right)) == {"confusion"}
    wrong = right.copy()
    wrong[3], wrong[5] = right[3][::-1], np.array([0.05, 0.95])[:: 1 if labels[5] == 0 else -1]
    found = tensorboard.pictures(opened, "train", labels, wrong)["mistakes"]
    np.testing.assert_array_equal(found[4:20, 4:20], opened.pixels("train", 5))  # the surest
    np.testing.assert_array_equal(found[4:20, 24:40], opened.pixels("train", 3))


def test_events_hold_scalars_and_pictures(tmp_path):
    pixels = fakes.pixels(1, 20)
    epoch = logs.Epoch({"epoch": 2, "val_loss": 0.5}, {"images_per_second": 9.0}, best=True)
    tensorboard.write(epoch, str(tmp_path), lambda: {"mistakes": pixels})
    (file,) = tmp_path.iterdir()
    events = list(tf.compat.v1.train.summary_iterator(str(file)))
    values = {value.tag: value for event in events for value in event.summary.value}
    assert set(values) == {"validation/loss", "training/images_per_second", "validation/mistakes"}
    assert tf.make_ndarray(values["validation/loss"].tensor) == 0.5
    width, height, png = tf.make_ndarray(values["validation/mistakes"].tensor).tolist()
    assert (width, height) == (b"20", b"20")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)
    kind = values["validation/mistakes"].metadata.plugin_data.plugin_name
    assert kind == "images" and {event.step for event in events[1:]} == {2}
