"""The structure of the bottleneck network."""

import pytest

from models.networks import resnet
from records.common.backend import keras

BLOCKS = [f"stage{stage}_block{number}_" for stage in (1, 2, 3, 4) for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def model():
    return resnet.build(2, (64, 64, 3))


def kinds(model, name):
    return [type(layer).__name__ for layer in model.layers if layer.name.startswith(name)]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_normalizes_and_does_not_drop(model, name):
    shortcut = name.endswith("block1_")  # of another width
    assert kinds(model, name).count("Conv2D") == 3 + shortcut
    assert kinds(model, name).count("BatchNormalization") == 3 + shortcut
    assert "Dropout" not in kinds(model, name)


def test_nothing_but_the_head_drops(model):
    dropping = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropping == ["head_dropout"]


def test_sizes_of_the_stages(model):
    shapes = [model.get_layer(f"stage{stage}_block3_out").output_shape for stage in (1, 2, 3, 4)]
    sizes = [(32, 256), (16, 512), (8, 1024), (4, 2048)]
    assert shapes == [(None, size, size, channels) for size, channels in sizes]
