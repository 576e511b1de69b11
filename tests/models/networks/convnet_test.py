"""The structure of the default network."""

import pytest

from models.networks import convnet
from records.common.backend import keras


@pytest.mark.parametrize(("size", "last"), [(64, 4), (16, 1), (100, 6)])
def test_it_pools_before_it_widens(size, last):
    model = convnet.build(3, (size, size, 3))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("MaxPooling2D") == 3
    for stage, channels in enumerate((32, 64, 128), start=1):
        widen = model.get_layer(f"stage{stage}_widen")
        assert isinstance(widen.inbound_nodes[0].inbound_layers, keras.layers.MaxPooling2D)
        assert widen.output_shape[-1] == channels
    assert model.get_layer("head_pool").input_shape == (None, last, last, 128)


def test_it_is_dense_and_normalized_and_drops_in_the_head_only():
    model = convnet.build(3, (64, 64, 3), dropout=0.2)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") == kinds.count("BatchNormalization") == 10
    drops = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [(layer.name, layer.rate) for layer in drops] == [("head_dropout", 0.2)]
