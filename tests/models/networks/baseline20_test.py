"""The table of the study."""

from models.networks import baseline20


def test_it_is_the_network_of_the_study():
    model = baseline20.build(20, (32, 32, 3))
    kinds = [type(layer).__name__ for layer in model.layers]
    stages = ["Conv2D", "MaxPooling2D", "Dropout", "Conv2D", "Conv2D", "MaxPooling2D", "Dropout"]
    assert kinds == [*stages, "Flatten", "Dense", "Dropout", "Dense"]
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.25, 0.25, 0.5]
    activations = [layer.activation.__name__ for layer in model.layers if "conv" in layer.name]
    assert activations == ["relu", "relu", "linear"]
