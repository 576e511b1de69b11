"""The options of networks: the same as those of the functions that build them."""

import pytest

from models.networks import blocks, zoo
from models.networks.options import HEADS, NETWORKS, NetworkOptions


def test_networks_and_their_options_are_those_of_the_zoo():
    assert {name: set(zoo.options_of(name)) for name in zoo.MODELS} == {
        name: set(options) for name, options in NETWORKS.items()
    }


def test_heads_are_those_of_the_blocks():
    assert HEADS == blocks.HEADS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "alexnet"}, "model must be one of convnet, .*, got 'alexnet'"),
        ({"pooling": "min"}, "pooling has no effect on convnet, which takes dropout"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_options_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NetworkOptions(**fields)


def test_what_two_trainings_must_agree_on_to_begin_alike():
    made = NetworkOptions("lenet", dropout=0.1, init_from="run", freeze=True)
    assert made.identity() == {
        "model": "lenet",
        "model_options": "{'dropout': 0.1}",
        "init_from": "run",
        "freeze": "True",
    }
    assert NetworkOptions().identity()["freeze"] == "False"
