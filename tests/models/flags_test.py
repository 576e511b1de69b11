"""The flags of a training: the config that a command line says, and what is refused."""

import dataclasses
import re

import pytest
from absl import flags

from datapipe.augment.presets import PRESETS
from datapipe.plan.options import SamplingOptions
from datapipe.rows.options import RowsOptions
from models import flags as train_flags
from models.config import TrainConfig
from models.networks.options import NetworkOptions
from models.training.options import (
    HardwareOptions,
    LossOptions,
    OptimizerOptions,
    ScheduleOptions,
    TrainOptions,
)
from records.common import cli, targets


def config(*line):
    values = flags.FlagValues()
    training = train_flags.Training(values)
    cli.parse(["train_main", *line], values)
    return training.read()


def training(**fields):
    return TrainConfig(training=TrainOptions(**fields))


MADE = {
    "": TrainConfig(),
    "--epochs=3 --monitor=val_loss --stop_patience=2": training(
        epochs=3, monitor="val_loss", stop_patience=2
    ),
    "--loss=focal --focal_gamma=1": training(loss=LossOptions("focal", 0.05, 1.0)),
    "--loss=soft_f1": training(loss=LossOptions("soft_f1", 0.0)),
    "--label_smoothing=0.2": training(loss=LossOptions(label_smoothing=0.2)),
    "--optimizer=sgd --momentum=0.5 --learning_rate=1": training(
        optimizer=OptimizerOptions("sgd", learning_rate=1.0, momentum=0.5)
    ),
    "--schedule=step --step_epochs=4": training(schedule=ScheduleOptions("step", step_epochs=4)),
    "--warmup=0.2": training(schedule=ScheduleOptions(warmup=0.2)),
    "--model=lenet --pooling=min --dropout=0.1": TrainConfig(
        network=NetworkOptions("lenet", dropout=0.1, pooling="min")
    ),
    "--model=vgg16 --init_from=imagenet --nofreeze": TrainConfig(
        network=NetworkOptions("vgg16", init_from="imagenet", freeze=False)
    ),
    "--strategy=mirrored --precision=mixed_bfloat16 --workers=a:1,b:1 --worker=1": TrainConfig(
        hardware=HardwareOptions(
            "mirrored", precision="mixed_bfloat16", workers=("a:1", "b:1"), worker=1
        )
    ),
    "--folds=3 --fold=0 --seed=5 --batch_size=8": TrainConfig(
        folds=3, fold=0, seed=5, batch_size=8
    ),
    "--target=balanced --augment=photo --residency=device": TrainConfig(
        sampling=SamplingOptions(targets.Target("balanced")),
        augment=PRESETS["photo"],
        rows=RowsOptions("device"),
    ),
}


@pytest.mark.parametrize("line", MADE)
def test_a_command_line_says_a_config(line):
    assert config(*line.split()) == MADE[line]


REFUSED = {
    "--focal_gamma=1": "--focal_gamma only applies to --loss=focal, got --loss=cross_entropy",
    "--momentum=0.5": "--momentum only applies to --optimizer=sgd or sgdw, got --optimizer=adamw",
    "--optimizer=adam --weight_decay=1": "--weight_decay only applies to --optimizer=adamw or",
    "--schedule=step --warmup=0.1": "--warmup only applies to --schedule=cosine, got --schedule=s",
    "--step_factor=0.1": "--step_factor only applies to --schedule=step, got --schedule=cosine",
    "--plateau_patience=3": "--plateau_patience only applies to --schedule=plateau, got",
    "--pooling=min": "--pooling has no effect on convnet, which takes dropout",
    "--freeze": "--freeze only applies to --init_from, which is not given",
    "--unfreeze_epoch=2": "--unfreeze_epoch only applies to a base that is frozen by --init_from",
    "--model=vgg16 --init_from=x --unfreeze_factor=1": "--unfreeze_factor only applies to --unfr",
    "--fold=1": "--fold only applies to --folds, which is not given",
    "--folds=3 --train_split=a": "--train_split only applies to the splits of the record set",
    "--worker=1": "--worker only applies to --workers",
    "--epochs=0": "--epochs must be at least 1, got 0",
    "--batch_size=0": "--batch_size must be at least 1, got 0",
    "--loss=soft_f1 --label_smoothing=0.1": "--label_smoothing must be 0 with loss soft_f1, got",
    "--jit_compile=yes": "--jit_compile must be one of auto, true, false, got 'yes'",
    "--lr=0.1": "unknown flag --lr; did you mean --learning_rate?",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refuses(line, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(cli.UsageError, match=re.escape(REFUSED[line])):
        config(*line.split())


def test_every_flag_is_in_one_group():
    values = flags.FlagValues()
    names = train_flags.Training(values).names()
    assert sorted(names) == sorted(set(values))


def test_every_part_of_a_config_has_its_flags():
    names = train_flags.Training(flags.FlagValues()).names()
    skipped = {"seed", "jit_compile", "loss", "optimizer", "schedule"}  # of TrainOptions
    for part in (RowsOptions, HardwareOptions, OptimizerOptions, TrainOptions, NetworkOptions):
        fields = {field.name for field in dataclasses.fields(part)} - skipped - {"name"}
        assert fields <= set(names), part
