"""The layers of each variant."""

import pytest

from models.networks import lenet

STAGE = ["Conv2D", "MaxPooling2D"]
HEAD = ["Flatten", "Dense", "Dropout", "Dense"]


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, [*STAGE * 3, *HEAD]),
        ({"pooling": "average"}, [*["Conv2D", "AveragePooling2D"] * 3, *HEAD]),
        ({"pooling": "min"}, [*["Conv2D", "MinPooling2D"] * 3, *HEAD]),
        (
            {"batch_norm": True},
            [*["Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D"] * 3, *HEAD],
        ),
    ],
)
def test_layers(options, kinds):
    model = lenet.build(2, (64, 64, 3), **options)
    assert [type(layer).__name__ for layer in model.layers] == kinds
