"""The options of a training: each refuses what cannot be, with the rule and the value."""

import math

import pytest

from models.training.options import (
    HardwareOptions,
    LossOptions,
    OptimizerOptions,
    ScheduleOptions,
    TrainOptions,
)

NAN = math.nan
REFUSED = [
    (LossOptions, {"name": "hinge"}, "loss must be one of .*soft_f1.*, got 'hinge'"),
    (LossOptions, {"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), got 1.0"),
    (LossOptions, {"label_smoothing": NAN}, "got nan"),
    (LossOptions, {"name": "soft_f1", "label_smoothing": 0.1}, "with loss soft_f1, got 0.1"),
    (LossOptions, {"focal_gamma": -1.0}, "focal_gamma must be at least 0 and finite, got -1.0"),
    (LossOptions, {"focal_gamma": math.inf}, "focal_gamma must .* finite, got inf"),
    (OptimizerOptions, {"name": "rmsprop"}, "optimizer must be one of .*, got 'rmsprop'"),
    (OptimizerOptions, {"learning_rate": 0.0}, "learning_rate must be above 0 .*, got 0.0"),
    (OptimizerOptions, {"learning_rate": NAN}, "learning_rate must be above 0 .*, got nan"),
    (OptimizerOptions, {"weight_decay": -0.1}, "weight_decay must be at least 0 .*, got -0.1"),
    (OptimizerOptions, {"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
    (OptimizerOptions, {"moving_average": 1.0}, r"moving_average must lie in \[0, 1\), got 1.0"),
    (ScheduleOptions, {"name": "linear"}, "schedule must be one of .*, got 'linear'"),
    (ScheduleOptions, {"warmup": 1.0}, r"warmup must lie in \[0, 1\), got 1.0"),
    (ScheduleOptions, {"name": "step", "warmup": 0.1}, "0 with schedule step, got 0.1"),
    (ScheduleOptions, {"step_epochs": 0}, "step_epochs must be at least 1, got 0"),
    (ScheduleOptions, {"step_factor": 0.0}, r"step_factor must lie in \(0, 1\], got 0.0"),
    (ScheduleOptions, {"plateau_patience": 0}, "plateau_patience must be at least 1, got 0"),
    (ScheduleOptions, {"plateau_factor": 1.5}, r"plateau_factor must lie in \(0, 1\], got 1.5"),
    (TrainOptions, {"epochs": 0}, "epochs must be at least 1, got 0"),
    (TrainOptions, {"monitor": "val_f1"}, "monitor must be one of"),
    (TrainOptions, {"stop_patience": -1}, "stop_patience must be at least 0, got -1"),
    (TrainOptions, {"unfreeze_factor": 0}, "unfreeze_factor must be above 0 .*, got 0"),
    (TrainOptions, {"max_skipped": -1}, "max_skipped must be at least 0"),
    (TrainOptions, {"checkpoint_seconds": NAN}, "checkpoint_seconds must be at least 0, got nan"),
    (HardwareOptions, {"precision": "float16"}, "precision must be one of float32, .*'float16'"),
    (HardwareOptions, {"strategy": "tpu"}, "strategy must be one of auto, .*, got 'tpu'"),
    (HardwareOptions, {"jit_compile": "yes"}, "jit_compile must be one of auto, .*, got 'yes'"),
    (HardwareOptions, {"cpu_devices": 0}, "cpu_devices must be at least 1, got 0"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED)
def test_options_that_cannot_be_are_refused(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)


def test_the_identity_of_a_training_leaves_out_what_does_not_change_its_result():
    one = TrainOptions(steps_per_execution=7, checkpoint_seconds=0, max_skipped=3).identity()
    assert one == TrainOptions().identity()
    assert one["optimizer.name"] == "adamw" and one["loss.label_smoothing"] == 0.05
    assert one != TrainOptions(seed=1).identity()
