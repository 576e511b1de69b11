"""The table of the paper."""

import pytest

from models.networks import googlenet
from records.common.backend import keras

# Table 1: size and channels after each module, for images of 224 pixels.
TABLE = [
    *((28, 256), (28, 480), (14, 512), (14, 512), (14, 512), (14, 528)),
    *((14, 832), (7, 832), (7, 1024)),
]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_is_table_1_of_the_paper(batch_norm):
    model = googlenet.build(10, (224, 224, 3), batch_norm=batch_norm)
    joins = [layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
    assert [layer.output_shape[2:] for layer in joins] == TABLE
    normalized = [isinstance(each, keras.layers.BatchNormalization) for each in model.layers]
    assert sum(normalized) == (57 if batch_norm else 0)
    assert model.get_layer("head_dropout").rate == 0.4
