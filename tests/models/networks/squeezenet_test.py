"""The structure of SqueezeNet 1.1."""

from models.networks import squeezenet
from records.common.backend import keras


def test_it_is_version_1_1():
    model = squeezenet.build(10, (224, 224, 3))
    convolutions = [each for each in model.layers if isinstance(each, keras.layers.Conv2D)]
    assert len(convolutions) == 25
    joined = {f"fire{n}": model.get_layer(f"fire{n}/concat").output_shape[1:] for n in (2, 4, 6, 9)}
    assert joined == {
        "fire2": (55, 55, 128),
        "fire4": (27, 27, 256),
        "fire6": (13, 13, 384),
        "fire9": (13, 13, 512),
    }
