"""What describes a training: equality is that of trainings, and nonsense is refused."""

import dataclasses
import re

import pytest

from datapipe.plan.options import SamplingOptions
from datapipe.rows.options import RowsOptions
from models.config import TrainConfig
from models.networks.options import NetworkOptions
from models.training.options import TrainOptions

REFUSED = [
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"folds": -1}, "folds must be at least 0, got -1"),
    ({"folds": 3, "fold": 3}, "fold must be below folds=3, got 3"),
    ({"fold": 0}, "fold must be below folds=0, got 0"),
    ({"train_split": "a", "validation_split": "a"}, "must differ, got 'a' for both"),
    ({"folds": 3, "rows": RowsOptions("stream")}, "folds need the rows in memory"),
    (
        {"rows": RowsOptions("stream"), "sampling": SamplingOptions(strata="group")},
        "residency=stream offers class targets only",
    ),
    ({"training": TrainOptions(unfreeze_epoch=2)}, "only applies to a base frozen by init_from"),
    (
        {
            "network": NetworkOptions("vgg16", init_from="imagenet"),
            "training": TrainOptions(epochs=3, unfreeze_epoch=3),
        },
        "unfreeze_epoch=3 is not reached in 3 epochs",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_a_config_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainConfig(**fields)


def test_configs_are_equal_if_all_their_parts_are():
    config = TrainConfig(training=TrainOptions(epochs=3))
    assert config == TrainConfig(training=TrainOptions(epochs=3))
    assert dataclasses.replace(config, seed=1) != config
    assert dataclasses.replace(config, network=NetworkOptions("lenet")) != config


def test_one_seed_is_that_of_all_parts():
    made = TrainConfig(seed=7).train_options(jit_compile=True)
    assert (made.seed, made.jit_compile) == (7, True)
